#include "proto/wire/frame.h"

#include <cstring>

#include "proto/base/crc32c.h"
#include "proto/base/limits.h"

namespace ballast::wire {
namespace {

constexpr std::array<char, 4> kMagic = {'B', 'L', 'S', 'T'};

// Offsets of the fields, little-endian.
constexpr size_t kVersionAt = 4, kTypeAt = 5, kFlagsAt = 6, kStreamAt = 8, kGroupAt = 16,
                 kMessageBytesAt = 20, kPayloadBytesAt = 24, kMessageCrcAt = 28, kPayloadCrcAt = 32,
                 kHeaderCrcAt = 36;
static_assert(kHeaderCrcAt + 4 == kFrameHeaderBytes);

template <class T>
void put(std::span<std::byte> bytes, size_t at, T value) {
  for (size_t i = 0; i < sizeof(T); ++i)
    bytes[at + i] = static_cast<std::byte>(static_cast<uint64_t>(value) >> (8 * i));
}

template <class T>
T get(std::span<const std::byte> bytes, size_t at) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(T); ++i)
    value |= std::to_integer<uint64_t>(bytes[at + i]) << (8 * i);
  return static_cast<T>(value);
}

bool valid_type(uint8_t type) {
  return type >= static_cast<uint8_t>(FrameType::kHello) &&
         type <= static_cast<uint8_t>(FrameType::kPeer);
}

}  // namespace

std::array<std::byte, kFrameHeaderBytes> encode_frame_header(const FrameHeader& header) {
  std::array<std::byte, kFrameHeaderBytes> bytes{};
  std::memcpy(bytes.data(), kMagic.data(), kMagic.size());
  put<uint8_t>(bytes, kVersionAt, kProtocolVersion);
  put(bytes, kTypeAt, static_cast<uint8_t>(header.type));
  put(bytes, kStreamAt, header.stream);
  put(bytes, kGroupAt, static_cast<uint32_t>(header.group.value()));
  put(bytes, kMessageBytesAt, header.message_bytes);
  put(bytes, kPayloadBytesAt, header.payload_bytes);
  put(bytes, kMessageCrcAt, header.message_crc);
  put(bytes, kPayloadCrcAt, header.payload_crc);
  put(bytes, kHeaderCrcAt, crc32c(std::span(bytes).first(kHeaderCrcAt)));
  return bytes;
}

Result<FrameHeader> decode_frame_header(std::span<const std::byte, kFrameHeaderBytes> bytes) {
  if (std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0)
    return fail(Errc::kCorrupt, "a frame does not start with 'BLST': the peer is no Ballast");
  if (get<uint32_t>(bytes, kHeaderCrcAt) != crc32c(bytes.first(kHeaderCrcAt)))
    return fail(Errc::kCorrupt, "a frame header does not match its checksum");
  if (const auto version = get<uint8_t>(bytes, kVersionAt); version != kProtocolVersion)
    return fail(Errc::kRefused, "the peer speaks protocol {}, this is {}: upgrade the older one",
                version, kProtocolVersion);
  const auto type = get<uint8_t>(bytes, kTypeAt);
  if (!valid_type(type) || get<uint16_t>(bytes, kFlagsAt) != 0)
    return fail(Errc::kCorrupt, "a frame has type {} and flags {:#x}, which do not exist", type,
                get<uint16_t>(bytes, kFlagsAt));

  FrameHeader header;
  header.type = static_cast<FrameType>(type);
  header.stream = get<uint64_t>(bytes, kStreamAt);
  header.group = GroupId(get<uint32_t>(bytes, kGroupAt));
  header.message_bytes = get<uint32_t>(bytes, kMessageBytesAt);
  header.payload_bytes = get<uint32_t>(bytes, kPayloadBytesAt);
  header.message_crc = get<uint32_t>(bytes, kMessageCrcAt);
  header.payload_crc = get<uint32_t>(bytes, kPayloadCrcAt);
  if (header.message_bytes > limits::kFrameHeaderBytesMax ||
      header.payload_bytes > limits::kFramePayloadBytesMax)
    return fail(Errc::kInvalidArgument, "a frame has {} + {} bytes; the limits are {} and {}",
                header.message_bytes, header.payload_bytes, limits::kFrameHeaderBytesMax,
                limits::kFramePayloadBytesMax);
  return header;
}

}  // namespace ballast::wire
