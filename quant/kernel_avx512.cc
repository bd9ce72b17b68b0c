// AVX-512 F, BW, DQ, VL: 16 lanes, and the codebook in one register.
#include <immintrin.h>

#include "quant/bits-inl.h"
#include "quant/float_loops-inl.h"
#include "quant/int8_loops-inl.h"
#include "quant/kernels.h"
#include "quant/log_scale.h"
#include "quant/lossless_loops-inl.h"
#include "quant/quantize_avx512-inl.h"
#include "quant/rans_avx512-inl.h"
#include "quant/sparse_units-inl.h"
#include "quant/streaming-inl.h"

namespace ballast::quant {
namespace {

struct Simd {
  using Float = __m512;
  using Int = __m512i;
  using Mask = __mmask16;
  static constexpr size_t kLanes = 16;

  static Float all(float value) { return _mm512_set1_ps(value); }
  static Int all(int32_t value) { return _mm512_set1_epi32(value); }
  static Float load(const float* from) { return _mm512_load_ps(from); }
  static void store(float* to, Float value) { _mm512_store_ps(to, value); }
  static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float subtract(Float a, Float b) { return _mm512_sub_ps(a, b); }
  static Float multiply(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float minimum(Float a, Float b) { return _mm512_min_ps(a, b); }
  static Float maximum(Float a, Float b) { return _mm512_max_ps(a, b); }
  static Float absolute(Float a) { return _mm512_abs_ps(a); }
  static Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }
  static Int subtract(Int a, Int b) { return _mm512_sub_epi32(a, b); }
  static Int minimum(Int a, Int b) { return _mm512_min_epi32(a, b); }
  static Int maximum(Int a, Int b) { return _mm512_max_epi32(a, b); }
  static Int both(Int a, Int b) { return _mm512_and_si512(a, b); }
  static Int either(Int a, Int b) { return _mm512_or_si512(a, b); }
  static Int exclusive(Int a, Int b) { return _mm512_xor_si512(a, b); }
  template <int kBits>
  static Int shift_left(Int a) {
    return _mm512_slli_epi32(a, kBits);
  }
  template <int kBits>
  static Int shift_right(Int a) {
    return _mm512_srli_epi32(a, kBits);
  }
  static Int bits(Float a) { return _mm512_castps_si512(a); }
  static Float floats(Int a) { return _mm512_castsi512_ps(a); }
  static Float gather(const float* table, Int index) {
    return _mm512_i32gather_ps(index, table, sizeof(float));
  }
  static Mask less(Float a, Float b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
  static Mask less_equal(Float a, Float b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
  // a where the mask is set, else 0
  static Float keep(Mask mask, Float a) { return _mm512_maskz_mov_ps(mask, a); }
  // a where the mask is set, else b
  static Float select(Mask mask, Float a, Float b) { return _mm512_mask_blend_ps(mask, b, a); }
  static Int select(Mask mask, Int a, Int b) { return _mm512_mask_blend_epi32(mask, b, a); }
  // One more where the mask is set
  static Int count(Int a, Mask mask) { return _mm512_mask_add_epi32(a, mask, a, all(1)); }
  static void store_bytes(uint8_t* to, Int a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(a));
  }
  // Quad k lies k x stride after the first.
  static Float load_quads(const float* from, size_t stride) {
    Float quads = _mm512_castps128_ps512(_mm_loadu_ps(from));
    quads = _mm512_insertf32x4(quads, _mm_loadu_ps(from + stride), 1);
    quads = _mm512_insertf32x4(quads, _mm_loadu_ps(from + 2 * stride), 2);
    return _mm512_insertf32x4(quads, _mm_loadu_ps(from + 3 * stride), 3);
  }
  static void store_quads(uint8_t* to, size_t stride, Float quads) {
    _mm_storeu_ps(reinterpret_cast<float*>(to), _mm512_castps512_ps128(quads));
    _mm_storeu_ps(reinterpret_cast<float*>(to + stride), _mm512_extractf32x4_ps(quads, 1));
    _mm_storeu_ps(reinterpret_cast<float*>(to + 2 * stride), _mm512_extractf32x4_ps(quads, 2));
    _mm_storeu_ps(reinterpret_cast<float*>(to + 3 * stride), _mm512_extractf32x4_ps(quads, 3));
  }
  // Transposes the 4 x 4 values of each quad position.
  static void transpose_quads(Float (&rows)[4]) {
    const __m512d low01 = _mm512_castps_pd(_mm512_unpacklo_ps(rows[0], rows[1]));
    const __m512d low23 = _mm512_castps_pd(_mm512_unpacklo_ps(rows[2], rows[3]));
    const __m512d high01 = _mm512_castps_pd(_mm512_unpackhi_ps(rows[0], rows[1]));
    const __m512d high23 = _mm512_castps_pd(_mm512_unpackhi_ps(rows[2], rows[3]));
    rows[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23));
    rows[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23));
    rows[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23));
    rows[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23));
  }
};

class LaneQuantizer {
 public:
  explicit LaneQuantizer(const EncodeTable& table)
      : value_(_mm512_load_ps(table.value.data())),
        last_(_mm512_load_ps(table.midpoint.data())),
        by_two_(_mm512_permutexvar_ps(plus(1), last_)),
        by_four_(_mm512_permutexvar_ps(plus(3), last_)),
        middle_(_mm512_set1_ps(table.midpoint[7])) {}

  // Binary search: the code is known to lie in [code, code + 16), then + 8, 4, 2, 1.
  __m512i code(__m512 t) const {
    __m512i code = _mm512_maskz_set1_epi32(reached(t, middle_), 8);
    code = step<4>(t, by_four_, code);
    code = step<2>(t, by_two_, code);
    return step<1>(t, last_, code);
  }
  __m512 entry(__m512i code) const { return _mm512_permutexvar_ps(code, value_); }
  __m512 nearest(__m512 t) const { return entry(code(t)); }

 private:
  static __m512i plus(int offset) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_add_epi32(lane, _mm512_set1_epi32(offset));
  }
  static __mmask16 reached(__m512 t, __m512 midpoint) {
    return _mm512_cmp_ps_mask(t, midpoint, _CMP_GE_OQ);
  }
  template <int kStep>
  static __m512i step(__m512 t, __m512 midpoints, __m512i code) {
    const __mmask16 upper = reached(t, _mm512_permutexvar_ps(code, midpoints));
    return _mm512_mask_add_epi32(code, upper, code, _mm512_set1_epi32(kStep));
  }

  __m512 value_;
  __m512 last_;     // the midpoint above code i
  __m512 by_two_;   // above i + 1
  __m512 by_four_;  // above i + 3
  __m512 middle_;
};

}  // namespace
}  // namespace ballast::quant

#include "quant/int4_encode-inl.h"

namespace ballast::quant {
namespace {

__mmask16 first_lanes(size_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xffff : (1U << count) - 1);
}

void f16_to_f32(const uint16_t* from, float* to, size_t count) {
  for (size_t i = 0; i < count; i += 16) {
    const __mmask16 lanes = first_lanes(count - i);
    const __m512 value = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, from + i));
    _mm512_mask_storeu_ps(to + i, lanes, value);
  }
}

void f32_to_f16(const float* from, uint16_t* to, size_t count) {
  for (size_t i = 0; i < count; i += 16) {
    const __mmask16 lanes = first_lanes(count - i);
    const __m512 value = _mm512_maskz_loadu_ps(lanes, from + i);
    _mm256_mask_storeu_epi16(to + i, lanes, _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
  }
}

// What the codes of a group stand for. A scale costs one multiplication for the whole codebook.
class ValuesOneByOne {
 public:
  ValuesOneByOne(const DecodeTable& table, const uint8_t* scales)
      : table_(table), scales_(scales) {}

  __m512 of(size_t group) const {
    const uint8_t scale = scales_[group];
    return _mm512_mul_ps(_mm512_set1_ps(table_.magnitude[scale]),
                         _mm512_load_ps(table_.value[scale >> 7].data()));
  }

 private:
  const DecodeTable& table_;
  const uint8_t* scales_;
};

// The same for many groups. One by one, the look-ups of their scales would take as long as all the
// rest; here they are computed side by side, with their signs.
template <size_t kGroups>
class ValuesSideBySide {
 public:
  ValuesSideBySide(const DecodeTable& table, const uint8_t* scales)
      : codebook_(_mm512_load_ps(table.value[0].data())),
        zero_(_mm512_mask_blend_ps(_mm512_cmp_ps_mask(codebook_, _mm512_setzero_ps(), _CMP_EQ_OQ),
                                   _mm512_set1_ps(-0.0f), _mm512_setzero_ps())) {
    const __m512 octave = _mm512_load_ps(table.magnitude.data());
    for (size_t i = 0; i < kGroups; i += 16) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(scales + i));
      _mm512_store_ps(scales_.data() + i, scales_of(_mm512_cvtepu8_epi32(bytes), octave));
    }
  }

  // The addition makes +0 of what the entry 0 gives, and leaves all others as they are.
  __m512 of(size_t group) const {
    return _mm512_fmadd_ps(_mm512_set1_ps(scales_[group]), codebook_, zero_);
  }

 private:
  // The lower bits of a step choose from an octave, and the upper ones count octaves, which the
  // exponent takes without rounding.
  static __m512 scales_of(__m512i bytes, __m512 octave) {
    const __m512i step = _mm512_and_si512(bytes, _mm512_set1_epi32(kZeroScale));
    const __mmask16 some = _mm512_cmpneq_epi32_mask(step, _mm512_set1_epi32(kZeroScale));
    const __m512i octaves = _mm512_slli_epi32(_mm512_srli_epi32(step, 4), 23);
    const __m512i first = _mm512_castps_si512(_mm512_permutexvar_ps(step, octave));
    const __m512i sign = _mm512_slli_epi32(_mm512_srli_epi32(bytes, 7), 31);
    return _mm512_castsi512_ps(_mm512_or_si512(_mm512_maskz_sub_epi32(some, first, octaves), sign));
  }

  __m512 codebook_;
  __m512 zero_;
  alignas(64) std::array<float, kGroups> scales_;
};

// Look-up tables of 32 values of 16 bits: the same 16 twice, or those of two groups.
struct F16 {
  static __m512i twice(__m512 values) { return _mm512_broadcast_i64x4(narrow(values)); }
  static __m512i pair(__m512 first, __m512 second) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(narrow(first)), narrow(second), 1);
  }

 private:
  static __m256i narrow(__m512 values) {
    return _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT);
  }
};

struct BF16 {
  static __m512i twice(__m512 values) {
    return _mm512_permutexvar_epi16(upper_halves(), rounded(values));
  }
  static __m512i pair(__m512 first, __m512 second) {
    return _mm512_mask_blend_epi32(0xff00, twice(first), twice(second));
  }

 private:
  // The upper 16 bits of each lane are the result.
  static __m512i rounded(__m512 values) {
    const __m512i bits = _mm512_castps_si512(values);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
    return _mm512_add_epi32(bits, half);
  }
  static __m512i upper_halves() {
    const __m256i odd =
        _mm256_setr_epi16(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    return _mm512_broadcast_i64x4(odd);
  }
};

// A look-up ignores the upper bits of an index, so the low codes of a byte need no mask.
struct AsF32 {
  static constexpr size_t kUnitVectors = 4;

  template <size_t kGroup, bool kStreaming, class Values>
  static void decode(const Values& values, const uint8_t* codes, size_t units, __m512i* out) {
    constexpr size_t kQuarter = kUnitValues / 4;
#pragma clang loop unroll_count(4)
    for (size_t unit = 0; unit < units; ++unit) {
      const auto* from = reinterpret_cast<const __m128i*>(codes + unit * kUnitCodeBytes);
      if constexpr (kStreaming) fetch_ahead(from);
      // Before the first store, which for all the compiler knows might change what is read here.
      __m512 group[kUnitValues / kGroup];
      for (size_t i = 0; i < kUnitValues / kGroup; ++i)
        group[i] = values.of(unit * kUnitValues / kGroup + i);
      __m512i index[4];
      for (size_t half = 0; half < 2; ++half) {
        index[half] = _mm512_cvtepu8_epi32(_mm_loadu_si128(from + half));
        index[half + 2] = _mm512_srli_epi32(index[half], 4);
      }
      for (size_t quarter = 0; quarter < 4; ++quarter) {
        const __m512 found =
            _mm512_permutexvar_ps(index[quarter], group[quarter * kQuarter / kGroup]);
        put<kStreaming>(out, unit * 4 + quarter, _mm512_castps_si512(found));
      }
    }
  }
};

template <class Half>
struct As16 {
  static constexpr size_t kUnitVectors = 2;

  template <size_t kGroup, bool kStreaming, class Values>
  static void decode(const Values& values, const uint8_t* codes, size_t units, __m512i* out) {
    constexpr size_t kHalf = kUnitValues / 2;
    // Lanes 16 to 31 look into the second group.
    const __m512i upper = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(16), 1);
    for (size_t unit = 0; unit < units; ++unit) {
      const auto* from = reinterpret_cast<const __m256i*>(codes + unit * kUnitCodeBytes);
      if constexpr (kStreaming) fetch_ahead(from);
      const __m512i pairs = _mm512_cvtepu8_epi16(_mm256_loadu_si256(from));
      for (size_t half = 0; half < 2; ++half) {
        const size_t group = (unit * kUnitValues + half * kHalf) / kGroup;
        __m512i index = half == 0 ? pairs : _mm512_srli_epi16(pairs, 4);
        __m512i found;
        if constexpr (kGroup == 16) {
          index = _mm512_or_si512(_mm512_and_si512(index, _mm512_set1_epi16(15)), upper);
          found = Half::pair(values.of(group), values.of(group + 1));
        } else {
          found = Half::twice(values.of(group));
        }
        put<kStreaming>(out, unit * 2 + half, _mm512_permutexvar_epi16(index, found));
      }
    }
  }
};

template <class As, size_t kGroup, bool kStreaming>
void decode_units(const DecodeTable& table, PackedUnits packed, __m512i* out) {
  constexpr size_t kBatchUnits = 64;
  constexpr size_t kGroups = kBatchUnits * kUnitValues / kGroup;
  for (; packed.units >= kBatchUnits; packed.units -= kBatchUnits) {
    const ValuesSideBySide<kGroups> values(table, packed.scales);
    As::template decode<kGroup, kStreaming>(values, packed.codes, kBatchUnits, out);
    packed.scales += kGroups;
    packed.codes += kBatchUnits * kUnitCodeBytes;
    out += kBatchUnits * As::kUnitVectors;
  }
  const ValuesOneByOne values(table, packed.scales);
  As::template decode<kGroup, kStreaming>(values, packed.codes, packed.units, out);
}

template <class As, bool kStreaming>
void decode_groups(const DecodeTable& table, PackedUnits packed, void* out) {
  auto* to = static_cast<__m512i*>(out);
  switch (packed.group) {
    case 16: return decode_units<As, 16, kStreaming>(table, packed, to);
    case 32: return decode_units<As, 32, kStreaming>(table, packed, to);
    default: return decode_units<As, 64, kStreaming>(table, packed, to);
  }
}

template <class As>
void int4_to(const DecodeTable& table, PackedUnits packed, void* out, bool streaming) {
  if (!may_stream(out, streaming)) return decode_groups<As, false>(table, packed, out);
  decode_groups<As, true>(table, packed, out);
  _mm_sfence();
}

template <bool kStreaming>
void int8_groups(const Int8Magnitudes& magnitudes, const uint8_t* scales, const int8_t* codes,
                 size_t groups, float* out) {
  for (size_t group = 0; group < groups; ++group) {
    const __m512 magnitude = _mm512_set1_ps(magnitudes[scales[group]]);
    const auto* from = reinterpret_cast<const __m128i*>(codes + group * kInt8GroupValues);
    if constexpr (kStreaming) fetch_ahead(from);
    for (size_t half = 0; half < 2; ++half) {
      const __m512i numbers = _mm512_cvtepi8_epi32(_mm_loadu_si128(from + half));
      const __m512 values = _mm512_mul_ps(magnitude, _mm512_cvtepi32_ps(numbers));
      put<kStreaming>(out, group * 2 + half, _mm512_castps_si512(values));
    }
  }
}

void int8_decode(const Int8Magnitudes& magnitudes, const uint8_t* scales, const int8_t* codes,
                 size_t groups, float* out, bool streaming) {
  const auto decode = may_stream(out, streaming) ? int8_groups<true> : int8_groups<false>;
  decode(magnitudes, scales, codes, groups, out);
}

size_t translate(const uint8_t* table, const uint8_t* symbols, size_t count, uint8_t* to) {
  const auto* halves = reinterpret_cast<const __m128i*>(table);
  const __m512i low = _mm512_broadcast_i32x4(_mm_loadu_si128(halves));
  const __m512i high = _mm512_broadcast_i32x4(_mm_loadu_si128(halves + 1));
  size_t last = 0;
  for (size_t i = 0; i < count; i += 64) {
    const size_t left = count - i;
    const __mmask64 lanes = left >= 64 ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
    const __m512i symbol = _mm512_maskz_loadu_epi8(lanes, symbols + i);
    const __mmask64 upper = _mm512_test_epi8_mask(symbol, _mm512_set1_epi8(16));
    const __m512i byte =
        _mm512_mask_shuffle_epi8(_mm512_shuffle_epi8(low, symbol), upper, high, symbol);
    _mm512_mask_storeu_epi8(to + i, lanes, byte);
    last += __builtin_popcountll(_mm512_cmpeq_epi8_mask(symbol, _mm512_set1_epi8(31)));
  }
  return last;
}

// Loads, and keeps the compiler from making one instruction of this and an expansion: that is many
// times slower than the two on some CPUs.
__m512i load_to_expand(const void* from) {
  __m512i values = _mm512_loadu_si512(from);
  asm("" : "+v"(values));
  return values;
}

template <bool kStreaming>
void expand(const uint8_t* bitmap, size_t units, const float* values, float* out) {
  for (size_t unit = 0; unit < units; ++unit) {
    const uint64_t word = load_word(bitmap + unit * kUnitBitmapBytes);
    const auto part = [&](size_t i, uint64_t before) {
      const auto places = static_cast<__mmask16>(word >> 16 * i);
      const __m512i next = load_to_expand(values + ones_in(before));
      put<kStreaming>(out, unit * 4 + i, _mm512_maskz_expand_epi32(places, next));
    };
    part(0, 0);
    part(1, word << 48);
    part(2, word << 32);
    part(3, word << 16);
    values += ones_in(word);
  }
}

// By way of 32 bits: the instruction for 16 is in VBMI2.
template <bool kStreaming>
void expand(const uint8_t* bitmap, size_t units, const uint16_t* values, uint16_t* out) {
  for (size_t unit = 0; unit < units; ++unit) {
    const uint64_t word = load_word(bitmap + unit * kUnitBitmapBytes);
    const auto part = [&](size_t i, uint64_t before) {
      const auto* next = reinterpret_cast<const __m256i*>(values + ones_in(before));
      const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(next));
      const auto places = static_cast<__mmask16>(word >> 16 * i);
      return _mm512_cvtepi32_epi16(_mm512_maskz_expand_epi32(places, wide));
    };
    const auto pair = [](__m256i low, __m256i high) {
      return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    };
    put<kStreaming>(out, unit * 2, pair(part(0, 0), part(1, word << 48)));
    put<kStreaming>(out, unit * 2 + 1, pair(part(2, word << 32), part(3, word << 16)));
    values += ones_in(word);
  }
}

template <class Word, DecodeFn kDecode>
void sparse4_to(const DecodeTable& table, const SparseUnits& sparse, void* out, bool streaming) {
  auto* to = static_cast<Word*>(out);
  const auto decode = [&](PackedUnits packed, Word* values) {
    kDecode(table, packed, values, false);
  };
  if (!may_stream(out, streaming)) {
    return decode_sparse<Word>(sparse, decode, [&](auto bitmap, auto units, auto values, auto at) {
      expand<false>(bitmap, units, values, to + at * kUnitValues);
    });
  }
  decode_sparse<Word>(sparse, decode, [&](auto bitmap, auto units, auto values, auto at) {
    expand<true>(bitmap, units, values, to + at * kUnitValues);
  });
  _mm_sfence();
}

}  // namespace

const Kernel& avx512_kernel() {
  static constexpr Kernel kKernel{
      .name = "avx512",
      .int4_to_f32 = int4_to<AsF32>,
      .int4_to_f16 = int4_to<As16<F16>>,
      .int4_to_bf16 = int4_to<As16<BF16>>,
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
      .ec4_to_32 = ec4_decode<FloatValues>,
      .ec4_to_16 = ec4_decode<HalfValues>,
      .ec4t_to_32 = ec4t_decode<FloatValues>,
      .ec4t_to_16 = ec4t_decode<HalfValues>,
      .ec4_quantize = ec4_quantize,
      .ec4t_quantize = ec4t_quantize,
      .stream = stream,
      .int8 = {int8_decode, int8_encode},
      .lossless = lossless_kernel(translate),
      .count_ones = count_ones,
      .sparse4_to_f32 = sparse4_to<float, int4_to<AsF32>>,
      .sparse4_to_f16 = sparse4_to<uint16_t, int4_to<As16<F16>>>,
      .sparse4_to_bf16 = sparse4_to<uint16_t, int4_to<As16<BF16>>>,
  };
  return kKernel;
}

}  // namespace ballast::quant
