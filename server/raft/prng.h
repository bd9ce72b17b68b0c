// Chance for the election timeouts, from a seed: the same seed gives the same run everywhere.
//
// SplitMix64 (Steele, Lea, Flood 2014): one word of state, and a bad seed (0, 1, 2) is as good as
// any other.
#pragma once

#include <cstdint>

namespace ballast::raft {

class Prng {
 public:
  explicit Prng(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    state_ += 0x9e3779b97f4a7c15;
    uint64_t word = state_;
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9;
    word = (word ^ (word >> 27)) * 0x94d049bb133111eb;
    return word ^ (word >> 31);
  }

  // Uniform in [0, bound), but for a bias below bound / 2^64. REQUIRES: bound > 0.
  uint64_t below(uint64_t bound) { return next() % bound; }

 private:
  uint64_t state_;
};

}  // namespace ballast::raft
