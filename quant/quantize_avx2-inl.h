// The quantizers of rans_loops-inl.h for AVX2: eight values in a vector, so two of them for a row
// of sums.
#pragma once

#include <immintrin.h>

#include "quant/kernels.h"
#include "quant/trellis.h"

namespace ballast::quant {
namespace {

static_assert(kQuantizeLanes == 16);

__m256 nearest_integer(__m256 value) {
  return _mm256_round_ps(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

__m256 clamp(__m256 value, float low, float high) {
  return _mm256_min_ps(_mm256_max_ps(value, _mm256_set1_ps(low)), _mm256_set1_ps(high));
}

__m256 magnitude_of(__m256 value) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), value); }

// A mask: whether |value| < limit.
__m256 inside(__m256 value, float limit) {
  return _mm256_cmp_ps(magnitude_of(value), _mm256_set1_ps(limit), _CMP_LT_OQ);
}

// The sums of eight lanes.
class VectorSums {
 public:
  VectorSums(const QuantizeSums& sums, size_t first)
      : signal_(_mm256_load_ps(&sums.signal[first])),
        decoded_(_mm256_load_ps(&sums.decoded[first])),
        noise_(_mm256_load_ps(&sums.noise[first])),
        max_error_(_mm256_load_ps(&sums.max_error[first])) {}
  void store(QuantizeSums& sums, size_t first) const {
    _mm256_store_ps(&sums.signal[first], signal_);
    _mm256_store_ps(&sums.decoded[first], decoded_);
    _mm256_store_ps(&sums.noise[first], noise_);
    _mm256_store_ps(&sums.max_error[first], max_error_);
  }
  void add(__m256 value, __m256 decoded) {
    const __m256 error = _mm256_sub_ps(value, decoded);
    signal_ = _mm256_add_ps(signal_, _mm256_mul_ps(value, value));
    decoded_ = _mm256_add_ps(decoded_, _mm256_mul_ps(decoded, decoded));
    noise_ = _mm256_add_ps(noise_, _mm256_mul_ps(error, error));
    max_error_ = _mm256_max_ps(max_error_, magnitude_of(error));
  }

 private:
  __m256 signal_;
  __m256 decoded_;
  __m256 noise_;
  __m256 max_error_;
};

void store_symbols(uint8_t* to, __m256 index) {
  const __m256i numbers = _mm256_cvtps_epi32(index);
  const __m128i words =
      _mm_packs_epi32(_mm256_castsi256_si128(numbers), _mm256_extracti128_si256(numbers, 1));
  const __m128i symbols = _mm_add_epi8(_mm_packs_epi16(words, words), _mm_set1_epi8(kEc4IndexMax));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), symbols);
}

uint32_t sum_of(__m256i counts) {
  alignas(32) uint32_t count[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(count), counts);
  uint32_t sum = 0;
  for (const uint32_t one : count) sum += one;
  return sum;
}

uint32_t ec4_quantize(const float* values, size_t count, float inverse_step, float shrink,
                      uint8_t* symbols, QuantizeSums& sums) {
  VectorSums vector_sums[2] = {{sums, 0}, {sums, 8}};
  __m256i inliers = _mm256_setzero_si256();
  for (size_t i = 0; i < count; i += kQuantizeLanes) {
#pragma clang loop unroll(full)
    for (size_t k = 0; k < 2; ++k) {
      const size_t at = i + k * 8;
      const __m256 scaled =
          _mm256_mul_ps(_mm256_loadu_ps(values + at), _mm256_set1_ps(inverse_step));
      const __m256 in = inside(scaled, kEc4Outlier);
      inliers = _mm256_sub_epi32(inliers, _mm256_castps_si256(in));
      const __m256 value = _mm256_and_ps(in, scaled);
      const __m256 index = clamp(nearest_integer(value), -kEc4IndexMax, kEc4IndexMax);
      vector_sums[k].add(value, _mm256_mul_ps(index, _mm256_set1_ps(shrink)));
      store_symbols(symbols + at, index);
    }
  }
  for (size_t k = 0; k < 2; ++k) vector_sums[k].store(sums, k * 8);
  return static_cast<uint32_t>(count) - sum_of(inliers);
}

struct Scaled {
  explicit Scaled(__m256 scaled) : value(scaled), magnitude(magnitude_of(scaled)) {}
  __m256 value;
  __m256 magnitude;
};

// The multiples that Nearby has in rans_loops-inl.h; of the odd quantizer the magnitude.
__m256 even_multiple(const Scaled& t, float shift, float lowest) {
  const __m256 moved = _mm256_sub_ps(t.value, _mm256_set1_ps(shift));
  const __m256 j = clamp(nearest_integer(_mm256_mul_ps(moved, _mm256_set1_ps(0.25f))), lowest, 7);
  return _mm256_add_ps(_mm256_mul_ps(j, _mm256_set1_ps(4)), _mm256_set1_ps(shift));
}
__m256 odd_magnitude_of_odd_index(const Scaled& t) {
  const __m256 moved = _mm256_add_ps(t.magnitude, _mm256_set1_ps(-1));
  const __m256 j = clamp(nearest_integer(_mm256_mul_ps(moved, _mm256_set1_ps(0.25f))), 0, 7);
  return _mm256_add_ps(_mm256_mul_ps(j, _mm256_set1_ps(4)), _mm256_set1_ps(1));
}
__m256 odd_magnitude_of_even_index(const Scaled& t) {
  const __m256 moved = _mm256_add_ps(t.magnitude, _mm256_set1_ps(1));
  const __m256 j = _mm256_min_ps(nearest_integer(_mm256_mul_ps(moved, _mm256_set1_ps(0.25f))),
                                 _mm256_set1_ps(7));
  const __m256 large = _mm256_cmp_ps(t.magnitude, _mm256_set1_ps(1.5f), _CMP_GE_OQ);
  return _mm256_and_ps(large,
                       _mm256_sub_ps(_mm256_mul_ps(j, _mm256_set1_ps(4)), _mm256_set1_ps(1)));
}

__m256 square_of_difference(__m256 a, __m256 b) {
  const __m256 difference = _mm256_sub_ps(a, b);
  return _mm256_mul_ps(difference, difference);
}

// Values in steps, outliers as 0.
struct ScaledValues {
  ScaledValues(const float* values, __m256 inverse_step)
      : exact(_mm256_mul_ps(_mm256_loadu_ps(values), inverse_step)),
        in(inside(exact, kEc4tOutlier)),
        scaled(_mm256_and_ps(in, exact)) {}
  __m256 exact;
  __m256 in;
  __m256 scaled;
};

// `survivors` gets a byte for each state, with a bit for each lane.
void extend_paths(const Scaled& t, __m256 (&costs)[kTrellisStates], uint8_t* survivors) {
  const __m256 distance[2][2] = {
      {square_of_difference(t.value, even_multiple(t, 0, -7)),
       square_of_difference(t.value, even_multiple(t, 2, -8))},
      {square_of_difference(t.magnitude, odd_magnitude_of_even_index(t)),
       square_of_difference(t.magnitude, odd_magnitude_of_odd_index(t))}};
  __m256 extended[kTrellisStates];
#pragma clang loop unroll(full)
  for (uint32_t state = 0; state < kTrellisStates; ++state) {
    const uint32_t lower = trellis_before(state);
    const uint32_t parity = state >> 1 & 1;
    const __m256i from_lower =
        _mm256_castps_si256(_mm256_add_ps(costs[lower], distance[lower & 1][parity]));
    const __m256i from_upper =
        _mm256_castps_si256(_mm256_add_ps(costs[lower + 4], distance[lower & 1][1 - parity]));
    // Costs are positive, so their bits are in their order; more units compare integers.
    const __m256i upper = _mm256_cmpgt_epi32(from_lower, from_upper);
    survivors[state] = static_cast<uint8_t>(_mm256_movemask_ps(_mm256_castsi256_ps(upper)));
    extended[state] = _mm256_castsi256_ps(_mm256_min_epi32(from_lower, from_upper));
  }
#pragma clang loop unroll(full)
  for (uint32_t state = 0; state < kTrellisStates; ++state) costs[state] = extended[state];
}

__m256i best_ends(const __m256 (&costs)[kTrellisStates]) {
  __m256 best = _mm256_setzero_ps();
  __m256 lowest = costs[0];
  for (int state = 1; state < static_cast<int>(kTrellisStates); ++state) {
    const __m256 better = _mm256_cmp_ps(costs[state], lowest, _CMP_LT_OQ);
    best = _mm256_blendv_ps(best, _mm256_castsi256_ps(_mm256_set1_epi32(state)), better);
    lowest = _mm256_blendv_ps(lowest, costs[state], better);
  }
  return _mm256_castps_si256(best);
}

class PathTracer {
 public:
  explicit PathTracer(__m256i ends) : state_(ends) {
    alignas(32) uint32_t before[8];
    for (uint32_t i = 0; i < 8; ++i) before[i] = trellis_before(i);
    before_ = _mm256_load_si256(reinterpret_cast<const __m256i*>(before));
  }

  // One step back: the multiple of the step that lies on the path, and its index. It is computed
  // once, with what the quantizer and the parity make of the formulas above.
  __m256 step(const uint8_t* survivors, __m256 scaled, __m256& index) {
    const __m256i taken =
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(survivors)));
    const __m256i upper = _mm256_and_si256(
        _mm256_srlv_epi32(_mm256_permutevar8x32_epi32(taken, state_), lane_), _mm256_set1_epi32(1));
    const __m256i odd_index = _mm256_xor_si256(_mm256_srli_epi32(state_, 1), upper);
    state_ =
        _mm256_or_si256(_mm256_permutevar8x32_epi32(before_, state_), _mm256_slli_epi32(upper, 2));
    // Bit 0: the quantizer is the odd one; bit 1: the index is odd.
    const __m256i kind = _mm256_or_si256(_mm256_and_si256(state_, _mm256_set1_epi32(1)),
                                         _mm256_slli_epi32(odd_index, 1));
    // That of a magnitude; a zero's own does not count.
    const __m256 negative = _mm256_cmp_ps(scaled, _mm256_setzero_ps(), _CMP_LT_OQ);
    const __m256 sign = _mm256_and_ps(negative, of_kind(kind, 0, -0.0f, 0, -0.0f));
    // The nearest multiple; with the odd quantizer, of the magnitude.
    const __m256 t = _mm256_xor_ps(scaled, sign);
    const __m256 shift = of_kind(kind, 0, -1, 2, 1);
    const __m256 moved = _mm256_sub_ps(t, shift);
    const __m256 j = nearest_integer(_mm256_mul_ps(moved, _mm256_set1_ps(0.25f)));
    const __m256 held =
        _mm256_min_ps(_mm256_max_ps(j, of_kind(kind, -7, 0, -8, 0)), _mm256_set1_ps(7));
    const __m256 nearest = _mm256_add_ps(_mm256_mul_ps(held, _mm256_set1_ps(4)), shift);
    const __m256 some = _mm256_cmp_ps(t, of_kind(kind, -kFar, 1.5f, -kFar, 0), _CMP_GE_OQ);
    const __m256 multiple = _mm256_and_ps(nearest, some);
    // Index = (multiple + 1) / 2 for the odd quantizer, but for 0.
    const __m256 twice = _mm256_add_ps(multiple, _mm256_and_ps(of_kind(kind, 0, 1, 0, 1), some));
    index = _mm256_or_ps(_mm256_mul_ps(twice, _mm256_set1_ps(0.5f)), sign);
    return _mm256_or_ps(multiple, sign);
  }

 private:
  static constexpr float kFar = 2 * kEc4tOutlier;  // beyond all values
  static __m256 of_kind(__m256i kind, float even_even, float odd_even, float even_odd,
                        float odd_odd) {
    return _mm256_permutevar_ps(_mm256_setr_ps(even_even, odd_even, even_odd, odd_odd, even_even,
                                               odd_even, even_odd, odd_odd),
                                kind);
  }

  __m256i state_;
  __m256i before_;
  __m256i lane_ = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
};

// Eight lanes at a time: the costs of their paths fill half of the registers.
uint32_t ec4t_quantize(const float* values, size_t rows, size_t lanes, float inverse_step,
                       float shrink, uint16_t* survivors, uint8_t* symbols, QuantizeSums& sums) {
  const __m256 inverse = _mm256_set1_ps(inverse_step);
  auto* const taken = reinterpret_cast<uint8_t*>(survivors);
  __m256i inliers = _mm256_setzero_si256();
  for (size_t at = 0; at < lanes; at += 8) {
    __m256 costs[kTrellisStates];
    for (__m256& cost : costs) cost = _mm256_set1_ps(kUnreachable);
    costs[0] = _mm256_setzero_ps();
    for (size_t row = 0; row < rows; ++row) {
      const ScaledValues loaded(values + row * lanes + at, inverse);
      inliers = _mm256_sub_epi32(inliers, _mm256_castps_si256(loaded.in));
      extend_paths(Scaled(loaded.scaled), costs, taken + row * kTrellisStates);
    }
    VectorSums vector_sums(sums, at % kQuantizeLanes);
    PathTracer tracer(best_ends(costs));
    for (size_t row = rows; row-- > 0;) {
      const ScaledValues loaded(values + row * lanes + at, inverse);
      __m256 index;
      const __m256 multiple = tracer.step(taken + row * kTrellisStates, loaded.scaled, index);
      // What an outlier's place on the path stands for is not read.
      const __m256 decoded = _mm256_mul_ps(multiple, _mm256_set1_ps(shrink));
      vector_sums.add(loaded.scaled, _mm256_and_ps(loaded.in, decoded));
      store_symbols(symbols + row * lanes + at, index);
    }
    vector_sums.store(sums, at % kQuantizeLanes);
  }
  return static_cast<uint32_t>(rows * lanes) - sum_of(inliers);
}

}  // namespace
}  // namespace ballast::quant
