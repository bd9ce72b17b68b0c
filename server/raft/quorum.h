// The arithmetic of majorities (thesis section 3.2).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace ballast::raft {

// How many of `voters` make a majority.
constexpr size_t majority(size_t voters) { return voters / 2 + 1; }

// The largest value that a majority of the voters has reached, given what each of them has
// reached. Reorders `reached`. REQUIRES: one value per voter, at least one.
uint64_t majority_reached(std::span<uint64_t> reached);

}  // namespace ballast::raft
