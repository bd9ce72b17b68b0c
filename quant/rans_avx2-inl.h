// The entropy coder of rans_loops-inl.h for AVX2, 32 lanes at once (byte_tables_avx2-inl.h).
#pragma once

#include <immintrin.h>

#include "quant/byte_tables_avx2-inl.h"
#include "quant/expand_tables-inl.h"
#include "quant/kernels.h"
#include "quant/rans.h"
#include "quant/streaming-inl.h"
#include "quant/trellis.h"

namespace ballast::quant {
namespace {

static_assert(kRansSymbols == 32);

// Lanes are decoded in groups, whose bytes fill a vector. If there are 16, half of it is idle.
constexpr size_t kGroupLanes = 32;

// The states of a group of kWidth lanes, as lower and upper halves.
template <size_t kWidth>
struct States {
  void load(const uint32_t* states) {
    const auto* from = reinterpret_cast<const __m256i*>(states);
    const __m256i mask = _mm256_set1_epi32(0xffff);
    for (size_t k = 0; k < 2; ++k) {
      const __m256i lanes = _mm256_loadu_si256(from + k);
      const __m256i others =
          kWidth == kGroupLanes ? _mm256_loadu_si256(from + k + 2) : _mm256_setzero_si256();
      const __m256i a = _mm256_permute2x128_si256(lanes, others, 0x20);
      const __m256i b = _mm256_permute2x128_si256(lanes, others, 0x31);
      low.part[k] = _mm256_packus_epi32(_mm256_and_si256(a, mask), _mm256_and_si256(b, mask));
      high.part[k] = _mm256_packus_epi32(_mm256_srli_epi32(a, 16), _mm256_srli_epi32(b, 16));
    }
  }
  void store(uint32_t* states) const {
    auto* to = reinterpret_cast<__m256i*>(states);
    for (size_t k = 0; k < 2; ++k) {
      const __m256i a = _mm256_unpacklo_epi16(low.part[k], high.part[k]);
      const __m256i b = _mm256_unpackhi_epi16(low.part[k], high.part[k]);
      _mm256_storeu_si256(to + k, _mm256_permute2x128_si256(a, b, 0x20));
      if constexpr (kWidth == kGroupLanes)
        _mm256_storeu_si256(to + k + 2, _mm256_permute2x128_si256(a, b, 0x31));
    }
  }

  Words low;
  Words high;
};

// A bit for each lane whose mask is set.
template <size_t kWidth>
uint32_t lanes_of(const Words& mask) {
  const auto lanes =
      static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_packs_epi16(mask.part[0], mask.part[1])));
  if constexpr (kWidth == kGroupLanes) return lanes;
  return lanes & 0xffff;
}

// Calls run.template operator()<groups in a row, lanes of each>().
template <class Run>
auto with_groups(size_t lanes, const Run& run) {
  switch (lanes) {
    case 16: return run.template operator()<1, 16>();
    case 32: return run.template operator()<1, 32>();
    case 64: return run.template operator()<2, 32>();
    default: return run.template operator()<4, 32>();
  }
}

// ---- encoding ----

// For each set of eight lanes, where the words of these are: at the end of a vector, in order.
struct CompressTable {
  alignas(64) int8_t bytes[256][16];
};

consteval CompressTable make_compress_table() {
  CompressTable table{};
  for (size_t bits = 0; bits < 256; ++bits) {
    size_t place = 8;
    for (size_t lane = 8; lane-- > 0;) {
      if ((bits >> lane & 1) == 0) continue;
      --place;
      table.bytes[bits][2 * place] = static_cast<int8_t>(2 * lane);
      table.bytes[bits][2 * place + 1] = static_cast<int8_t>(2 * lane + 1);
    }
  }
  return table;
}
constexpr CompressTable kCompressTable = make_compress_table();

__m128i eight_words(const Words& words, size_t k) {
  const __m256i part = words.part[k % 2];
  return k < 2 ? _mm256_castsi256_si128(part) : _mm256_extracti128_si256(part, 1);
}

// Puts the words of these lanes before `out` and returns where they begin. What is written before
// them comes to be overwritten, as there is room for a word of every lane.
template <size_t kWidth>
uint16_t* put_words(const Words& words, uint32_t lanes, uint16_t* out) {
#pragma clang loop unroll(full)
  for (size_t k = kWidth / 8; k-- > 0;) {
    const uint32_t eight = lanes >> 8 * k & 255;
    const auto* places = reinterpret_cast<const __m128i*>(kCompressTable.bytes[eight]);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out - 8),
                     _mm_shuffle_epi8(eight_words(words, k), _mm_load_si128(places)));
    out -= __builtin_popcount(eight);
  }
  return out;
}

class LaneEncoder {
 public:
  explicit LaneEncoder(const RansEncodeTable& table)
      : frequency_([&](size_t i) { return table.frequency[i]; }),
        start_([&](size_t i) { return table.start[i]; }),
        reciprocal_([&](size_t i) { return __builtin_bit_cast(uint32_t, table.reciprocal[i]); }),
        slots_(table.slots.data()) {}

  // Returns where the words begin that it puts before `out`.
  template <size_t kWidth>
  uint16_t* encode(States<kWidth>& states, __m256i symbols, uint16_t* out) const {
    const Index index(symbols);
    const Words frequency = frequency_.at(index);
    const Words start = start_.at(index);
    const Planes<sizeof(float)> reciprocal = reciprocal_.at(index);
    Words full;
    for (size_t k = 0; k < 2; ++k) {
      const __m256i limit = _mm256_slli_epi16(frequency.part[k], 4);
      const __m256i high = states.high.part[k];
      full.part[k] = _mm256_cmpeq_epi16(_mm256_max_epu16(high, limit), high);
    }
    out = put_words<kWidth>(states.low, lanes_of<kWidth>(full), out);
    Words position;
#pragma clang loop unroll(full)
    for (size_t k = 0; k < 2; ++k) {
      __m256i& low = states.low.part[k];
      __m256i& high = states.high.part[k];
      low = _mm256_blendv_epi8(low, high, full.part[k]);
      high = _mm256_andnot_si256(full.part[k], high);
      position.part[k] =
          _mm256_add_epi16(start.part[k], divide(frequency.part[k], reciprocal.floats(2 * k),
                                                 reciprocal.floats(2 * k + 1), low, high));
    }
    for (size_t k = 0; k < 2; ++k) {
      const __m256i slot = slots<kWidth>(position.part[k]);
      states.low.part[k] = _mm256_or_si256(states.low.part[k], slot);
    }
    return out;
  }

 private:
  // Makes of each state quotient << 12, and returns the remainders.
  static __m256i divide(__m256i frequency, __m256 reciprocal0, __m256 reciprocal1, __m256i& low,
                        __m256i& high) {
    __m256i quotient0 =
        estimate(_mm256_unpacklo_epi16(low, _mm256_set1_epi16(kLowExponent)),
                 _mm256_unpacklo_epi16(high, _mm256_set1_epi16(kHighExponent)), reciprocal0);
    __m256i quotient1 =
        estimate(_mm256_unpackhi_epi16(low, _mm256_set1_epi16(kLowExponent)),
                 _mm256_unpackhi_epi16(high, _mm256_set1_epi16(kHighExponent)), reciprocal1);
    const __m256i mask = _mm256_set1_epi32(0xffff);
    __m256i quotient =
        _mm256_packus_epi32(_mm256_and_si256(quotient0, mask), _mm256_and_si256(quotient1, mask));
    __m256i rest = _mm256_sub_epi16(low, _mm256_mullo_epi16(quotient, frequency));
    // An estimate is the quotient or one less.
    const __m256i fits = _mm256_cmpgt_epi16(frequency, rest);
    const __m256i over = _mm256_xor_si256(fits, _mm256_set1_epi16(-1));
    rest = _mm256_sub_epi16(rest, _mm256_and_si256(over, frequency));
    quotient = _mm256_sub_epi16(quotient, over);
    quotient0 = _mm256_sub_epi32(quotient0, _mm256_unpacklo_epi16(over, over));
    quotient1 = _mm256_sub_epi32(quotient1, _mm256_unpackhi_epi16(over, over));
    low = _mm256_slli_epi16(quotient, kRansTotalBits);
    high = _mm256_packus_epi32(_mm256_srli_epi32(quotient0, 4), _mm256_srli_epi32(quotient1, 4));
    return rest;
  }

  // With these as upper halves, halves of a state become the floats 2^23 + low, 2^39 + 2^16 high.
  static constexpr int16_t kLowExponent = 0x4b00;
  static constexpr int16_t kHighExponent = 0x5300;

  static __m256i estimate(__m256i low, __m256i high, __m256 reciprocal) {
    const __m256 upper =
        _mm256_sub_ps(_mm256_castsi256_ps(high), _mm256_set1_ps(0x1p39f + 0x1p23f));
    const __m256 state = _mm256_add_ps(upper, _mm256_castsi256_ps(low));
    return _mm256_cvttps_epi32(_mm256_mul_ps(state, reciprocal));
  }

  template <size_t kWidth>
  __m256i slots(__m256i position) const {
    const __m128i first = eight_slots(_mm256_castsi256_si128(position));
    if constexpr (kWidth < kGroupLanes) return _mm256_zextsi128_si256(first);
    return _mm256_set_m128i(eight_slots(_mm256_extracti128_si256(position, 1)), first);
  }
  __m128i eight_slots(__m128i positions) const {
    const auto a = static_cast<uint64_t>(_mm_cvtsi128_si64(positions));
    const auto b = static_cast<uint64_t>(_mm_extract_epi64(positions, 1));
    return _mm_setr_epi16(slot(a), slot(a >> 16), slot(a >> 32), slot(a >> 48), slot(b),
                          slot(b >> 16), slot(b >> 32), slot(b >> 48));
  }
  int16_t slot(uint64_t position) const { return static_cast<int16_t>(slots_[position & 0xffff]); }

  WordTable frequency_;
  WordTable start_;
  FloatTable reciprocal_;
  const uint16_t* slots_;
};

template <size_t kWidth>
__m256i load_symbols(const uint8_t* symbols) {
  if constexpr (kWidth == kGroupLanes)
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(symbols));
  return _mm256_zextsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(symbols)));
}

size_t rans_encode(const RansEncodeTable& table, const uint8_t* symbols, size_t rows, size_t lanes,
                   uint32_t* states, uint16_t* end) {
  const LaneEncoder encoder(table);
  return with_groups(lanes, [&]<size_t kGroups, size_t kWidth>() {
    States<kWidth> state[kGroups];
    for (size_t g = 0; g < kGroups; ++g) state[g].load(states + g * kWidth);
    uint16_t* out = end;
    for (size_t i = rows * kGroups; i-- > 0;) {
      out = encoder.encode(state[i % kGroups], load_symbols<kWidth>(symbols + i * kWidth), out);
    }
    for (size_t g = 0; g < kGroups; ++g) state[g].store(states + g * kWidth);
    return static_cast<size_t>(end - out);
  });
}

// ---- decoding ----

// The next words of a stream for those lanes whose bit is set, and 0 for the others.
template <size_t kWidth>
Words take_words(uint32_t lanes, const uint16_t*& next) {
  const auto eight = [&](size_t k) {
    const uint32_t before = lanes & ((1U << 8 * k) - 1);
    const auto* words = reinterpret_cast<const __m128i*>(next + __builtin_popcount(before));
    const auto* places =
        reinterpret_cast<const __m128i*>(kExpandTables.bytes[lanes >> 8 * k & 255]);
    return _mm_shuffle_epi8(_mm_loadu_si128(words), _mm_load_si128(places));
  };
  Words words;
  if constexpr (kWidth == kGroupLanes) {
    words = {{_mm256_set_m128i(eight(2), eight(0)), _mm256_set_m128i(eight(3), eight(1))}};
  } else {
    words = {{_mm256_zextsi128_si256(eight(0)), _mm256_zextsi128_si256(eight(1))}};
  }
  next += __builtin_popcount(lanes);
  return words;
}

// By symbol. A symbol without slots in its own bucket has them in others.
struct Frequencies {
  explicit Frequencies(const RansDecodeTable& table) : of{} {
    for (size_t i = 0; i < kRansSymbols; ++i) {
      of[table.alias[i] >> 25] = table.alias[i] >> 12 & 0xfff;
    }
    for (size_t i = 0; i < kRansSymbols; ++i) {
      const uint32_t entry = table.own[i];
      of[i] = entry >> 25 > 0 ? entry >> 12 & 0xfff : of[i];
    }
  }
  uint32_t of[kRansSymbols];
};

class LaneDecoder {
 public:
  explicit LaneDecoder(const RansDecodeTable& table)
      : limit_([&](size_t i) { return table.own[i] >> 25; }),
        alias_([&](size_t i) { return table.alias[i] >> 25; }),
        // From -127 to 3967: the first slots of a bucket are its own.
        offset_([&](size_t i) {
          return ((table.alias[i] + kRansBucketSlots * (i + 1)) & 0xfff) - kRansBucketSlots;
        }),
        frequency_([frequency = Frequencies(table)](size_t i) { return frequency.of[i] * 16; }) {}

  // The symbols of a group, and the states behind them.
  template <size_t kWidth>
  __m256i decode(States<kWidth>& states, const uint16_t*& next) const {
    Words bucket;
    Words place;
    for (size_t k = 0; k < 2; ++k) {
      const __m256i low = states.low.part[k];
      bucket.part[k] = _mm256_and_si256(_mm256_srli_epi16(low, 7), _mm256_set1_epi16(31));
      place.part[k] = _mm256_and_si256(low, _mm256_set1_epi16(kRansBucketSlots - 1));
    }
    const __m256i own_symbol = pack(bucket);
    const Index index(own_symbol);
    const __m256i own = _mm256_cmpgt_epi8(limit_.at(index), pack(place));
    const __m256i symbol = _mm256_blendv_epi8(alias_.at(index), own_symbol, own);
    // The positions of a bucket's own symbol begin with this bucket.
    const Words offset = offset_.at(index.unless(own));
    const Words frequency = frequency_.at(Index(symbol));
    Words empty;
    for (size_t k = 0; k < 2; ++k) {
      const __m256i position = _mm256_add_epi16(place.part[k], offset.part[k]);
      empty.part[k] = advance(frequency.part[k], position, states.low.part[k], states.high.part[k]);
    }
    const Words words = take_words<kWidth>(lanes_of<kWidth>(empty), next);
    for (size_t k = 0; k < 2; ++k) {
      __m256i& low = states.low.part[k];
      __m256i& high = states.high.part[k];
      high = _mm256_blendv_epi8(high, low, empty.part[k]);
      low = _mm256_blendv_epi8(low, words.part[k], empty.part[k]);
    }
    return symbol;
  }

 private:
  static __m256i pack(const Words& words) {
    return _mm256_packus_epi16(words.part[0], words.part[1]);
  }

  // state = frequency * (state >> 12) + position, with a `frequency` that is 16 times as large.
  // Returns a mask of the states that need a word.
  static __m256i advance(__m256i frequency, __m256i position, __m256i& low, __m256i& high) {
    const __m256i top = _mm256_and_si256(low, _mm256_set1_epi16(static_cast<int16_t>(0xf000)));
    const __m256i addend = _mm256_add_epi16(_mm256_mulhi_epu16(frequency, top), position);
    low = _mm256_add_epi16(_mm256_mullo_epi16(frequency, high), addend);
    // -1 where the addition has no carry.
    const __m256i no_carry = _mm256_cmpeq_epi16(_mm256_max_epu16(low, addend), low);
    const __m256i ones = _mm256_set1_epi16(-1);
    const __m256i less_one = _mm256_add_epi16(_mm256_mulhi_epu16(frequency, high), no_carry);
    high = _mm256_sub_epi16(less_one, ones);
    return _mm256_cmpeq_epi16(less_one, ones);
  }

  ByteTable limit_;  // by bucket
  ByteTable alias_;
  WordTable offset_;     // what is added to a slot within its bucket for its position
  WordTable frequency_;  // by symbol, times 16
};

// Calls put(number of the group, number of the group within its row, symbols) for each.
template <size_t kGroups, size_t kWidth, class Put>
void decode_rows(const RansDecodeTable& table, RansCursor& cursor, size_t rows, const Put& put) {
  const LaneDecoder decoder(table);
  States<kWidth> states[kGroups];
  for (size_t g = 0; g < kGroups; ++g) states[g].load(&cursor.states[g * kWidth]);
  const uint16_t* next = cursor.next;
  for (size_t row = 0; row < rows; ++row) {
#pragma clang loop unroll(full)
    for (size_t g = 0; g < kGroups; ++g) {
      put(row * kGroups + g, g, decoder.decode(states[g], next));
    }
  }
  for (size_t g = 0; g < kGroups; ++g) states[g].store(&cursor.states[g * kWidth]);
  cursor.next = next;
}

void rans_decode(const RansDecodeTable& table, RansCursor& cursor, size_t rows, uint8_t* symbols) {
  with_groups(cursor.lanes, [&]<size_t kGroups, size_t kWidth>() {
    decode_rows<kGroups, kWidth>(table, cursor, rows, [&](size_t i, size_t, __m256i symbol) {
      uint8_t* to = symbols + i * kWidth;
      if constexpr (kWidth == kGroupLanes) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), symbol);
      } else {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(symbol));
      }
    });
  });
}

// Brings bytes into the order that makes unpacked floats follow each other, and back.
__m256i spread(__m256i bytes) {
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));
}
__m256i unspread(__m256i bytes) {
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// What symbols stand for: 32 floats.
class FloatValues {
 public:
  using Word = float;

  explicit FloatValues(const float* values)
      : table_([=](size_t i) { return __builtin_bit_cast(uint32_t, values[i]); }) {}
  // Bytes as at() and put() take them, and as they were.
  static __m256i arranged(__m256i bytes) { return spread(bytes); }
  static __m256i restored(__m256i bytes) { return unspread(bytes); }
  Planes<4> at(const Index& index) const { return table_.at(index); }
  template <bool kStreaming, size_t kWidth>
  static void put_group(float* out, const Planes<4>& planes) {
#pragma clang loop unroll(full)
    for (size_t i = 0; i < kWidth / 8; ++i) {
      put<kStreaming>(out, i, _mm256_castps_si256(planes.floats(i)));
    }
  }

 private:
  FloatTable table_;
};

// 32 words of 16 bits.
class HalfValues {
 public:
  using Word = uint16_t;

  explicit HalfValues(const uint16_t* values)
      : table_([=](size_t i) { return uint32_t{values[i]}; }) {}
  static __m256i arranged(__m256i bytes) { return bytes; }
  static __m256i restored(__m256i bytes) { return bytes; }
  Planes<2> at(const Index& index) const { return table_.at(index); }
  template <bool kStreaming, size_t kWidth>
  static void put_group(uint16_t* out, const Planes<2>& planes) {
    const Words words = unpack(planes.of[0], planes.of[1]);
    put<kStreaming>(out, 0, _mm256_permute2x128_si256(words.part[0], words.part[1], 0x20));
    if constexpr (kWidth == kGroupLanes)
      put<kStreaming>(out, 1, _mm256_permute2x128_si256(words.part[0], words.part[1], 0x31));
  }

 private:
  PlaneTable<sizeof(uint16_t)> table_;
};

template <class Values, bool kStreaming>
void ec4_values(const RansDecodeTable& table, const Values& value, RansCursor& cursor, size_t rows,
                typename Values::Word* out) {
  with_groups(cursor.lanes, [&]<size_t kGroups, size_t kWidth>() {
    decode_rows<kGroups, kWidth>(table, cursor, rows, [&](size_t i, size_t, __m256i symbol) {
      const Index index(Values::arranged(symbol));
      Values::template put_group<kStreaming, kWidth>(out + i * kWidth, value.at(index));
    });
  });
}

// The trellis' states of a group, as arranged bytes.
template <class Values, size_t kWidth>
__m256i load_trellis(const uint32_t* states) {
  alignas(32) uint8_t bytes[kGroupLanes] = {};
  for (size_t i = 0; i < kWidth; ++i) bytes[i] = static_cast<uint8_t>(states[i]);
  return Values::arranged(_mm256_load_si256(reinterpret_cast<const __m256i*>(bytes)));
}
template <class Values, size_t kWidth>
void store_trellis(__m256i arranged_states, uint32_t* states) {
  alignas(32) uint8_t bytes[kGroupLanes];
  _mm256_store_si256(reinterpret_cast<__m256i*>(bytes), Values::restored(arranged_states));
  for (size_t i = 0; i < kWidth; ++i) states[i] = bytes[i];
}

// By the state and, in bit 3, the lowest bit of the symbol. Symbol 15 is index 0: an index is odd
// where its symbol is even.
struct TrellisTable {
  alignas(16) uint8_t after[16];
};
consteval TrellisTable make_trellis_table() {
  TrellisTable table{};
  for (uint32_t i = 0; i < 16; ++i) {
    table.after[i] = static_cast<uint8_t>(trellis_next(i & 7, ~i >> 3 & 1));
  }
  return table;
}
constexpr TrellisTable kTrellisTable = make_trellis_table();

template <size_t kBytes>
Planes<kBytes> choose(const Planes<kBytes>& even, const Planes<kBytes>& odd, __m256i is_odd) {
  Planes<kBytes> chosen;
  for (size_t k = 0; k < kBytes; ++k)
    chosen.of[k] = _mm256_blendv_epi8(even.of[k], odd.of[k], is_odd);
  return chosen;
}

template <class Values, bool kStreaming>
void ec4t_values(const RansDecodeTable& table, const Values& even, const Values& odd,
                 RansCursor& cursor, size_t rows, typename Values::Word* out) {
  const __m256i after = _mm256_broadcastsi128_si256(
      _mm_load_si128(reinterpret_cast<const __m128i*>(kTrellisTable.after)));
  with_groups(cursor.lanes, [&]<size_t kGroups, size_t kWidth>() {
    __m256i trellis[kGroups];
    for (size_t g = 0; g < kGroups; ++g)
      trellis[g] = load_trellis<Values, kWidth>(&cursor.trellis[g * kWidth]);
    decode_rows<kGroups, kWidth>(table, cursor, rows, [&](size_t i, size_t g, __m256i symbol) {
      symbol = Values::arranged(symbol);
      const Index index(symbol);
      // The lowest bit of each byte becomes its sign, which is what chooses.
      const __m256i is_odd = _mm256_slli_epi16(trellis[g], 7);
      Values::template put_group<kStreaming, kWidth>(out + i * kWidth,
                                                     choose(even.at(index), odd.at(index), is_odd));
      const __m256i parity = _mm256_slli_epi16(_mm256_and_si256(symbol, _mm256_set1_epi8(1)), 3);
      trellis[g] = _mm256_shuffle_epi8(after, _mm256_or_si256(trellis[g], parity));
    });
    for (size_t g = 0; g < kGroups; ++g)
      store_trellis<Values, kWidth>(trellis[g], &cursor.trellis[g * kWidth]);
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
