#include "quant/float_convert.h"

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

void store_f32(DType dtype, const float* from, size_t count, std::byte* to) {
  if (dtype == DType::kF32) {
    std::memcpy(to, from, count * sizeof(float));
    return;
  }
  uint16_t halves[kPieceValues];
  const FromF32Fn convert = dtype == DType::kF16 ? kernel().f32_to_f16 : kernel().f32_to_bf16;
  convert(from, halves, count);
  std::memcpy(to, halves, count * sizeof(uint16_t));
}

}  // namespace ballast::quant
