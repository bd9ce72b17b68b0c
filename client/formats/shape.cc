#include "client/formats/shape.h"

#include <algorithm>
#include <limits>

#include "proto/base/limits.h"

namespace ballast::formats {

Result<uint64_t> shape_bytes(quant::DType dtype, std::span<const uint64_t> shape) {
  if (shape.size() > limits::kTensorRankMax)
    return fail(Errc::kCorrupt, "its shape has {} dimensions; the limit is {}", shape.size(),
                limits::kTensorRankMax);
  constexpr auto kBytesMax = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  uint64_t bytes = quant::dtype_bytes(dtype);
  bool empty = false;
  for (const uint64_t dimension : shape) {
    empty = empty || dimension == 0;
    if (dimension > 1 && bytes > kBytesMax / dimension)
      return fail(Errc::kCorrupt, "its shape is too large: the product overflows");
    bytes *= std::max<uint64_t>(dimension, 1);
  }
  return empty ? 0 : bytes;
}

std::string show_name(std::string_view name) {
  constexpr size_t kShownBytesMax = 100;
  std::string text = "'";
  size_t shown = std::min(name.size(), kShownBytesMax);
  // Not in the middle of a UTF-8 sequence.
  while (shown < name.size() && shown > 0 &&
         (static_cast<unsigned char>(name[shown]) & 0xC0) == 0x80)
    --shown;
  for (const char c : name.substr(0, shown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F)
      text += fmt::format("\\x{:02x}", byte);
    else
      text += c;
  }
  return text + (shown < name.size() ? "...'" : "'");
}

}  // namespace ballast::formats
