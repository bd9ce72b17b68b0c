// Writing around the caches and reading ahead, in each kernel's own instructions. See
// float_loops-inl.h for how such files are written.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace ballast::quant {
namespace {

// Whether stores to `out` may go around the caches if the caller wants that.
[[maybe_unused]] bool may_stream(const void* out, bool streaming) {
  constexpr uintptr_t kLine = 64;
  return streaming && reinterpret_cast<uintptr_t>(out) % kLine == 0;
}

// For bytes that are read in order from memory. The hardware fetches ahead too, but stops at the
// end of a page.
[[maybe_unused]] void fetch_ahead(const void* from) {
  constexpr size_t kBytesAhead = 2048;
  _mm_prefetch(static_cast<const char*>(from) + kBytesAhead, _MM_HINT_T0);
}

// Stores vector number `vector` of an output, around the caches if kStreaming.
template <bool kStreaming>
void put(void* out, size_t vector, __m256i value) {
  auto* to = static_cast<__m256i*>(out) + vector;
  if constexpr (kStreaming) {
    _mm256_stream_si256(to, value);
  } else {
    _mm256_storeu_si256(to, value);
  }
}

#ifdef __AVX512F__
template <bool kStreaming>
void put(void* out, size_t vector, __m512i value) {
  auto* to = static_cast<__m512i*>(out) + vector;
  if constexpr (kStreaming) {
    _mm512_stream_si512(to, value);
  } else {
    _mm512_storeu_si512(to, value);
  }
}
#endif

}  // namespace
}  // namespace ballast::quant
