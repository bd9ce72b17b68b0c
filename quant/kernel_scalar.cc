// The reference kernel: what all others must reproduce bit for bit.
#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "quant/float_loops-inl.h"
#include "quant/int8_loops-inl.h"
#include "quant/kernels.h"
#include "quant/log_scale.h"
#include "quant/lossless_loops-inl.h"
#include "quant/rans_loops-inl.h"

namespace ballast::quant {
namespace {

uint64_t count_ones(const uint8_t* bytes, size_t count) {
  uint64_t ones = 0;
  for (size_t i = 0; i < count; ++i) ones += static_cast<uint64_t>(std::popcount(bytes[i]));
  return ones;
}

}  // namespace
}  // namespace ballast::quant

#include "quant/sparse_units-inl.h"

namespace ballast::quant {
namespace {

void f16_to_f32(const uint16_t* from, float* to, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const uint32_t sign = (from[i] & 0x8000U) << 16;
    const uint32_t exponent = (from[i] >> 10) & 31U;
    const uint32_t fraction = from[i] & 0x3ffU;
    if (exponent == 0) {
      const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
      to[i] = sign != 0 ? -magnitude : magnitude;
    } else if (exponent == 31) {
      const uint32_t quiet = fraction != 0 ? 0x400000U : 0;
      to[i] = std::bit_cast<float>(sign | 0x7f800000U | quiet | fraction << 13);
    } else {
      to[i] = std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
    }
  }
}

uint16_t f16_from_f32(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) {
    return static_cast<uint16_t>(sign | 0x7e00 | ((magnitude >> 13) & 0x3ff));
  }
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);  // 65520 and more
  if (magnitude < 0x38800000) {  // below 2^-14: a multiple of 2^-24, which the addition rounds to
    const float shifted = std::bit_cast<float>(magnitude) + 0x1p-1f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000));
  }
  const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return static_cast<uint16_t>(sign | ((rounded - (112U << 23)) >> 13));
}

void f32_to_f16(const float* from, uint16_t* to, size_t count) {
  for (size_t i = 0; i < count; ++i) to[i] = f16_from_f32(from[i]);
}

// Calls write(i, value) for each value of the units.
template <class Write>
void decode(const DecodeTable& table, PackedUnits packed, Write write) {
  const size_t groups = kUnitValues / packed.group;
  for (size_t unit = 0; unit < packed.units; ++unit) {
    for (size_t i = 0; i < kUnitValues; ++i) {
      const uint8_t pair = packed.codes[unit * kUnitCodeBytes + i % kUnitCodeBytes];
      const size_t code = i < kUnitCodeBytes ? pair & 15 : pair >> 4;
      const uint8_t scale = packed.scales[unit * groups + i / packed.group];
      const float value = table.value[scale / kScaleSignBit][code];
      write(unit * kUnitValues + i, table.magnitude[scale] * value);
    }
  }
}

void int4_to_f32(const DecodeTable& table, PackedUnits packed, void* out, bool /*streaming*/) {
  auto* to = static_cast<float*>(out);
  decode(table, packed, [to](size_t i, float value) { to[i] = value; });
}

void int4_to_f16(const DecodeTable& table, PackedUnits packed, void* out, bool /*streaming*/) {
  auto* to = static_cast<uint16_t*>(out);
  decode(table, packed, [to](size_t i, float value) { to[i] = f16_from_f32(value); });
}

void int4_to_bf16(const DecodeTable& table, PackedUnits packed, void* out, bool /*streaming*/) {
  auto* to = static_cast<uint16_t*>(out);
  decode(table, packed, [to](size_t i, float value) { f32_to_bf16(&value, to + i, 1); });
}

// The step of the scale that maps `magnitude` to the codebook's end, 127.
int nearest_step(float magnitude) {
  const auto bits = std::bit_cast<uint32_t>(magnitude * (1.0f / 127));
  const int exponent = static_cast<int>(bits >> 23) - 127;
  const float fraction = std::bit_cast<float>((bits & 0x7fffff) | 0x3f800000);
  int steps = kStepsPerOctave * exponent;
  for (const float midpoint : kOctaveMidpoints) steps += fraction >= midpoint ? 1 : 0;
  return std::clamp(-steps, 0, kScaleStepMax);
}

// The code of the codebook entry that is nearest to t.
uint8_t nearest_code(const EncodeTable& table, float t) {
  uint8_t code = 0;
  for (const float midpoint : table.midpoint) code += t >= midpoint ? 1 : 0;
  return code;
}

struct Choice {
  int step = 0;
  bool negative = false;
  float error = INFINITY;
};

// Takes (step, negative) for `best` if it gives the smaller error.
void consider(const EncodeTable& table, const float* group, int step, bool negative, Choice& best) {
  step = std::clamp(step, 0, kScaleStepMax);
  const auto k = static_cast<size_t>(step);
  const float inverse = negative ? -kScaleSteps.inverse[k] : kScaleSteps.inverse[k];
  float error = 0;
  for (size_t i = 0; i < table.group; ++i) {
    const float t = group[i] * inverse;
    const float distance = t - table.value[nearest_code(table, t)];
    error += distance * distance;
  }
  error *= kScaleSteps.ratio[k] * kScaleSteps.ratio[k];
  if (error < best.error) best = {step, negative, error};
}

// Brings a group into units of the base, with special values replaced as the format says. Returns
// its largest magnitude.
float prepare_group(const EncodeTable& table, const float* values, float* group) {
  float largest = 0;
  for (size_t i = 0; i < table.group; ++i) {
    group[i] = values[i] * table.inverse_base;
    const float magnitude = std::fabs(group[i]);
    if (magnitude <= FLT_MAX) largest = std::max(largest, magnitude);
  }
  if (largest < kNegligible) largest = 0;
  for (size_t i = 0; i < table.group; ++i) {
    if (!(std::fabs(group[i]) >= kNegligible)) group[i] = 0;  // NaN too
    group[i] = std::clamp(group[i], -largest, largest);
  }
  return largest;
}

Choice choose_scale(const EncodeTable& table, const float* group, float largest) {
  Choice best;
  const int middle = nearest_step(largest);
  for (const bool negative : {false, true}) {
    for (const int offset : kScaleOffsets) consider(table, group, middle + offset, negative, best);
  }
  const Choice coarse = best;
  consider(table, group, coarse.step - 1, coarse.negative, best);
  consider(table, group, coarse.step + 1, coarse.negative, best);
  return best;
}

void encode_group(const EncodeTable& table, const float* values, size_t at, EncodedBatch& out) {
  float group[kGroupValuesMax];
  const float largest = prepare_group(table, values, group);
  const Choice best = choose_scale(table, group, largest);
  const auto k = static_cast<size_t>(best.step);
  const float inverse = best.negative ? -kScaleSteps.inverse[k] : kScaleSteps.inverse[k];
  const float ratio = best.negative ? -kScaleSteps.ratio[k] : kScaleSteps.ratio[k];
  out.scales[at] =
      largest == 0 ? kZeroScale : static_cast<uint8_t>(best.step + best.negative * kScaleSignBit);
  float signal = 0;
  float decoded = 0;
  float noise = 0;
  float max_error = 0;
  for (size_t i = 0; i < table.group; ++i) {
    const uint8_t code = nearest_code(table, group[i] * inverse);
    out.codes[at * table.group + i] = code;
    const float value = table.value[code] * ratio;
    const float error = group[i] - value;
    signal += group[i] * group[i];
    decoded += value * value;
    noise += error * error;
    max_error = std::max(max_error, std::fabs(error));
  }
  out.signal[at] = signal;
  out.decoded[at] = decoded;
  out.noise[at] = noise;
  out.max_error[at] = max_error;
}

void int4_encode(const EncodeTable& table, const float* values, EncodedBatch& out) {
  for (size_t at = 0; at < kBatchGroups; ++at) {
    encode_group(table, values + at * table.group, at, out);
  }
}

void int8_decode(const Int8Magnitudes& magnitudes, const uint8_t* scales, const int8_t* codes,
                 size_t groups, float* out, bool /*streaming*/) {
  for (size_t group = 0; group < groups; ++group) {
    const float magnitude = magnitudes[scales[group]];
    const int8_t* from = codes + group * kInt8GroupValues;
    float* to = out + group * kInt8GroupValues;
    for (size_t i = 0; i < kInt8GroupValues; ++i) to[i] = magnitude * static_cast<float>(from[i]);
  }
}

size_t translate(const uint8_t* table, const uint8_t* symbols, size_t count, uint8_t* to) {
  size_t last = 0;
  for (size_t i = 0; i < count; ++i) {
    to[i] = table[symbols[i]];
    last += symbols[i] == 31 ? 1 : 0;
  }
  return last;
}

template <class Word, DecodeFn kDecode>
void sparse4_to(const DecodeTable& table, const SparseUnits& sparse, void* out,
                bool /*streaming*/) {
  auto* to = static_cast<Word*>(out);
  decode_sparse<Word>(
      sparse, [&](PackedUnits packed, Word* values) { kDecode(table, packed, values, false); },
      [&](const uint8_t* bitmap, size_t units, const Word* values, size_t unit) {
        for (size_t i = 0; i < units * kUnitValues; ++i) {
          const bool kept = (bitmap[i / 8] >> i % 8 & 1) != 0;
          to[unit * kUnitValues + i] = kept ? *values++ : Word{0};
        }
      });
}

}  // namespace

const Kernel& scalar_kernel() {
  static constexpr Kernel kKernel{
      .name = "scalar",
      .int4_to_f32 = int4_to_f32,
      .int4_to_f16 = int4_to_f16,
      .int4_to_bf16 = int4_to_bf16,
      .int4_encode = int4_encode,
      .abs_max = abs_max,
      .f16_to_f32 = f16_to_f32,
      .bf16_to_f32 = bf16_to_f32,
      .f32_to_f16 = f32_to_f16,
      .f32_to_bf16 = f32_to_bf16,
      .multiply = multiply,
      .measure = measure,
      .rans_encode = rans_encode,
      .rans_decode = rans_decode,
      .ec4_to_32 = ec4_decode<float>,
      .ec4_to_16 = ec4_decode<uint16_t>,
      .ec4t_to_32 = ec4t_decode<float>,
      .ec4t_to_16 = ec4t_decode<uint16_t>,
      .ec4_quantize = ec4_quantize,
      .ec4t_quantize = ec4t_quantize,
      .stream = stream,
      .int8 = {int8_decode, int8_encode},
      .lossless = lossless_kernel(translate),
      .count_ones = count_ones,
      .sparse4_to_f32 = sparse4_to<float, int4_to_f32>,
      .sparse4_to_f16 = sparse4_to<uint16_t, int4_to_f16>,
      .sparse4_to_bf16 = sparse4_to<uint16_t, int4_to_bf16>,
  };
  return kKernel;
}

}  // namespace ballast::quant
