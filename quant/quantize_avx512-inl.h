// The quantizers of rans_loops-inl.h for AVX-512: a vector for a row of sums.
#pragma once

#include <immintrin.h>

#include "quant/kernels.h"
#include "quant/trellis.h"

namespace ballast::quant {
namespace {

static_assert(kQuantizeLanes == 16);

__m512 nearest_integer(__m512 value) {
  return _mm512_roundscale_ps(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

__m512 clamp(__m512 value, float low, float high) {
  return _mm512_min_ps(_mm512_max_ps(value, _mm512_set1_ps(low)), _mm512_set1_ps(high));
}

// Whether |value| < limit.
__mmask16 inside(__m512 value, float limit) {
  return _mm512_cmp_ps_mask(_mm512_abs_ps(value), _mm512_set1_ps(limit), _CMP_LT_OQ);
}

struct VectorSums {
  explicit VectorSums(const QuantizeSums& sums)
      : signal(_mm512_load_ps(sums.signal.data())),
        decoded(_mm512_load_ps(sums.decoded.data())),
        noise(_mm512_load_ps(sums.noise.data())),
        max_error(_mm512_load_ps(sums.max_error.data())) {}
  void store(QuantizeSums& sums) const {
    _mm512_store_ps(sums.signal.data(), signal);
    _mm512_store_ps(sums.decoded.data(), decoded);
    _mm512_store_ps(sums.noise.data(), noise);
    _mm512_store_ps(sums.max_error.data(), max_error);
  }
  void add(__m512 value, __m512 decoded_value) {
    const __m512 error = _mm512_sub_ps(value, decoded_value);
    signal = _mm512_add_ps(signal, _mm512_mul_ps(value, value));
    decoded = _mm512_add_ps(decoded, _mm512_mul_ps(decoded_value, decoded_value));
    noise = _mm512_add_ps(noise, _mm512_mul_ps(error, error));
    max_error = _mm512_max_ps(max_error, _mm512_abs_ps(error));
  }

  __m512 signal;
  __m512 decoded;
  __m512 noise;
  __m512 max_error;
};

void store_symbols(uint8_t* to, __m512 index) {
  const __m512i symbol =
      _mm512_add_epi32(_mm512_cvtps_epi32(index), _mm512_set1_epi32(kEc4IndexMax));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(symbol));
}

uint32_t ec4_quantize(const float* values, size_t count, float inverse_step, float shrink,
                      uint8_t* symbols, QuantizeSums& sums) {
  VectorSums vector_sums(sums);
  uint32_t outliers = 0;
  for (size_t i = 0; i < count; i += kQuantizeLanes) {
    const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(values + i), _mm512_set1_ps(inverse_step));
    const __mmask16 in = inside(scaled, kEc4Outlier);
    outliers += 16 - static_cast<uint32_t>(__builtin_popcount(in));
    const __m512 value = _mm512_maskz_mov_ps(in, scaled);
    const __m512 index = clamp(nearest_integer(value), -kEc4IndexMax, kEc4IndexMax);
    vector_sums.add(value, _mm512_mul_ps(index, _mm512_set1_ps(shrink)));
    store_symbols(symbols + i, index);
  }
  vector_sums.store(sums);
  return outliers;
}

struct Scaled {
  explicit Scaled(__m512 scaled) : value(scaled), magnitude(_mm512_abs_ps(scaled)) {}
  __m512 value;
  __m512 magnitude;
};

// The multiples that Nearby has in rans_loops-inl.h; of the odd quantizer the magnitude.
__m512 even_multiple(const Scaled& t, float shift, float lowest) {
  const __m512 moved = _mm512_sub_ps(t.value, _mm512_set1_ps(shift));
  const __m512 j = clamp(nearest_integer(_mm512_mul_ps(moved, _mm512_set1_ps(0.25f))), lowest, 7);
  return _mm512_add_ps(_mm512_mul_ps(j, _mm512_set1_ps(4)), _mm512_set1_ps(shift));
}
__m512 odd_magnitude_of_odd_index(const Scaled& t) {
  const __m512 moved = _mm512_add_ps(t.magnitude, _mm512_set1_ps(-1));
  const __m512 j = clamp(nearest_integer(_mm512_mul_ps(moved, _mm512_set1_ps(0.25f))), 0, 7);
  return _mm512_add_ps(_mm512_mul_ps(j, _mm512_set1_ps(4)), _mm512_set1_ps(1));
}
__m512 odd_magnitude_of_even_index(const Scaled& t) {
  const __m512 moved = _mm512_add_ps(t.magnitude, _mm512_set1_ps(1));
  const __m512 j = _mm512_min_ps(nearest_integer(_mm512_mul_ps(moved, _mm512_set1_ps(0.25f))),
                                 _mm512_set1_ps(7));
  const __mmask16 large = _mm512_cmp_ps_mask(t.magnitude, _mm512_set1_ps(1.5f), _CMP_GE_OQ);
  return _mm512_maskz_sub_ps(large, _mm512_mul_ps(j, _mm512_set1_ps(4)), _mm512_set1_ps(1));
}

__m512 square_of_difference(__m512 a, __m512 b) {
  const __m512 difference = _mm512_sub_ps(a, b);
  return _mm512_mul_ps(difference, difference);
}

// Values in steps, outliers as 0.
struct ScaledValues {
  ScaledValues(const float* values, __m512 inverse_step)
      : exact(_mm512_mul_ps(_mm512_loadu_ps(values), inverse_step)),
        in(inside(exact, kEc4tOutlier)),
        scaled(_mm512_maskz_mov_ps(in, exact)) {}
  __m512 exact;
  __mmask16 in;
  __m512 scaled;
};

void extend_paths(const Scaled& t, __m512 (&costs)[kTrellisStates], uint16_t* survivors) {
  const __m512 distance[2][2] = {
      {square_of_difference(t.value, even_multiple(t, 0, -7)),
       square_of_difference(t.value, even_multiple(t, 2, -8))},
      {square_of_difference(t.magnitude, odd_magnitude_of_even_index(t)),
       square_of_difference(t.magnitude, odd_magnitude_of_odd_index(t))}};
  __m512 extended[kTrellisStates];
#pragma clang loop unroll(full)
  for (uint32_t state = 0; state < kTrellisStates; ++state) {
    const uint32_t lower = trellis_before(state);
    const uint32_t parity = state >> 1 & 1;
    const __m512 from_lower = _mm512_add_ps(costs[lower], distance[lower & 1][parity]);
    const __m512 from_upper = _mm512_add_ps(costs[lower + 4], distance[lower & 1][1 - parity]);
    survivors[state] = _mm512_cmp_ps_mask(from_upper, from_lower, _CMP_LT_OQ);
    extended[state] = _mm512_min_ps(from_upper, from_lower);
  }
#pragma clang loop unroll(full)
  for (uint32_t state = 0; state < kTrellisStates; ++state) costs[state] = extended[state];
}

__m512i best_ends(const __m512 (&costs)[kTrellisStates]) {
  __m512i best = _mm512_setzero_si512();
  __m512 lowest = costs[0];
  for (int state = 1; state < static_cast<int>(kTrellisStates); ++state) {
    const __mmask16 better = _mm512_cmp_ps_mask(costs[state], lowest, _CMP_LT_OQ);
    best = _mm512_mask_mov_epi32(best, better, _mm512_set1_epi32(state));
    lowest = _mm512_mask_mov_ps(lowest, better, costs[state]);
  }
  return best;
}

class PathTracer {
 public:
  explicit PathTracer(__m512i ends) : state_(ends) {
    alignas(64) uint32_t before[16];
    for (uint32_t i = 0; i < 16; ++i) before[i] = trellis_before(i & 7);
    before_ = _mm512_load_si512(before);
  }

  // One step back: the multiple of the step that lies on the path, and its index.
  __m512 step(const uint16_t* survivors, __m512 scaled, __m512& index) {
    const __m512i taken = _mm512_castsi256_si512(
        _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(survivors))));
    const __m512i one = _mm512_set1_epi32(1);
    const __m512i upper =
        _mm512_and_si512(_mm512_srlv_epi32(_mm512_permutexvar_epi32(state_, taken), lane_), one);
    const __m512i parity = _mm512_xor_si512(_mm512_srli_epi32(state_, 1), upper);
    const __mmask16 odd_index = _mm512_test_epi32_mask(parity, one);
    state_ =
        _mm512_or_si512(_mm512_permutexvar_epi32(state_, before_), _mm512_slli_epi32(upper, 2));
    const __mmask16 odd = _mm512_test_epi32_mask(state_, one);
    const Scaled t(scaled);
    const __m512 even =
        _mm512_mask_blend_ps(odd_index, even_multiple(t, 0, -7), even_multiple(t, 2, -8));
    const __m512 magnitude = _mm512_mask_blend_ps(odd_index, odd_magnitude_of_even_index(t),
                                                  odd_magnitude_of_odd_index(t));
    // Index = (multiple + 1) / 2 for the odd quantizer, but for 0.
    const __mmask16 some = _mm512_cmp_ps_mask(magnitude, _mm512_setzero_ps(), _CMP_GT_OQ);
    const __m512 twice = _mm512_mask_add_ps(magnitude, some, magnitude, _mm512_set1_ps(1));
    // A zero's own sign does not count.
    const __mmask16 negative = _mm512_cmp_ps_mask(scaled, _mm512_setzero_ps(), _CMP_LT_OQ);
    const __m512 chosen = _mm512_mask_blend_ps(odd, even, with_sign(magnitude, negative));
    index = _mm512_mul_ps(_mm512_mask_blend_ps(odd, even, with_sign(twice, negative)),
                          _mm512_set1_ps(0.5f));
    return chosen;
  }

 private:
  static __m512 with_sign(__m512 magnitude, __mmask16 negative) {
    return _mm512_mask_xor_ps(magnitude, negative, magnitude, _mm512_set1_ps(-0.0f));
  }

  __m512i state_;
  __m512i before_;
  __m512i lane_ = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
};

uint32_t ec4t_quantize(const float* values, size_t rows, size_t lanes, float inverse_step,
                       float shrink, uint16_t* survivors, uint8_t* symbols, QuantizeSums& sums) {
  VectorSums vector_sums(sums);
  const __m512 inverse = _mm512_set1_ps(inverse_step);
  const __m512 shrinks = _mm512_set1_ps(shrink);
  uint32_t inside = 0;
  for (size_t at = 0; at < lanes; at += kQuantizeLanes) {
    __m512 costs[kTrellisStates];
    for (__m512& cost : costs) cost = _mm512_set1_ps(kUnreachable);
    costs[0] = _mm512_setzero_ps();
    for (size_t row = 0; row < rows; ++row) {
      const ScaledValues loaded(values + row * lanes + at, inverse);
      inside += static_cast<uint32_t>(__builtin_popcount(loaded.in));
      extend_paths(Scaled(loaded.scaled), costs, survivors + row * kTrellisStates);
    }
    PathTracer tracer(best_ends(costs));
    for (size_t row = rows; row-- > 0;) {
      const ScaledValues loaded(values + row * lanes + at, inverse);
      __m512 index;
      const __m512 multiple = tracer.step(survivors + row * kTrellisStates, loaded.scaled, index);
      // What an outlier's place on the path stands for is not read.
      vector_sums.add(loaded.scaled, _mm512_maskz_mul_ps(loaded.in, multiple, shrinks));
      store_symbols(symbols + row * lanes + at, index);
    }
  }
  vector_sums.store(sums);
  return static_cast<uint32_t>(rows * lanes) - inside;
}

}  // namespace
}  // namespace ballast::quant
