// int8's encoder, plain loops that a compiler turns into vectors; included like float_loops-inl.h
// and under the same rule.
#pragma once

#include "quant/kernels.h"
#include "quant/log_scale.h"

namespace ballast::quant {
namespace {

// The largest step whose scale still holds the magnitude `largest` as code 127.
inline uint32_t int8_step(float largest) {
  const float wanted = 127.5f / largest;
  const auto bits = __builtin_bit_cast(uint32_t, wanted);
  const float fraction = __builtin_bit_cast(float, (bits & 0x7fffff) | 0x3f800000);
  int step = kStepsPerOctave * (static_cast<int>(bits >> 23) - 127);
  for (size_t i = 1; i < kOctave.size(); ++i) {
    step += fraction >= 2 * kOctave[kOctave.size() - i] ? 1 : 0;
  }
  step = step < 0 ? 0 : step;
  return static_cast<uint32_t>(step > kWideScaleStepMax ? kWideScaleStepMax : step);
}

// Replaces special values as the format says and returns the largest magnitude. Bits of magnitudes
// are in the order of the numbers.
inline float int8_prepare(float inverse_base, const float* values, float* taken) {
  constexpr uint32_t kInfinity = 0x7f800000;
  constexpr auto kSmallest = __builtin_bit_cast(uint32_t, kNegligible);
  uint32_t bits[kInt8GroupValues];
  uint32_t largest = 0;
  for (size_t i = 0; i < kInt8GroupValues; ++i) {
    bits[i] = __builtin_bit_cast(uint32_t, values[i] * inverse_base);
    uint32_t magnitude = bits[i] & 0x7fffffff;
    magnitude = magnitude < kInfinity ? magnitude : 0;
    largest = magnitude > largest ? magnitude : largest;
  }
  largest = largest < kSmallest ? 0 : largest;
  for (size_t i = 0; i < kInt8GroupValues; ++i) {
    const uint32_t sign = bits[i] & 0x80000000;
    const uint32_t magnitude = bits[i] & 0x7fffffff;
    const uint32_t held = magnitude < largest ? magnitude : largest;
    const bool counts = magnitude >= kSmallest && magnitude <= kInfinity && held != 0;
    taken[i] = __builtin_bit_cast(float, counts ? sign | held : 0);
  }
  return __builtin_bit_cast(float, largest);
}

void int8_encode(float inverse_base, const float* values, size_t groups, uint8_t* scales,
                 int8_t* codes, float* taken, float* decoded) {
  // Adding it leaves no bits for a fraction, so the addition rounds to an integer, ties to even,
  // which then lies in the lowest bits.
  constexpr float kRounder = 0x1.8p23f;
  for (size_t group = 0; group < groups; ++group) {
    const float largest = int8_prepare(inverse_base, values, taken);
    const uint32_t step = largest == 0 ? kWideZeroScale : int8_step(largest);
    const float inverse = kWideScaleSteps.inverse[step];
    const float ratio = kWideScaleSteps.ratio[step];
    scales[group] = static_cast<uint8_t>(step);
    for (size_t i = 0; i < kInt8GroupValues; ++i) {
      float t = taken[i] * inverse;
      t = t > 127 ? 127 : t;
      t = t < -127 ? -127 : t;
      const float rounded = t + kRounder;
      codes[i] = static_cast<int8_t>(__builtin_bit_cast(uint32_t, rounded) & 0xff);
      decoded[i] = (rounded - kRounder) * ratio;
    }
    values += kInt8GroupValues;
    codes += kInt8GroupValues;
    taken += kInt8GroupValues;
    decoded += kInt8GroupValues;
  }
}

}  // namespace
}  // namespace ballast::quant
