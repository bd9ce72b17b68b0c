// Frames: what every connection carries (docs/formats/wire.md). Pure: bytes in, values out.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "proto/base/bytes.h"
#include "proto/base/result.h"
#include "proto/base/strong_int.h"

namespace ballast::wire {

inline constexpr uint32_t kProtocolVersion = 1;
inline constexpr size_t kFrameHeaderBytes = 40;

enum class FrameType : uint8_t {
  kHello = 1,
  kHelloReply = 2,
  kRequest = 3,
  kReply = 4,
  kPeer = 5,
};

// The fixed header. `message` is a protobuf message of the type's kind, `payload` raw bytes.
struct FrameHeader {
  FrameType type = FrameType::kHello;
  GroupId group{1};
  uint64_t stream = 0;  // of a request and its reply; 0 elsewhere
  uint32_t message_bytes = 0;
  uint32_t payload_bytes = 0;
  uint32_t message_crc = 0;
  uint32_t payload_crc = 0;

  bool operator==(const FrameHeader&) const = default;
};

std::array<std::byte, kFrameHeaderBytes> encode_frame_header(const FrameHeader& header);

// Errors: kCorrupt for a wrong magic, checksum or type, kRefused for another protocol version,
// kInvalidArgument for lengths over the limits: checked before anybody allocates them.
Result<FrameHeader> decode_frame_header(std::span<const std::byte, kFrameHeaderBytes> bytes);

// A frame as it was received, both checksums verified.
struct Frame {
  FrameHeader header;
  Bytes message;
  Bytes payload;
};

}  // namespace ballast::wire
