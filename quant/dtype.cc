#include "quant/dtype.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "proto/base/check.h"

namespace ballast::quant {
namespace {

struct Row {
  DType dtype;
  std::string_view name;
  size_t bytes;
};

constexpr std::array<Row, 15> kRows{{
    {DType::kF32, "F32", 4},
    {DType::kF16, "F16", 2},
    {DType::kBF16, "BF16", 2},
    {DType::kF64, "F64", 8},
    {DType::kI64, "I64", 8},
    {DType::kI32, "I32", 4},
    {DType::kI16, "I16", 2},
    {DType::kI8, "I8", 1},
    {DType::kU8, "U8", 1},
    {DType::kBool, "BOOL", 1},
    {DType::kU64, "U64", 8},
    {DType::kU32, "U32", 4},
    {DType::kU16, "U16", 2},
    {DType::kF8E4M3, "F8_E4M3", 1},
    {DType::kF8E5M2, "F8_E5M2", 1},
}};

const Row& row(DType dtype) {
  const auto number = static_cast<size_t>(dtype);
  BALLAST_CHECK(number >= 1 && number <= kRows.size(), "dtype {}", number);
  return kRows[number - 1];
}

bool same_but_for_case(std::string_view a, std::string_view upper) {
  return std::ranges::equal(
      a, upper, [](char x, char y) { return std::toupper(static_cast<unsigned char>(x)) == y; });
}

}  // namespace

size_t dtype_bytes(DType dtype) { return row(dtype).bytes; }

std::string_view dtype_name(DType dtype) { return row(dtype).name; }

Result<DType> parse_dtype(std::string_view name) {
  for (const Row& candidate : kRows) {
    if (same_but_for_case(name, candidate.name)) return candidate.dtype;
  }
  return fail(Errc::kInvalidArgument,
              "dtype '{}' is not known; known are F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, "
              "I16, I8, U64, U32, U16, U8 and BOOL",
              name);
}

Result<DType> dtype_from_number(uint32_t number) {
  if (number < 1 || number > kRows.size()) {
    return fail(Errc::kCorrupt, "{} is not the number of a dtype", number);
  }
  return kRows[number - 1].dtype;
}

bool dtype_is_codable(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

}  // namespace ballast::quant
