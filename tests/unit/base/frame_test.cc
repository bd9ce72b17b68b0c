#include "proto/wire/frame.h"

#include <gtest/gtest.h>

#include "proto/base/limits.h"

namespace ballast::wire {
namespace {

FrameHeader example() {
  return {.type = FrameType::kReply,
          .group = GroupId(1),
          .stream = 0x1122334455667788,
          .message_bytes = 100,
          .payload_bytes = 1 << 20,
          .message_crc = 0xAABBCCDD,
          .payload_crc = 0x01020304};
}

TEST(Frame, header_survives_the_way) {
  const auto bytes = encode_frame_header(example());
  const auto header = decode_frame_header(bytes);
  ASSERT_TRUE(header);
  EXPECT_EQ(*header, example());
}

// The bytes of docs/formats/wire.md, which may not change under protocol 1.
TEST(Frame, header_bytes_are_frozen) {
  const auto bytes = encode_frame_header(example());
  std::string hex;
  for (const std::byte byte : bytes) hex += fmt::format("{:02x}", std::to_integer<int>(byte));
  EXPECT_EQ(hex,
            "424c5354"
            "01"
            "04"
            "0000"
            "8877665544332211"
            "01000000"
            "64000000"
            "00001000"
            "ddccbbaa"
            "04030201"
            "033dbb5e");
}

TEST(Frame, every_flipped_bit_is_noticed) {
  const auto good = encode_frame_header(example());
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    auto bad = good;
    bad[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_FALSE(decode_frame_header(bad)) << bit;
  }
}

TEST(Frame, lengths_over_the_limits_are_refused) {
  FrameHeader header = example();
  header.payload_bytes = limits::kFramePayloadBytesMax + 1;
  EXPECT_EQ(decode_frame_header(encode_frame_header(header)).error().code, Errc::kInvalidArgument);
  header = example();
  header.message_bytes = limits::kFrameHeaderBytesMax + 1;
  EXPECT_EQ(decode_frame_header(encode_frame_header(header)).error().code, Errc::kInvalidArgument);
}

}  // namespace
}  // namespace ballast::wire
