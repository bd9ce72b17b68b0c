// Input: eight bytes that say how many bytes of data follow the header, then the header's text.
// A header that is accepted must cover the data without holes and survive being written again.
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "client/formats/safetensors.h"
#include "proto/base/check.h"

using namespace ballast::formats;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint64_t data_bytes = 0;
  if (size < sizeof data_bytes) return 0;
  std::memcpy(&data_bytes, data, sizeof data_bytes);
  const std::string_view text(reinterpret_cast<const char*>(data) + sizeof data_bytes,
                              size - sizeof data_bytes);
  const auto header = parse_safetensors_header(text, data_bytes);
  if (!header) {
    BALLAST_CHECK(!header.error().message.empty());
    BALLAST_CHECK(!header.error().message.contains('\n'));
    return 0;
  }
  uint64_t covered = 0;
  std::vector<SafetensorsEntry> entries;
  for (const SafetensorsTensor& tensor : header->tensors) {
    BALLAST_CHECK(tensor.offset == covered);
    covered += tensor.bytes;
    entries.push_back({.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape});
  }
  BALLAST_CHECK(covered == data_bytes);
  const auto written = safetensors_header(entries, header->metadata);
  if (!written) return 0;  // too large together with its padding
  const auto again = parse_safetensors_header(std::string_view(*written).substr(8), data_bytes);
  BALLAST_CHECK(again.has_value(), "{}", again.error().message);
  BALLAST_CHECK(again->metadata == header->metadata);
  BALLAST_CHECK(again->tensors.size() == header->tensors.size());
  for (size_t i = 0; i < entries.size(); ++i)
    BALLAST_CHECK(again->tensors[i].name == entries[i].name &&
                  again->tensors[i].shape == entries[i].shape);
  return 0;
}
