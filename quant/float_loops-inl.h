// Loops over floats that a compiler turns into vectors by itself. Each kernel's source includes
// them, so each has its own copy, compiled for its instruction set.
//
// They call no inline function that computes: the linker keeps one copy of such a function, which
// might be the one that this CPU can't run.
#pragma once

#include "quant/kernels.h"

namespace ballast::quant {
namespace {

float abs_max(const float* values, size_t count) {
  // For positive floats the order of the bits is the order of the numbers.
  constexpr uint32_t kInfinityBits = 0x7f800000;
  uint32_t largest = 0;
  for (size_t i = 0; i < count; ++i) {
    uint32_t bits = __builtin_bit_cast(uint32_t, values[i]) & 0x7fffffff;
    bits = bits < kInfinityBits ? bits : 0;
    largest = bits > largest ? bits : largest;
  }
  return __builtin_bit_cast(float, largest);
}

void multiply(float* values, size_t count, float factor) {
  for (size_t i = 0; i < count; ++i) values[i] *= factor;
}

void bf16_to_f32(const uint16_t* from, float* to, size_t count) {
  for (size_t i = 0; i < count; ++i) to[i] = __builtin_bit_cast(float, uint32_t{from[i]} << 16);
}

void f32_to_bf16(const float* from, uint16_t* to, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const auto bits = __builtin_bit_cast(uint32_t, from[i]);
    // Half of the last kept bit, less one if that bit is even: ties go to even.
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const uint32_t quiet = (bits >> 16) | 0x40;
    to[i] = static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
  }
}

void measure(const float* x, const float* y, size_t count, PairSums& sums) {
  double signal[PairSums::kLanes];
  double decoded[PairSums::kLanes];
  double noise[PairSums::kLanes];
  double max_error[PairSums::kLanes];
  for (size_t lane = 0; lane < PairSums::kLanes; ++lane) {
    signal[lane] = sums.signal[lane];
    decoded[lane] = sums.decoded[lane];
    noise[lane] = sums.noise[lane];
    max_error[lane] = sums.max_error[lane];
  }
  const auto add = [&](size_t i, size_t lane) {
    const bool counts = (__builtin_bit_cast(uint32_t, x[i]) & 0x7fffffff) < 0x7f800000;
    const double a = counts ? x[i] : 0;
    const double b = counts ? y[i] : 0;
    const double error = a > b ? a - b : b - a;
    signal[lane] += a * a;
    decoded[lane] += b * b;
    noise[lane] += error * error;
    max_error[lane] = error > max_error[lane] ? error : max_error[lane];
  };
  size_t i = 0;
  for (; i + PairSums::kLanes <= count; i += PairSums::kLanes) {
    for (size_t lane = 0; lane < PairSums::kLanes; ++lane) add(i + lane, lane);
  }
  for (size_t lane = 0; i < count; ++i, ++lane) add(i, lane);
  for (size_t lane = 0; lane < PairSums::kLanes; ++lane) {
    sums.signal[lane] = signal[lane];
    sums.decoded[lane] = decoded[lane];
    sums.noise[lane] = noise[lane];
    sums.max_error[lane] = max_error[lane];
  }
}

void stream(const std::byte* from, std::byte* to, size_t bytes) {
  // The compiler splits it into the vectors that the instruction set has.
  typedef uint64_t Line __attribute__((vector_size(64), may_alias));
  typedef uint64_t AnyLine __attribute__((vector_size(64), may_alias, aligned(1)));
  size_t i = 0;
  if (reinterpret_cast<uintptr_t>(to) % sizeof(Line) == 0) {
    for (; i + sizeof(Line) <= bytes; i += sizeof(Line)) {
      const Line line = *reinterpret_cast<const AnyLine*>(from + i);
#if __has_builtin(__builtin_nontemporal_store)
      __builtin_nontemporal_store(line, reinterpret_cast<Line*>(to + i));
#else  // g++
      *reinterpret_cast<Line*>(to + i) = line;
#endif
    }
  }
  __builtin_memcpy(to + i, from + i, bytes - i);
}

}  // namespace
}  // namespace ballast::quant
