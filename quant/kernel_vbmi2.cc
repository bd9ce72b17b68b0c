// AVX-512 with VBMI2: the kernel of kernel_avx512.cc, but values of 16 bits are spread at once, and
// the entropy decoder takes fewer instructions.
#include <immintrin.h>

#include "quant/bits-inl.h"
#include "quant/kernels.h"
#include "quant/rans_avx512-inl.h"
#include "quant/sparse_units-inl.h"
#include "quant/streaming-inl.h"

namespace ballast::quant {
namespace {

// As in kernel_avx512.cc: expanding from memory is slow on some CPUs.
__m512i load_to_expand(const void* from) {
  __m512i values = _mm512_loadu_si512(from);
  asm("" : "+v"(values));
  return values;
}

template <bool kStreaming>
void expand(const uint8_t* bitmap, size_t units, const uint16_t* values, uint16_t* out) {
  for (size_t unit = 0; unit < units; ++unit) {
    const uint64_t word = load_word(bitmap + unit * kUnitBitmapBytes);
    const auto lower = static_cast<__mmask32>(word);
    const auto upper = static_cast<__mmask32>(word >> 32);
    const __m512i second = load_to_expand(values + ones_in(lower));
    put<kStreaming>(out, unit * 2, _mm512_maskz_expand_epi16(lower, load_to_expand(values)));
    put<kStreaming>(out, unit * 2 + 1, _mm512_maskz_expand_epi16(upper, second));
    values += ones_in(word);
  }
}

void sparse4_to_16(DecodeFn int4, const DecodeTable& table, const SparseUnits& sparse, void* out,
                   bool streaming) {
  auto* to = static_cast<uint16_t*>(out);
  const auto decode = [&](PackedUnits packed, uint16_t* values) {
    int4(table, packed, values, false);
  };
  if (!may_stream(out, streaming)) {
    return decode_sparse<uint16_t>(sparse, decode,
                                   [&](auto bitmap, auto units, auto values, auto at) {
                                     expand<false>(bitmap, units, values, to + at * kUnitValues);
                                   });
  }
  decode_sparse<uint16_t>(sparse, decode, [&](auto bitmap, auto units, auto values, auto at) {
    expand<true>(bitmap, units, values, to + at * kUnitValues);
  });
  _mm_sfence();
}

void sparse4_to_f16(const DecodeTable& table, const SparseUnits& sparse, void* out,
                    bool streaming) {
  sparse4_to_16(avx512_kernel().int4_to_f16, table, sparse, out, streaming);
}

void sparse4_to_bf16(const DecodeTable& table, const SparseUnits& sparse, void* out,
                     bool streaming) {
  sparse4_to_16(avx512_kernel().int4_to_bf16, table, sparse, out, streaming);
}

Kernel make_kernel() {
  Kernel kernel = avx512_kernel();
  kernel.name = "vbmi2";
  kernel.rans_encode = rans_encode;
  kernel.rans_decode = rans_decode;
  kernel.ec4_to_32 = ec4_decode<FloatValues>;
  kernel.ec4_to_16 = ec4_decode<HalfValues>;
  kernel.ec4t_to_32 = ec4t_decode<FloatValues>;
  kernel.ec4t_to_16 = ec4t_decode<HalfValues>;
  kernel.sparse4_to_f16 = sparse4_to_f16;
  kernel.sparse4_to_bf16 = sparse4_to_bf16;
  return kernel;
}

}  // namespace

const Kernel& vbmi2_kernel() {
  static const Kernel kernel = make_kernel();
  return kernel;
}

}  // namespace ballast::quant
