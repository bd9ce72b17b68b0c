// The entropy coder of rans_loops-inl.h for AVX-512: sixteen lanes in a vector, the tables in
// registers.
#pragma once

#include <immintrin.h>

#include "quant/kernels.h"
#include "quant/rans.h"
#include "quant/streaming-inl.h"
#include "quant/trellis.h"

namespace ballast::quant {
namespace {

static_assert(kRansVectorLanes == 16);

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
    const __m512 estimate = _mm512_mul_ps(_mm512_cvtepu32_ps(state), reciprocal_.float_at(symbol));
    __m512i quotient = _mm512_cvttps_epi32(estimate);
    __m512i rest = _mm512_sub_epi32(state, _mm512_mullo_epi32(quotient, frequency));
    const __mmask16 over = _mm512_cmpge_epi32_mask(rest, frequency);
    quotient = _mm512_mask_add_epi32(quotient, over, quotient, _mm512_set1_epi32(1));
    rest = _mm512_mask_sub_epi32(rest, over, rest, frequency);
    const __m512i position = _mm512_add_epi32(start_.at(symbol), rest);
    const __m512i slot = slots(_mm512_cvtepi32_epi16(position));
    return _mm512_or_si512(_mm512_slli_epi32(quotient, kRansTotalBits), slot);
  }

 private:
  // Loads one by one take less time than a gather.
  __m512i slots(__m256i positions) const {
    const __m128i low = eight_slots(_mm256_castsi256_si128(positions));
    const __m128i high = eight_slots(_mm256_extracti128_si256(positions, 1));
    return _mm512_cvtepu16_epi32(_mm256_set_m128i(high, low));
  }
  __m128i eight_slots(__m128i positions) const {
    const auto a = static_cast<uint64_t>(_mm_cvtsi128_si64(positions));
    const auto b = static_cast<uint64_t>(_mm_extract_epi64(positions, 1));
    return _mm_setr_epi16(slot(a), slot(a >> 16), slot(a >> 32), slot(a >> 48), slot(b),
                          slot(b >> 16), slot(b >> 32), slot(b >> 48));
  }
  int16_t slot(uint64_t position) const { return static_cast<int16_t>(slots_[position & 0xffff]); }

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

// The bits that one of a state's is in, as it is not below kRansLowest.
__m512i upper_bits() { return _mm512_set1_epi32(-static_cast<int>(kRansLowest)); }

// The lower seven bits of the slot, in the place of the limit, and enough ones not to be less than
// the limit with what lies below it.
__m512i place_of_limit(__m512i state) {
#ifdef __AVX512VBMI2__
  return _mm512_shldi_epi32(state, upper_bits(), 25);
#else
  return _mm512_or_si512(_mm512_slli_epi32(state, 25), _mm512_set1_epi32((1 << 25) - 1));
#endif
}

// The next words of a stream for these lanes, and 0 for the others.
__m512i take_words(__mmask16 lanes, const uint16_t*& next) {
  const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(next));
  next += __builtin_popcount(lanes);
#ifdef __AVX512VBMI2__
  return _mm512_cvtepu16_epi32(_mm256_maskz_expand_epi16(lanes, words));
#else
  return _mm512_maskz_expand_epi32(lanes, _mm512_cvtepu16_epi32(words));
#endif
}

class LaneDecoder {
 public:
  explicit LaneDecoder(const RansDecodeTable& table)
      : own_(table.own.data()), alias_(table.alias.data()) {}

  // The symbol (in the lowest five bits) and the state behind it.
  __m512i decode(__m512i& state, const uint16_t*& next) const {
    const __m512i bucket = _mm512_srli_epi32(state, 7);
    const __m512i own = own_.at(bucket);
    const __m512i alias = alias_.at(bucket);
    const __mmask16 other = _mm512_cmpge_epu32_mask(place_of_limit(state), own);
    const __m512i entry = _mm512_mask_mov_epi32(own, other, alias);
    const __m512i symbol = _mm512_mask_srli_epi32(bucket, other, alias, 25);
    const __m512i mask = _mm512_set1_epi32(0xfff);
    const __m512i frequency = _mm512_and_si512(_mm512_srli_epi32(entry, 12), mask);
    const __m512i position = _mm512_and_si512(_mm512_add_epi32(state, entry), mask);
    const __m512i quotient = _mm512_srli_epi32(state, kRansTotalBits);
    const __m512i x = _mm512_add_epi32(_mm512_mullo_epi32(frequency, quotient), position);
    const __mmask16 empty = _mm512_testn_epi32_mask(x, upper_bits());
    const __m512i word = take_words(empty, next);
    state = _mm512_mask_or_epi32(x, empty, _mm512_slli_epi32(x, 16), word);
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
    fetch_ahead(next);  // a row of 128 lanes takes about a cache line of words
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

// What symbols stand for: 32 floats.
class FloatValues {
 public:
  using Word = float;

  explicit FloatValues(const float* values) : table_(values) {}
  __m512i at(__m512i symbol) const { return table_.at(symbol); }
  template <bool kStreaming>
  static void put(float* out, size_t vector, __m512i values) {
    quant::put<kStreaming>(out, vector, values);
  }

 private:
  Table32 table_;
};

// 32 words of 16 bits. One looked up is in the lower half of its lane.
class HalfValues {
 public:
  using Word = uint16_t;

  explicit HalfValues(const uint16_t* values) : words_(_mm512_load_si512(values)) {}
  // A look-up among 32 ignores the upper bits of an index.
  __m512i at(__m512i symbol) const { return _mm512_permutexvar_epi16(symbol, words_); }
  template <bool kStreaming>
  static void put(uint16_t* out, size_t vector, __m512i values) {
    quant::put<kStreaming>(out, vector, _mm512_cvtepi32_epi16(values));
  }

 private:
  __m512i words_;
};

template <class Values, bool kStreaming>
void ec4_values(const RansDecodeTable& table, const Values& value, RansCursor& cursor, size_t rows,
                typename Values::Word* out) {
  with_vectors(cursor, [&]<size_t kVectors>() {
    decode_vectors<kVectors>(table, cursor, rows, [&](size_t i, size_t, __m512i symbol) {
      Values::template put<kStreaming>(out, i, value.at(symbol));
    });
  });
}

// The trellis' states of kVectors vectors. A state has its bit 0 as bit 31 too, where it makes a
// mask.
template <size_t kVectors>
class TrellisStates {
 public:
  explicit TrellisStates(const uint32_t* states) {
    // By the state and, in bit 3, bit 0 of the symbol. Symbol 15 is index 0: an index is odd where
    // its symbol is even.
    alignas(64) uint32_t next[16];
    for (uint32_t i = 0; i < 16; ++i) {
      const uint32_t state = trellis_next(i & 7, ~i >> 3 & 1);
      next[i] = state | state << 31;
    }
    after_ = _mm512_load_si512(next);
    for (size_t v = 0; v < kVectors; ++v) {
      const __m512i state = _mm512_load_si512(states + v * 16);
      state_[v] = _mm512_or_si512(state, _mm512_slli_epi32(state, 31));
    }
  }
  void store(uint32_t* states) const {
    const __m512i bits = _mm512_set1_epi32(kTrellisStates - 1);
    for (size_t v = 0; v < kVectors; ++v) {
      _mm512_store_si512(states + v * 16, _mm512_and_si512(state_[v], bits));
    }
  }

  __mmask16 are_odd(size_t v) const { return _mm512_movepi32_mask(state_[v]); }
  void advance(size_t v, __m512i symbol) {
    // The upper bits do not matter.
    const __m512i both = _mm512_or_si512(state_[v], _mm512_slli_epi32(symbol, 3));
    state_[v] = _mm512_permutexvar_epi32(both, after_);
  }

 private:
  __m512i state_[kVectors];
  __m512i after_;
};

template <class Values, bool kStreaming>
void ec4t_values(const RansDecodeTable& table, const Values& even, const Values& odd,
                 RansCursor& cursor, size_t rows, typename Values::Word* out) {
  with_vectors(cursor, [&]<size_t kVectors>() {
    TrellisStates<kVectors> trellis(cursor.trellis.data());
    decode_vectors<kVectors>(table, cursor, rows, [&](size_t i, size_t v, __m512i symbol) {
      const __m512i chosen =
          _mm512_mask_blend_epi32(trellis.are_odd(v), even.at(symbol), odd.at(symbol));
      Values::template put<kStreaming>(out, i, chosen);
      trellis.advance(v, symbol);
    });
    trellis.store(cursor.trellis.data());
  });
}

template <class Values, class Word = typename Values::Word>
void ec4_decode(const RansDecodeTable& table, const Word* values, RansCursor& cursor, size_t rows,
                Word* out, bool streaming) {
  const auto decode =
      may_stream(out, streaming) ? ec4_values<Values, true> : ec4_values<Values, false>;
  decode(table, Values(values), cursor, rows, out);
}

template <class Values, class Word = typename Values::Word>
void ec4t_decode(const RansDecodeTable& table, const Word* values, RansCursor& cursor, size_t rows,
                 Word* out, bool streaming) {
  const auto decode =
      may_stream(out, streaming) ? ec4t_values<Values, true> : ec4t_values<Values, false>;
  decode(table, Values(values), Values(values + kRansSymbols), cursor, rows, out);
}

}  // namespace
}  // namespace ballast::quant
