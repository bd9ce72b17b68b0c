// The element types that tensors are written with. Numbers lie on disk: never reused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "proto/base/result.h"

namespace ballast::quant {

enum class DType : uint8_t {
  kF32 = 1,
  kF16 = 2,   // IEEE 754 binary16
  kBF16 = 3,  // the upper half of a binary32
  kF64 = 4,
  kI64 = 5,
  kI32 = 6,
  kI16 = 7,
  kI8 = 8,
  kU8 = 9,
  kBool = 10,
  kU64 = 11,
  kU32 = 12,
  kU16 = 13,
  kF8E4M3 = 14,
  kF8E5M2 = 15,
};

// Bytes of one element.
size_t dtype_bytes(DType dtype);
// The name that safetensors uses: "F32", "BF16", "I64", "F8_E4M3", ...
std::string_view dtype_name(DType dtype);
Result<DType> parse_dtype(std::string_view name);  // safetensors' names, any case: "f32", "BF16"
Result<DType> dtype_from_number(uint32_t number);
// True for f32, f16 and bf16: what codecs encode and reads decode to.
bool dtype_is_codable(DType dtype);

}  // namespace ballast::quant
