// The scales of groups: powers of 2^(-1/16), as tables of literals.
//
// libm's exp2 and log2 differ between machines in the last bit, and a last bit here changes codes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace ballast::quant {

inline constexpr int kStepsPerOctave = 16;
inline constexpr int kScaleStepMax = 126;
inline constexpr uint8_t kZeroScale = 127;
inline constexpr uint8_t kScaleSignBit = 128;

// The limits of a scale base. Every scale down to 126 steps below the base is a normal number, and
// the largest value that a block can hold is finite.
inline constexpr float kScaleBaseMin = 0x1p-118f;
inline constexpr float kScaleBaseMax = 0x1.fffffep+120f;

// 2^(-i/16)
inline constexpr std::array<float, 16> kOctave{
    0x1p0f,         0x1.ea4afap-1f, 0x1.d5818ep-1f, 0x1.c199bep-1f, 0x1.ae89fap-1f, 0x1.9c4918p-1f,
    0x1.8ace54p-1f, 0x1.7a1148p-1f, 0x1.6a09e6p-1f, 0x1.5ab07ep-1f, 0x1.4bfdaep-1f, 0x1.3dea64p-1f,
    0x1.306fep-1f,  0x1.2387a6p-1f, 0x1.172b84p-1f, 0x1.0b5586p-1f};

// 2^((2i+1)/32): where the nearest power of 2^(1/16) changes.
inline constexpr std::array<float, 16> kOctaveMidpoints{
    0x1.059b0ep0f, 0x1.11301ep0f, 0x1.1d4874p0f, 0x1.29e9ep0f,  0x1.371a74p0f, 0x1.44e086p0f,
    0x1.5342b6p0f, 0x1.6247ecp0f, 0x1.71f75ep0f, 0x1.82589ap0f, 0x1.93737cp0f, 0x1.a5503cp0f,
    0x1.b7f77p0f,  0x1.cb720ep0f, 0x1.dfc974p0f, 0x1.f50766p0f};

// The steps 0 to kCount - 2; the last entry stands for a group of zeros. A whole number of bits may
// index them.
template <size_t kCount>
struct ScaleSteps {
  std::array<float, kCount> ratio{};    // 2^(-k/16); 0 in the last entry
  std::array<float, kCount> inverse{};  // 2^(k/16); 0 in the last entry
};

template <size_t kCount>
consteval ScaleSteps<kCount> make_scale_steps() {
  ScaleSteps<kCount> steps;
  for (size_t k = 0; k + 1 < kCount; ++k) {
    const size_t octave = k / kStepsPerOctave;
    const size_t part = k % kStepsPerOctave;
    const auto power = static_cast<float>(1U << octave);
    steps.ratio[k] = kOctave[part] / power;
    // 2^(i/16) = 2 x 2^(-(16-i)/16)
    steps.inverse[k] = part == 0 ? power : 2 * power * kOctave[kStepsPerOctave - part];
  }
  return steps;
}
inline constexpr auto kScaleSteps = make_scale_steps<kZeroScale + 1>();

// Where no sign is needed, all 8 bits count steps (int8, ec4).
inline constexpr int kWideScaleStepMax = 254;
inline constexpr uint8_t kWideZeroScale = 255;
inline constexpr float kWideScaleBaseMin = 0x1p-110f;  // as above, for 254 steps
inline constexpr auto kWideScaleSteps = make_scale_steps<kWideZeroScale + 1>();

}  // namespace ballast::quant
