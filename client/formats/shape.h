// What the formats' parsers share: shapes that may be lies, and names that may hold anything.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "proto/base/result.h"
#include "quant/dtype.h"

namespace ballast::formats {

// The bytes of a tensor. Errors kCorrupt: more than limits::kTensorRankMax dimensions, or a product
// that does not fit a file's length. Zeros do not hide an overflow of the other dimensions, since
// another reader may multiply in another order.
Result<uint64_t> shape_bytes(quant::DType dtype, std::span<const uint64_t> shape);

// For one-line messages: in quotes, control characters as \xNN, cut to 100 bytes.
std::string show_name(std::string_view name);

}  // namespace ballast::formats
