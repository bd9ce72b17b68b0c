// rans_loops-inl.h for AVX-512: sixteen lanes in a vector, the tables in registers.
#pragma once

#include <immintrin.h>

#include "quant/kernels.h"
#include "quant/rans.h"
#include "quant/trellis.h"

namespace ballast::quant {
namespace {

static_assert(kRansVectorLanes == 16 && kQuantizeLanes == 16);

// A table of 32 entries.
struct Table32 {
  explicit Table32(const void* entries)
      : low(_mm512_load_si512(entries)),
        high(_mm512_load_si512(static_cast<const __m512i*>(entries) + 1)) {}
  // The upper bits of an index do not matter.
  __m512i at(__m512i index) const { return _mm512_permutex2var_epi32(low, index, high); }
  __m512 float_at(__m512i index) const { return _mm512_castsi512_ps(at(index)); }

  __m512i low;
  __m512i high;
};

// ---- encoding ----

class LaneEncoder {
 public:
  explicit LaneEncoder(const RansEncodeTable& table)
      : frequency_(table.frequency.data()),
        reciprocal_(table.reciprocal.data()),
        start_(table.start.data()),
        slots_(table.slots.data()) {}

  __m512i encode(__m512i state, const uint8_t* symbols, uint16_t*& out) const {
    const __m512i symbol =
        _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(symbols)));
    const __m512i frequency = frequency_.at(symbol);
    const __mmask16 full = _mm512_cmpge_epu32_mask(state, _mm512_slli_epi32(frequency, 20));
    const unsigned count = static_cast<unsigned>(__builtin_popcount(full));
    out -= count;
    _mm256_mask_storeu_epi16(out, static_cast<__mmask16>((1U << count) - 1),
                             _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(full, state)));
    state = _mm512_mask_srli_epi32(state, full, state, 16);
    // The quotient in floats is off by one at most, which the remainder shows.
    const __m512 estimate = _mm512_mul_ps(_mm512_cvtepu32_ps(state), reciprocal_.float_at(symbol));
    __m512i quotient = _mm512_cvttps_epi32(estimate);
    __m512i rest = _mm512_sub_epi32(state, _mm512_mullo_epi32(quotient, frequency));
    const __m512i one = _mm512_set1_epi32(1);
    const __mmask16 under = _mm512_movepi32_mask(rest);
    quotient = _mm512_mask_sub_epi32(quotient, under, quotient, one);
    rest = _mm512_mask_add_epi32(rest, under, rest, frequency);
    const __mmask16 over = _mm512_cmpge_epi32_mask(rest, frequency);
    quotient = _mm512_mask_add_epi32(quotient, over, quotient, one);
    rest = _mm512_mask_sub_epi32(rest, over, rest, frequency);
    const __m512i position = _mm512_add_epi32(start_.at(symbol), rest);
    const __m512i slot =
        _mm512_and_si512(_mm512_i32gather_epi32(position, slots_, 2), _mm512_set1_epi32(0xffff));
    return _mm512_or_si512(_mm512_slli_epi32(quotient, kRansTotalBits), slot);
  }

 private:
  Table32 frequency_;
  Table32 reciprocal_;
  Table32 start_;
  const uint16_t* slots_;
};

template <size_t kVectors>
size_t encode_vectors(const RansEncodeTable& table, const uint8_t* symbols, size_t rows,
                      uint32_t* states, uint16_t* end) {
  const LaneEncoder encoder(table);
  __m512i state[kVectors];
  for (size_t v = 0; v < kVectors; ++v) state[v] = _mm512_loadu_si512(states + v * 16);
  uint16_t* out = end;
  for (size_t row = rows; row-- > 0;) {
    for (size_t v = kVectors; v-- > 0;) {
      state[v] = encoder.encode(state[v], symbols + (row * kVectors + v) * 16, out);
    }
  }
  for (size_t v = 0; v < kVectors; ++v) _mm512_storeu_si512(states + v * 16, state[v]);
  return static_cast<size_t>(end - out);
}

size_t rans_encode(const RansEncodeTable& table, const uint8_t* symbols, size_t rows, size_t lanes,
                   uint32_t* states, uint16_t* end) {
  switch (lanes) {
    case 16: return encode_vectors<1>(table, symbols, rows, states, end);
    case 32: return encode_vectors<2>(table, symbols, rows, states, end);
    case 64: return encode_vectors<4>(table, symbols, rows, states, end);
    default: return encode_vectors<8>(table, symbols, rows, states, end);
  }
}

// ---- decoding ----

class LaneDecoder {
 public:
  explicit LaneDecoder(const RansDecodeTable& table)
      : own_(table.own.data()), alias_(table.alias.data()) {}

  // The symbol (in the lowest five bits) and the state behind it.
  __m512i decode(__m512i& state, const uint16_t*& next) const {
    const __m512i bucket = _mm512_srli_epi32(state, 7);
    const __m512i own = own_.at(bucket);
    const __m512i alias = alias_.at(bucket);
    // The lower seven bits of the slot, in the place of the limit.
    const __m512i place =
        _mm512_or_si512(_mm512_slli_epi32(state, 25), _mm512_set1_epi32((1 << 25) - 1));
    const __mmask16 other = _mm512_cmpge_epu32_mask(place, own);
    const __m512i entry = _mm512_mask_mov_epi32(own, other, alias);
    const __m512i symbol = _mm512_mask_srli_epi32(bucket, other, alias, 25);
    const __m512i mask = _mm512_set1_epi32(0xfff);
    const __m512i frequency = _mm512_and_si512(_mm512_srli_epi32(entry, 12), mask);
    const __m512i position = _mm512_and_si512(_mm512_add_epi32(state, entry), mask);
    const __m512i quotient = _mm512_srli_epi32(state, kRansTotalBits);
    const __m512i x = _mm512_add_epi32(_mm512_mullo_epi32(frequency, quotient), position);
    const __mmask16 empty = _mm512_cmplt_epu32_mask(x, _mm512_set1_epi32(kRansLowest));
    const __m512i words =
        _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(next)));
    const __m512i word = _mm512_maskz_expand_epi32(empty, words);
    state = _mm512_mask_or_epi32(x, empty, _mm512_slli_epi32(x, 16), word);
    next += __builtin_popcount(empty);
    return symbol;
  }

 private:
  Table32 own_;
  Table32 alias_;
};

// Calls put(vector of the output, v, symbols) for each.
template <size_t kVectors, class Put>
void decode_vectors(const RansDecodeTable& table, RansCursor& cursor, size_t rows, const Put& put) {
  const LaneDecoder decoder(table);
  __m512i state[kVectors];
  for (size_t v = 0; v < kVectors; ++v) state[v] = _mm512_load_si512(&cursor.states[v * 16]);
  const uint16_t* next = cursor.next;
  for (size_t row = 0; row < rows; ++row) {
#pragma clang loop unroll(full)
    for (size_t v = 0; v < kVectors; ++v) {
      put(row * kVectors + v, v, decoder.decode(state[v], next));
    }
  }
  for (size_t v = 0; v < kVectors; ++v) _mm512_store_si512(&cursor.states[v * 16], state[v]);
  cursor.next = next;
}

// Calls run.template operator()<kVectors>() for the cursor's lanes.
template <class Run>
void with_vectors(const RansCursor& cursor, const Run& run) {
  switch (cursor.lanes) {
    case 16: return run.template operator()<1>();
    case 32: return run.template operator()<2>();
    case 64: return run.template operator()<4>();
    default: return run.template operator()<8>();
  }
}

void rans_decode(const RansDecodeTable& table, RansCursor& cursor, size_t rows, uint8_t* symbols) {
  const __m512i mask = _mm512_set1_epi32(kRansSymbols - 1);
  with_vectors(cursor, [&]<size_t kVectors>() {
    decode_vectors<kVectors>(table, cursor, rows, [&](size_t i, size_t, __m512i symbol) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(symbols) + i,
                       _mm512_cvtepi32_epi8(_mm512_and_si512(symbol, mask)));
    });
  });
}

template <bool kStreaming>
void put_floats(float* out, size_t vector, __m512 values) {
  if constexpr (kStreaming) {
    _mm512_stream_ps(out + vector * 16, values);
  } else {
    _mm512_storeu_ps(out + vector * 16, values);
  }
}

template <bool kStreaming>
void ec4_values(const RansDecodeTable& table, const float* values, RansCursor& cursor, size_t rows,
                float* out) {
  const Table32 value(values);
  with_vectors(cursor, [&]<size_t kVectors>() {
    decode_vectors<kVectors>(table, cursor, rows, [&](size_t i, size_t, __m512i symbol) {
      put_floats<kStreaming>(out, i, value.float_at(symbol));
    });
  });
}

template <bool kStreaming>
void ec4t_values(const RansDecodeTable& table, const float* values, RansCursor& cursor, size_t rows,
                 float* out) {
  const Table32 even(values);
  const Table32 odd(values + kRansSymbols);
  // By the state and, in bit 3, the parity of the index.
  alignas(64) uint32_t next[16];
  for (uint32_t i = 0; i < 16; ++i) next[i] = trellis_next(i & 7, i >> 3);
  const __m512i after = _mm512_load_si512(next);
  const __m512i one = _mm512_set1_epi32(1);
  with_vectors(cursor, [&]<size_t kVectors>() {
    __m512i trellis[kVectors];
    for (size_t v = 0; v < kVectors; ++v) trellis[v] = _mm512_load_si512(&cursor.trellis[v * 16]);
    decode_vectors<kVectors>(table, cursor, rows, [&](size_t i, size_t v, __m512i symbol) {
      const __mmask16 is_odd = _mm512_test_epi32_mask(trellis[v], one);
      const __m512 chosen =
          _mm512_mask_blend_ps(is_odd, even.float_at(symbol), odd.float_at(symbol));
      put_floats<kStreaming>(out, i, chosen);
      // Symbol 15 is index 0: an index is odd where its symbol is even.
      const __m512i parity = _mm512_slli_epi32(_mm512_andnot_si512(symbol, one), 3);
      trellis[v] = _mm512_permutexvar_epi32(_mm512_or_si512(trellis[v], parity), after);
    });
    for (size_t v = 0; v < kVectors; ++v) _mm512_store_si512(&cursor.trellis[v * 16], trellis[v]);
  });
}

void ec4_decode(const RansDecodeTable& table, const float* values, RansCursor& cursor, size_t rows,
                float* out, bool streaming) {
  if (!streaming || reinterpret_cast<uintptr_t>(out) % 64 != 0)
    return ec4_values<false>(table, values, cursor, rows, out);
  ec4_values<true>(table, values, cursor, rows, out);
  _mm_sfence();
}

void ec4t_decode(const RansDecodeTable& table, const float* values, RansCursor& cursor, size_t rows,
                 float* out, bool streaming) {
  if (!streaming || reinterpret_cast<uintptr_t>(out) % 64 != 0)
    return ec4t_values<false>(table, values, cursor, rows, out);
  ec4t_values<true>(table, values, cursor, rows, out);
  _mm_sfence();
}

// ---- quantizing ----

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
    const __m512 chosen = _mm512_mask_blend_ps(odd, even, with_sign(magnitude, scaled));
    index = _mm512_mul_ps(_mm512_mask_blend_ps(odd, even, with_sign(twice, scaled)),
                          _mm512_set1_ps(0.5f));
    return chosen;
  }

 private:
  static __m512 with_sign(__m512 magnitude, __m512 value) {
    const __m512i sign = _mm512_and_si512(_mm512_castps_si512(value),
                                          _mm512_set1_epi32(static_cast<int>(0x80000000)));
    return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(magnitude), sign));
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
