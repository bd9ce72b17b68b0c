// The encoder's search over vectors: kernel_scalar.cc with a group in each lane.
//
// The including source defines, in the anonymous namespace of ballast::quant,
//   Simd           types Float, Int and Mask of kLanes lanes, and operations on them;
//   LaneQuantizer  the codebook in registers.
#pragma once

#include <cfloat>

#include "quant/kernels.h"
#include "quant/log_scale.h"

namespace ballast::quant {
namespace {

using Float = Simd::Float;
using Int = Simd::Int;
using Mask = Simd::Mask;

static_assert(kBatchGroups % Simd::kLanes == 0);

// kLanes groups: row i holds the i-th value of each.
struct Lanes {
  alignas(64) float rows[kGroupValuesMax][Simd::kLanes];
  size_t group;
  Float largest;
};

struct LaneChoice {
  Int step;
  Int sign;  // the sign bit of a float, or nothing
  Float error;
};

// Four vectors of four values of each group become four rows. Memory is read and written by 128-bit
// quads, one for every fourth group, because a transposition of those needs no costly shuffles.
inline void load_rows(const float* values, Lanes& lanes) {
  for (size_t i = 0; i < lanes.group; i += 4) {
    Float quads[4];
    for (size_t j = 0; j < 4; ++j) {
      quads[j] = Simd::load_quads(values + j * lanes.group + i, 4 * lanes.group);
    }
    Simd::transpose_quads(quads);
    for (size_t j = 0; j < 4; ++j) Simd::store(lanes.rows[i + j], quads[j]);
  }
}

// The other way round for 16 codes of each group, of which quads[r] has the codes 4r to 4r + 3.
inline void store_codes(Float (&quads)[4], uint8_t* codes, size_t group) {
  Simd::transpose_quads(quads);
  for (size_t j = 0; j < 4; ++j) Simd::store_quads(codes + j * group, 4 * group, quads[j]);
}

inline void prepare_lanes(const EncodeTable& table, const float* values, Lanes& lanes) {
  lanes.group = table.group;
  load_rows(values, lanes);
  const Float inverse_base = Simd::all(table.inverse_base);
  Float largest = Simd::all(0.0f);
  for (size_t i = 0; i < table.group; ++i) {
    const Float value = Simd::multiply(Simd::load(lanes.rows[i]), inverse_base);
    const Float magnitude = Simd::absolute(value);
    const Mask finite = Simd::less_equal(magnitude, Simd::all(FLT_MAX));
    largest = Simd::maximum(largest, Simd::keep(finite, magnitude));
    Simd::store(lanes.rows[i], value);
  }
  const Float negligible = Simd::all(kNegligible);
  largest = Simd::keep(Simd::less_equal(negligible, largest), largest);
  const Float smallest = Simd::subtract(Simd::all(0.0f), largest);
  for (size_t i = 0; i < table.group; ++i) {
    const Float value = Simd::load(lanes.rows[i]);
    const Mask counts = Simd::less_equal(negligible, Simd::absolute(value));
    const Float below = Simd::minimum(largest, Simd::keep(counts, value));
    Simd::store(lanes.rows[i], Simd::maximum(smallest, below));
  }
  lanes.largest = largest;
}

inline Int clamp_step(Int step) {
  return Simd::minimum(Simd::maximum(step, Simd::all(0)), Simd::all(kScaleStepMax));
}

inline Int nearest_step(Float magnitude) {
  const Int bits = Simd::bits(Simd::multiply(magnitude, Simd::all(1.0f / 127)));
  const Int exponent = Simd::subtract(Simd::shift_right<23>(bits), Simd::all(127));
  const Float fraction =
      Simd::floats(Simd::either(Simd::both(bits, Simd::all(0x7fffff)), Simd::all(0x3f800000)));
  Int steps = Simd::shift_left<4>(exponent);
  static_assert(kStepsPerOctave == 1 << 4);
  for (size_t i = 0; i < kOctaveMidpoints.size(); ++i) {
    steps = Simd::count(steps, Simd::less_equal(Simd::all(kOctaveMidpoints[i]), fraction));
  }
  return clamp_step(Simd::subtract(Simd::all(0), steps));
}

inline Float signed_entry(const float* table, Int step, Int sign) {
  return Simd::floats(Simd::exclusive(Simd::bits(Simd::gather(table, step)), sign));
}

inline void consider(const LaneQuantizer& quantizer, const Lanes& lanes, Int step, Int sign,
                     LaneChoice& best) {
  step = clamp_step(step);
  const Float inverse = signed_entry(kScaleSteps.inverse.data(), step, sign);
  const Float ratio = Simd::gather(kScaleSteps.ratio.data(), step);
  Float error = Simd::all(0.0f);
  for (size_t i = 0; i < lanes.group; ++i) {
    const Float t = Simd::multiply(Simd::load(lanes.rows[i]), inverse);
    const Float distance = Simd::subtract(t, quantizer.nearest(t));
    error = Simd::add(error, Simd::multiply(distance, distance));
  }
  error = Simd::multiply(error, Simd::multiply(ratio, ratio));
  const Mask better = Simd::less(error, best.error);
  best.step = Simd::select(better, step, best.step);
  best.sign = Simd::select(better, sign, best.sign);
  best.error = Simd::select(better, error, best.error);
}

inline LaneChoice choose_scales(const LaneQuantizer& quantizer, const Lanes& lanes) {
  const Int middle = nearest_step(lanes.largest);
  LaneChoice best{Simd::all(0), Simd::all(0), Simd::all(__builtin_inff())};
  for (const Int sign : {Simd::all(0), Simd::all(INT32_MIN)}) {
    for (size_t i = 0; i < kScaleOffsets.size(); ++i) {
      consider(quantizer, lanes, Simd::add(middle, Simd::all(kScaleOffsets[i])), sign, best);
    }
  }
  const LaneChoice coarse = best;
  consider(quantizer, lanes, Simd::subtract(coarse.step, Simd::all(1)), coarse.sign, best);
  consider(quantizer, lanes, Simd::add(coarse.step, Simd::all(1)), coarse.sign, best);
  return best;
}

struct LaneSums {
  Float signal = Simd::all(0.0f);
  Float decoded = Simd::all(0.0f);
  Float noise = Simd::all(0.0f);
  Float max_error = Simd::all(0.0f);

  void add(Float value, Float result) {
    const Float error = Simd::subtract(value, result);
    signal = Simd::add(signal, Simd::multiply(value, value));
    decoded = Simd::add(decoded, Simd::multiply(result, result));
    noise = Simd::add(noise, Simd::multiply(error, error));
    max_error = Simd::maximum(max_error, Simd::absolute(error));
  }
};

// The codes of rows i to i + 3, from the lowest byte of each lane up.
inline Int encode_four_rows(const LaneQuantizer& quantizer, const Lanes& lanes, size_t i,
                            Float inverse, Float ratio, LaneSums& sums) {
  Int codes[4];
  for (size_t j = 0; j < 4; ++j) {
    const Float value = Simd::load(lanes.rows[i + j]);
    codes[j] = quantizer.code(Simd::multiply(value, inverse));
    sums.add(value, Simd::multiply(quantizer.entry(codes[j]), ratio));
  }
  return Simd::either(Simd::either(codes[0], Simd::shift_left<8>(codes[1])),
                      Simd::either(Simd::shift_left<16>(codes[2]), Simd::shift_left<24>(codes[3])));
}

// Encodes the groups at, at + 1, ... of a batch, one in each lane.
inline void encode_lanes(const EncodeTable& table, const LaneQuantizer& quantizer,
                         const float* values, size_t at, EncodedBatch& out) {
  Lanes lanes;
  prepare_lanes(table, values, lanes);
  const LaneChoice best = choose_scales(quantizer, lanes);
  const Float inverse = signed_entry(kScaleSteps.inverse.data(), best.step, best.sign);
  const Float ratio = signed_entry(kScaleSteps.ratio.data(), best.step, best.sign);
  const Int sign = Simd::both(Simd::shift_right<24>(best.sign), Simd::all(kScaleSignBit));
  const Mask zero = Simd::less_equal(lanes.largest, Simd::all(0.0f));
  const Int scale = Simd::select(zero, Simd::all(kZeroScale), Simd::either(best.step, sign));
  Simd::store_bytes(&out.scales[at], scale);

  LaneSums sums;
  uint8_t* codes = &out.codes[at * table.group];
  for (size_t i = 0; i < table.group; i += 16) {
    Float quads[4];
    for (size_t j = 0; j < 4; ++j) {
      quads[j] = Simd::floats(encode_four_rows(quantizer, lanes, i + j * 4, inverse, ratio, sums));
    }
    store_codes(quads, codes + i, table.group);
  }
  Simd::store(&out.signal[at], sums.signal);
  Simd::store(&out.decoded[at], sums.decoded);
  Simd::store(&out.noise[at], sums.noise);
  Simd::store(&out.max_error[at], sums.max_error);
}

void int4_encode(const EncodeTable& table, const float* values, EncodedBatch& out) {
  const LaneQuantizer quantizer(table);
  for (size_t at = 0; at < kBatchGroups; at += Simd::kLanes) {
    encode_lanes(table, quantizer, values + at * table.group, at, out);
  }
}

}  // namespace
}  // namespace ballast::quant
