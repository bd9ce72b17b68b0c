#include "server/raft/quorum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "server/raft/prng.h"

namespace ballast::raft {
namespace {

TEST(Quorum, majority_reached_of_few) {
  const std::vector<std::pair<std::vector<uint64_t>, uint64_t>> table = {
      {{7}, 7},          {{7, 0}, 0},          {{7, 5}, 5},       {{9, 5, 2}, 5},
      {{9, 9, 2}, 9},    {{0, 0, 9}, 0},       {{4, 3, 2, 1}, 2}, {{5, 4, 3, 2, 1}, 3},
      {{1, 5, 5, 1}, 1}, {{5, 5, 5, 1, 1}, 5},
  };
  for (auto [reached, expected] : table) EXPECT_EQ(majority_reached(reached), expected);
}

// The definition, taken literally: the largest value that enough voters have reached.
uint64_t naive(const std::vector<uint64_t>& reached) {
  uint64_t best = 0;
  for (uint64_t candidate : reached) {
    const auto holding = static_cast<size_t>(
        std::ranges::count_if(reached, [&](uint64_t one) { return one >= candidate; }));
    if (holding * 2 > reached.size()) best = std::max(best, candidate);
  }
  return best;
}

TEST(Quorum, majority_reached_agrees_with_the_definition) {
  Prng chance(1);
  for (int round = 0; round < 2000; ++round) {
    std::vector<uint64_t> reached(1 + chance.below(9));
    for (uint64_t& value : reached) value = chance.below(6);
    const uint64_t expected = naive(reached);
    EXPECT_EQ(majority_reached(reached), expected);
  }
}

}  // namespace
}  // namespace ballast::raft
