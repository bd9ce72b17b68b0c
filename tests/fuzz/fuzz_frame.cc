// A frame header from anybody: an error or a header that encodes to the same bytes.

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "proto/wire/frame.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ballast::wire;
  if (size < kFrameHeaderBytes) return 0;
  std::array<std::byte, kFrameHeaderBytes> bytes;
  std::memcpy(bytes.data(), data, bytes.size());
  const auto header = decode_frame_header(bytes);
  if (header && encode_frame_header(*header) != bytes) std::abort();
  return 0;
}
