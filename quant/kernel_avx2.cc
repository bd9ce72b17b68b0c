// AVX2 and F16C: 8 lanes; a look-up among 16 bytes decodes codes.
#include <immintrin.h>

#include "quant/bits-inl.h"
#include "quant/expand_tables-inl.h"
#include "quant/float_loops-inl.h"
#include "quant/int8_loops-inl.h"
#include "quant/kernels.h"
#include "quant/log_scale.h"
#include "quant/lossless_loops-inl.h"
#include "quant/quantize_avx2-inl.h"
#include "quant/rans_avx2-inl.h"
#include "quant/sparse_units-inl.h"
#include "quant/streaming-inl.h"

namespace ballast::quant {
namespace {

struct Simd {
  using Float = __m256;
  using Int = __m256i;
  using Mask = __m256;
  static constexpr size_t kLanes = 8;

  static Float all(float value) { return _mm256_set1_ps(value); }
  static Int all(int32_t value) { return _mm256_set1_epi32(value); }
  static Float load(const float* from) { return _mm256_load_ps(from); }
  static void store(float* to, Float value) { _mm256_store_ps(to, value); }
  static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Float subtract(Float a, Float b) { return _mm256_sub_ps(a, b); }
  static Float multiply(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float minimum(Float a, Float b) { return _mm256_min_ps(a, b); }
  static Float maximum(Float a, Float b) { return _mm256_max_ps(a, b); }
  static Float absolute(Float a) { return _mm256_andnot_ps(all(-0.0f), a); }
  static Int add(Int a, Int b) { return _mm256_add_epi32(a, b); }
  static Int subtract(Int a, Int b) { return _mm256_sub_epi32(a, b); }
  static Int minimum(Int a, Int b) { return _mm256_min_epi32(a, b); }
  static Int maximum(Int a, Int b) { return _mm256_max_epi32(a, b); }
  static Int both(Int a, Int b) { return _mm256_and_si256(a, b); }
  static Int either(Int a, Int b) { return _mm256_or_si256(a, b); }
  static Int exclusive(Int a, Int b) { return _mm256_xor_si256(a, b); }
  template <int kBits>
  static Int shift_left(Int a) {
    return _mm256_slli_epi32(a, kBits);
  }
  template <int kBits>
  static Int shift_right(Int a) {
    return _mm256_srli_epi32(a, kBits);
  }
  static Int bits(Float a) { return _mm256_castps_si256(a); }
  static Float floats(Int a) { return _mm256_castsi256_ps(a); }
  static Float gather(const float* table, Int index) {
    return _mm256_i32gather_ps(table, index, sizeof(float));
  }
  static Mask less(Float a, Float b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
  static Mask less_equal(Float a, Float b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
  // a where the mask is set, else 0
  static Float keep(Mask mask, Float a) { return _mm256_and_ps(mask, a); }
  // a where the mask is set, else b
  static Float select(Mask mask, Float a, Float b) { return _mm256_blendv_ps(b, a, mask); }
  static Int select(Mask mask, Int a, Int b) {
    return _mm256_blendv_epi8(b, a, _mm256_castps_si256(mask));
  }
  // One more where the mask is set
  static Int count(Int a, Mask mask) { return _mm256_sub_epi32(a, _mm256_castps_si256(mask)); }
  static void store_bytes(uint8_t* to, Int a) {
    const __m128i words =
        _mm_packus_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(words, words));
  }
  // Quad k lies k x stride after the first.
  static Float load_quads(const float* from, size_t stride) {
    return _mm256_set_m128(_mm_loadu_ps(from + stride), _mm_loadu_ps(from));
  }
  static void store_quads(uint8_t* to, size_t stride, Float quads) {
    _mm_storeu_ps(reinterpret_cast<float*>(to), _mm256_castps256_ps128(quads));
    _mm_storeu_ps(reinterpret_cast<float*>(to + stride), _mm256_extractf128_ps(quads, 1));
  }
  // Transposes the 4 x 4 values of each quad position.
  static void transpose_quads(Float (&rows)[4]) {
    const __m256d low01 = _mm256_castps_pd(_mm256_unpacklo_ps(rows[0], rows[1]));
    const __m256d low23 = _mm256_castps_pd(_mm256_unpacklo_ps(rows[2], rows[3]));
    const __m256d high01 = _mm256_castps_pd(_mm256_unpackhi_ps(rows[0], rows[1]));
    const __m256d high23 = _mm256_castps_pd(_mm256_unpackhi_ps(rows[2], rows[3]));
    rows[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(low01, low23));
    rows[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low01, low23));
    rows[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high01, high23));
    rows[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high01, high23));
  }
};

class LaneQuantizer {
 public:
  explicit LaneQuantizer(const EncodeTable& table)
      : low_(_mm256_load_ps(table.value.data())),
        high_(_mm256_load_ps(table.value.data() + 8)),
        eighths_(every<2>(table.midpoint.data(), 0)),
        quarters_(every<4>(table.midpoint.data(), 1)),
        halves_(every<8>(table.midpoint.data(), 3)),
        middle_(_mm256_set1_ps(table.midpoint[7])) {}

  // Binary search: each comparison gives the next bit of the code, from the top.
  __m256i code(__m256 t) const {
    __m256i code = Simd::count(_mm256_setzero_si256(), reached(t, middle_));
    code = step(t, halves_, code);
    code = step(t, quarters_, code);
    return step(t, eighths_, code);
  }
  __m256 entry(__m256i code) const {
    const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(code, 28));
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(low_, code),
                            _mm256_permutevar8x32_ps(high_, code), upper);
  }
  __m256 nearest(__m256 t) const { return entry(code(t)); }

 private:
  // The midpoints first, first + kStride, ...: those that a code of so many bits is followed by.
  template <size_t kStride>
  static __m256 every(const float* midpoints, size_t first) {
    alignas(32) float picked[8];
    for (size_t i = 0; i < 8; ++i) picked[i] = midpoints[(first + i * kStride) % 16];
    return _mm256_load_ps(picked);
  }
  static __m256 reached(__m256 t, __m256 midpoint) {
    return _mm256_cmp_ps(t, midpoint, _CMP_GE_OQ);
  }
  static __m256i step(__m256 t, __m256 midpoints, __m256i code) {
    const __m256 upper = reached(t, _mm256_permutevar8x32_ps(midpoints, code));
    return Simd::count(_mm256_add_epi32(code, code), upper);
  }

  __m256 low_;
  __m256 high_;
  __m256 eighths_;
  __m256 quarters_;
  __m256 halves_;
  __m256 middle_;
};

}  // namespace
}  // namespace ballast::quant

#include "quant/int4_encode-inl.h"

namespace ballast::quant {
namespace {

void f16_to_f32(const uint16_t* from, float* to, size_t count) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(halves));
  }
  for (; i < count; ++i) to[i] = _cvtsh_ss(from[i]);
}

void f32_to_f16(const float* from, uint16_t* to, size_t count) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), halves);
  }
  for (; i < count; ++i) to[i] = _cvtss_sh(from[i], _MM_FROUND_TO_NEAREST_INT);
}

constexpr size_t kQuarter = kUnitValues / 4;

template <bool kStreaming>
void decode_quarter(const DecodeTable& table, uint8_t scale, __m128i codes, size_t at, void* out) {
  const __m128i codebook =
      _mm_load_si128(reinterpret_cast<const __m128i*>(table.entry[scale >> 7].data()));
  const __m128i low = _mm_shuffle_epi8(codebook, codes);
  const __m128i high = _mm_unpackhi_epi64(low, low);
  const __m256 magnitude = _mm256_set1_ps(table.magnitude[scale]);
  const __m256 first = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(low));
  const __m256 second = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(high));
  put<kStreaming>(out, at * 2, _mm256_castps_si256(_mm256_mul_ps(magnitude, first)));
  put<kStreaming>(out, at * 2 + 1, _mm256_castps_si256(_mm256_mul_ps(magnitude, second)));
}

struct AsF32 {
  template <size_t kGroup, bool kStreaming>
  static void decode(const DecodeTable& table, PackedUnits packed, void* out) {
    const __m128i mask = _mm_set1_epi8(15);
    for (size_t unit = 0; unit < packed.units; ++unit) {
      const uint8_t* scales = packed.scales + unit * (kUnitValues / kGroup);
      const auto* codes = reinterpret_cast<const __m128i*>(packed.codes + unit * kUnitCodeBytes);
      for (size_t half = 0; half < 2; ++half) {
        const __m128i pairs = _mm_loadu_si128(codes + half);
        const __m128i low = _mm_and_si128(pairs, mask);
        const __m128i high = _mm_and_si128(_mm_srli_epi16(pairs, 4), mask);
        const size_t at = unit * 4 + half;
        decode_quarter<kStreaming>(table, scales[half * kQuarter / kGroup], low, at, out);
        decode_quarter<kStreaming>(table, scales[(half + 2) * kQuarter / kGroup], high, at + 2,
                                   out);
      }
    }
  }
};

struct F16 {
  static __m256i narrow(__m256 low, __m256 high) {
    return _mm256_set_m128i(_mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT),
                            _mm256_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT));
  }
};

struct BF16 {
  static __m256i narrow(__m256 low, __m256 high) {
    // The instruction packs each half of its operands by itself.
    const __m256i packed = _mm256_packus_epi32(rounded(low), rounded(high));
    return _mm256_permute4x64_epi64(packed, _MM_SHUFFLE(3, 1, 2, 0));
  }

 private:
  static __m256i rounded(__m256 values) {
    const __m256i bits = _mm256_castps_si256(values);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    return _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
  }
};

// What a group's codes stand for, as one table of lower and one of upper bytes.
struct ByteTables {
  __m128i low;
  __m128i high;
};

template <class Half>
ByteTables byte_tables(const DecodeTable& table, uint8_t scale) {
  const __m256 magnitude = _mm256_set1_ps(table.magnitude[scale]);
  const float* values = table.value[scale >> 7].data();
  const __m256i words = Half::narrow(_mm256_mul_ps(magnitude, _mm256_load_ps(values)),
                                     _mm256_mul_ps(magnitude, _mm256_load_ps(values + 8)));
  const __m128i first = _mm256_castsi256_si128(words);
  const __m128i second = _mm256_extracti128_si256(words, 1);
  const __m128i mask = _mm_set1_epi16(255);
  return {_mm_packus_epi16(_mm_and_si128(first, mask), _mm_and_si128(second, mask)),
          _mm_packus_epi16(_mm_srli_epi16(first, 8), _mm_srli_epi16(second, 8))};
}

template <class Half>
struct As16 {
  template <size_t kGroup, bool kStreaming>
  static void decode(const DecodeTable& table, PackedUnits packed, void* out) {
    const __m256i mask = _mm256_set1_epi8(15);
    for (size_t unit = 0; unit < packed.units; ++unit) {
      const uint8_t* scales = packed.scales + unit * (kUnitValues / kGroup);
      const auto* codes = reinterpret_cast<const __m256i*>(packed.codes + unit * kUnitCodeBytes);
      const __m256i pairs = _mm256_loadu_si256(codes);
      for (size_t half = 0; half < 2; ++half) {
        const uint8_t* scale = scales + half * 2 * kQuarter / kGroup;
        const ByteTables first = byte_tables<Half>(table, scale[0]);
        const ByteTables second = kGroup == 16 ? byte_tables<Half>(table, scale[1]) : first;
        const __m256i code =
            _mm256_and_si256(half == 0 ? pairs : _mm256_srli_epi16(pairs, 4), mask);
        const __m256i low = _mm256_shuffle_epi8(_mm256_set_m128i(second.low, first.low), code);
        const __m256i high = _mm256_shuffle_epi8(_mm256_set_m128i(second.high, first.high), code);
        // Eight words of each quarter, then the other eight.
        const __m256i lower = _mm256_unpacklo_epi8(low, high);
        const __m256i upper = _mm256_unpackhi_epi8(low, high);
        const size_t at = unit * 4 + half * 2;
        put<kStreaming>(out, at, _mm256_permute2x128_si256(lower, upper, 0x20));
        put<kStreaming>(out, at + 1, _mm256_permute2x128_si256(lower, upper, 0x31));
      }
    }
  }
};

template <class As, bool kStreaming>
void decode_groups(const DecodeTable& table, PackedUnits packed, void* out) {
  switch (packed.group) {
    case 16: return As::template decode<16, kStreaming>(table, packed, out);
    case 32: return As::template decode<32, kStreaming>(table, packed, out);
    default: return As::template decode<64, kStreaming>(table, packed, out);
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
    const __m256 magnitude = _mm256_set1_ps(magnitudes[scales[group]]);
    const int8_t* from = codes + group * kInt8GroupValues;
    for (size_t part = 0; part < 4; ++part) {
      const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + part * 8));
      const __m256 numbers = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
      put<kStreaming>(out, group * 4 + part,
                      _mm256_castps_si256(_mm256_mul_ps(magnitude, numbers)));
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
  const __m256i low = _mm256_broadcastsi128_si256(_mm_loadu_si128(halves));
  const __m256i high = _mm256_broadcastsi128_si256(_mm_loadu_si128(halves + 1));
  size_t last = 0;
  size_t i = 0;
  for (; i + 32 <= count; i += 32) {
    const __m256i symbol = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(symbols + i));
    // Bit 4 of a symbol becomes the sign that chooses the table.
    const __m256i upper = _mm256_slli_epi16(symbol, 3);
    const __m256i byte = _mm256_blendv_epi8(_mm256_shuffle_epi8(low, symbol),
                                            _mm256_shuffle_epi8(high, symbol), upper);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), byte);
    const __m256i is_last = _mm256_cmpeq_epi8(symbol, _mm256_set1_epi8(31));
    last += __builtin_popcount(static_cast<uint32_t>(_mm256_movemask_epi8(is_last)));
  }
  for (; i < count; ++i) {
    to[i] = table[symbols[i]];
    last += symbols[i] == 31 ? 1 : 0;
  }
  return last;
}

// Calls put(byte of the bitmap, its number, values before it).
template <class Put>
void for_each_byte(const uint8_t* bitmap, size_t units, const Put& put) {
  size_t taken = 0;
  for (size_t unit = 0; unit < units; ++unit) {
    const uint64_t word = load_word(bitmap + unit * kUnitBitmapBytes);
    for (size_t i = 0; i < kUnitBitmapBytes; ++i) {
      const uint64_t before = i == 0 ? 0 : word << (64 - 8 * i);
      put(word >> 8 * i & 255, unit * kUnitBitmapBytes + i, taken + ones_in(before));
    }
    taken += ones_in(word);
  }
}

template <bool kStreaming>
void expand(const uint8_t* bitmap, size_t units, const float* values, float* out) {
  for_each_byte(bitmap, units, [&](uint64_t bits, size_t at, size_t taken) {
    const auto* places = reinterpret_cast<const __m128i*>(kExpandTables.words[bits]);
    const __m256i index = _mm256_cvtepi8_epi32(_mm_loadl_epi64(places));
    const __m256 spread = _mm256_permutevar8x32_ps(_mm256_loadu_ps(values + taken), index);
    const __m256i none = _mm256_srai_epi32(index, 31);
    put<kStreaming>(out, at, _mm256_andnot_si256(none, _mm256_castps_si256(spread)));
  });
}

template <bool kStreaming>
void expand(const uint8_t* bitmap, size_t units, const uint16_t* values, uint16_t* out) {
  for_each_byte(bitmap, units, [&](uint64_t bits, size_t at, size_t taken) {
    const auto* places = reinterpret_cast<const __m128i*>(kExpandTables.bytes[bits]);
    const __m128i eight = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values + taken));
    const __m128i spread = _mm_shuffle_epi8(eight, _mm_load_si128(places));
    auto* to = reinterpret_cast<__m128i*>(out) + at;
    if constexpr (kStreaming) {
      _mm_stream_si128(to, spread);
    } else {
      _mm_storeu_si128(to, spread);
    }
  });
}

template <class Word, class As>
void sparse4_to(const DecodeTable& table, const SparseUnits& sparse, void* out, bool streaming) {
  auto* to = static_cast<Word*>(out);
  const auto decode = [&](PackedUnits packed, Word* values) {
    decode_groups<As, false>(table, packed, values);
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

const Kernel& avx2_kernel() {
  static constexpr Kernel kKernel{
      .name = "avx2",
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
      .sparse4_to_f32 = sparse4_to<float, AsF32>,
      .sparse4_to_f16 = sparse4_to<uint16_t, As16<F16>>,
      .sparse4_to_bf16 = sparse4_to<uint16_t, As16<BF16>>,
  };
  return kKernel;
}

}  // namespace ballast::quant
