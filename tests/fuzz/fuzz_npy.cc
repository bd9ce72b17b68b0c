// Input: an .npy file, or its beginning. A header that is accepted must fit the file's length and
// survive being written again.
#include <algorithm>
#include <cstdint>
#include <span>

#include "client/formats/npy.h"
#include "proto/base/check.h"

using namespace ballast::formats;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  const auto prefix = file.first(std::min(size, kNpyHeaderBytesMax));
  const auto header = parse_npy_header(prefix, size);
  if (!header) {
    BALLAST_CHECK(!header.error().message.empty());
    BALLAST_CHECK(!header.error().message.contains('\n'));
    return 0;
  }
  BALLAST_CHECK(header->data_begin + header->bytes == size);
  const auto written = npy_header(header->dtype, header->shape);
  BALLAST_CHECK(written.has_value());
  const auto again =
      parse_npy_header(std::as_bytes(std::span(*written)), written->size() + header->bytes);
  BALLAST_CHECK(again.has_value(), "{}", again.error().message);
  BALLAST_CHECK(again->dtype == header->dtype && again->shape == header->shape);
  return 0;
}
