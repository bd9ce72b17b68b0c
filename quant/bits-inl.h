// Counting bits, for kernels whose CPUs have an instruction for it; each has its own copy, as with
// float_loops-inl.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ballast::quant {
namespace {

uint64_t load_word(const uint8_t* bytes) {
  uint64_t word;
  __builtin_memcpy(&word, bytes, sizeof word);
  return word;
}

size_t ones_in(uint64_t word) { return static_cast<size_t>(__builtin_popcountll(word)); }

uint64_t count_ones(const uint8_t* bytes, size_t count) {
  uint64_t ones = 0;
  size_t i = 0;
  for (; i + 8 <= count; i += 8) ones += ones_in(load_word(bytes + i));
  for (; i < count; ++i) ones += ones_in(bytes[i]);
  return ones;
}

}  // namespace
}  // namespace ballast::quant
