// Times on a noisy machine: everything that is compared takes turns, and only what was measured in
// the same turn is set against each other.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "proto/base/bytes.h"
#include "proto/base/result.h"

namespace ballast::micro {

// Keeps this thread on one core; -1: the last one that it may use. Gives the core. Errors: kIo.
Result<int> pin_to_core(int core);

struct Contender {
  std::string name;
  double bytes = 0;  // of one call, for GB/s
  std::function<void()> work;
};

// GB/s of each contender in each round.
class RaceResult {
 public:
  explicit RaceResult(std::vector<std::vector<double>> rates) : rates_(std::move(rates)) {}

  double rate(size_t contender) const;  // the median
  // The median of the ratios of the rounds: what slows a whole round cancels out.
  double ratio(size_t contender, size_t to) const;

 private:
  std::vector<std::vector<double>> rates_;  // by contender, then round
};

// Every contender once, unmeasured, to warm up; then `rounds` rounds in which each has its turn.
// Calls that are too short to time are repeated within a turn.
RaceResult race(std::span<const Contender> contenders, size_t rounds);

// What memory itself can do with the buffers that the decoders write to.
// REQUIRES: from.size() == to.size(), a multiple of 64 bytes at 64-byte boundaries.
std::vector<Contender> memory_contenders(std::span<const std::byte> from, std::span<std::byte> to);
inline constexpr size_t kMemcpy = 0;  // places in memory_contenders()
inline constexpr size_t kMemset = 1;
inline constexpr size_t kStreamFill = 2;  // stores that bypass the caches, where the CPU has them

}  // namespace ballast::micro
