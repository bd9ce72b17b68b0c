#include "quant/float_convert.h"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace ballast::quant {

void load_f32(DType dtype, const std::byte* from, size_t count, float* to) {
  if (dtype == DType::kF32) {
    std::memcpy(to, from, count * sizeof(float));
    return;
  }
  uint16_t halves[kPieceValues];
  std::memcpy(halves, from, count * sizeof(uint16_t));
  const ToF32Fn convert = dtype == DType::kF16 ? kernel().f16_to_f32 : kernel().bf16_to_f32;
  convert(halves, to, count);
}

void store_f32(DType dtype, const float* from, size_t count, std::byte* to, bool streaming) {
  alignas(64) uint16_t halves[kPieceValues];
  const void* bytes = from;
  if (dtype != DType::kF32) {
    const FromF32Fn convert = dtype == DType::kF16 ? kernel().f32_to_f16 : kernel().f32_to_bf16;
    convert(from, halves, count);
    bytes = halves;
  }
  if (streaming) {
    kernel().stream(static_cast<const std::byte*>(bytes), to, count * dtype_bytes(dtype));
  } else {
    std::memcpy(to, bytes, count * dtype_bytes(dtype));
  }
}

float abs_max_of(DType dtype, std::span<const std::byte> values) {
  const size_t value_bytes = dtype_bytes(dtype);
  alignas(64) float piece[kPieceValues];
  float largest = 0;
  while (!values.empty()) {
    const size_t count = std::min(kPieceValues, values.size() / value_bytes);
    load_f32(dtype, values.data(), count, piece);
    largest = std::max(largest, kernel().abs_max(piece, count));
    values = values.subspan(count * value_bytes);
  }
  return largest;
}

void finish_streaming() { std::atomic_thread_fence(std::memory_order_seq_cst); }

}  // namespace ballast::quant
