// Headers: what they say, and what readers refuse.
#include <functional>

#include "proto/base/crc32c.h"
#include "proto/base/limits.h"
#include "tests/unit/quant/helpers.h"

namespace ballast::quant {
namespace {

void expect_corrupt(std::span<const std::byte> block, std::string_view what) {
  const Result<BlockInfo> info = inspect_block(block);
  ASSERT_FALSE(info.has_value()) << what;
  EXPECT_EQ(info.error().code, Errc::kCorrupt) << what;
  const Status decoded = decode_block(block, 0, 0, DType::kF32, {});
  ASSERT_FALSE(decoded.has_value()) << what;
  EXPECT_EQ(decoded.error().code, Errc::kCorrupt) << what;
}

// Makes the checksum right again, as a hostile writer would.
void seal(ByteVector& block) {
  const uint32_t checksum = crc32c(std::span(block).first(60));
  std::memcpy(&block[60], &checksum, sizeof checksum);
}

TEST(BlockFormat, the_example_of_the_page) {
  const ByteVector block = encode_floats("bf16", {1, 2, 3, 4});
  ByteVector expected(72);
  const auto put = [&](size_t at, std::initializer_list<int> bytes) {
    for (const int byte : bytes) expected[at++] = static_cast<std::byte>(byte);
  };
  put(0, {0x42, 0x4c, 0x53, 0x54, 1, 4, 1, 0});
  put(16, {4});
  put(60, {0xf6, 0x60, 0x54, 0xae});
  put(64, {0x80, 0x3f, 0x00, 0x40, 0x40, 0x40, 0x80, 0x40});
  EXPECT_EQ(block, expected);
}

TEST(BlockFormat, the_int4_example_of_the_page) {
  const ByteVector block = encode_floats("int4", {1, 2, 3, 4});
  ASSERT_EQ(block.size(), 98U);
  const std::vector<uint8_t> payload{0x01, 0x7f, 0x8a, 0x8c, 0x8e, 0x8f, 0x88};
  EXPECT_TRUE(std::ranges::equal(std::as_bytes(std::span(payload)),
                                 std::span(block).subspan(kBlockHeaderBytes, payload.size())));
  EXPECT_EQ(decode_floats(block),
            (std::vector<float>{0x1.cb1a2ap-1f, 0x1.dd775ep+0f, 0x1.863ca4p+1f, 0x1.f9032ep+1f}));
}

TEST(BlockFormat, inspect_tells_what_was_encoded) {
  for (const char* name : {"raw", "f32", "f16", "bf16", "int4:group=16", "int4", "int4:group=64",
                           "int8", "ec4:group=512", "lossless", "sparse4"}) {
    for (const DType source : {DType::kF32, DType::kF16, DType::kBF16}) {
      const ByteVector block = encode_bytes(codec(name), source, random_bytes(600, 1));
      const Result<BlockInfo> info = inspect_block(block);
      ASSERT_TRUE(info.has_value());
      EXPECT_EQ(info->codec, codec(name));
      EXPECT_EQ(info->source, source);
      EXPECT_EQ(info->values, 600 / dtype_bytes(source));
    }
  }
}

TEST(BlockFormat, a_wrong_length_is_corrupt) {
  for (const char* name : {"raw", "f16", "int4", "int8", "ec4:group=256", "lossless", "sparse4"}) {
    ByteVector block = encode_floats(name, normal_values(1000));
    for (size_t length = 0; length < block.size(); length += length < 70 ? 1 : 61) {
      expect_corrupt(std::span(block).first(length), name);
    }
    block.push_back({});
    expect_corrupt(block, name);
  }
}

TEST(BlockFormat, every_flipped_bit_of_the_header_is_corrupt) {
  for (const char* name : {"raw", "int4", "int8", "lossless", "sparse4"}) {
    const ByteVector block = encode_floats(name, normal_values(1000));
    for (size_t bit = 0; bit < kBlockHeaderBytes * 8; ++bit) {
      ByteVector damaged = block;
      damaged[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
      expect_corrupt(damaged, name);
    }
  }
}

TEST(BlockFormat, every_rule_of_the_header_holds_under_a_valid_checksum) {
  const auto check = [](const char* name, size_t at, std::initializer_list<int> bytes) {
    ByteVector block = encode_floats(name, normal_values(1000));
    for (const int byte : bytes) block[at++] = static_cast<std::byte>(byte);
    seal(block);
    expect_corrupt(block, std::string(name) + " at " + std::to_string(at));
  };
  check("f16", 0, {0});  // magic
  check("f16", 4, {2});  // version
  check("f16", 5, {0});  // codec
  check("f16", 5, {6});
  check("f16", 6, {0});  // dtype
  check("f16", 6, {16});
  check("f16", 6, {5});  // f16 can't encode I64
  check("int4", 6, {4});
  check("f16", 7, {1});  // scale type
  check("int4", 7, {0});
  check("f16", 8, {32});  // group size
  check("int4", 8, {0});
  check("int4", 8, {33});
  check("int4", 8, {32, 1});
  check("f16", 12, {1});              // scale base
  check("f16", 12, {0, 0, 0, 0x80});  // -0
  check("int4", 12, {0, 0, 0, 0});
  check("int4", 12, {0, 0, 0x80, 0xbf});  // -1
  check("int4", 12, {0, 0, 0x80, 0x7f});  // infinite
  check("int4", 12, {0, 0, 0xc0, 0x7f});  // NaN
  check("int8", 7, {0});
  check("int8", 8, {16});
  check("int8", 12, {0, 0, 0, 0x08});  // 2^-111
  check("int8", 12, {0, 0, 0x80, 0x7f});
  check("int8", 24, {1});
  check("int8", 16, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff});
  check("lossless", 7, {1});
  check("lossless", 8, {32});
  check("lossless", 12, {1});
  check("lossless", 24, {1});  // a digest, but no base
  check("lossless", 56, {2});
  check("lossless", 57, {1});
  check("lossless", 16, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff});
  check("int4", 16, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff});  // values
  check("f16", 16, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f});
  check("f16", 24, {1});      // codebook
  check("int4", 24, {0x80});  // -128
  check("sparse4", 7, {0});
  check("sparse4", 8, {33});
  check("sparse4", 12, {0, 0, 0x80, 0x7f});
  check("sparse4", 16, {0, 0, 0, 0, 0, 0, 0, 0x80});
  check("sparse4", 24, {0x80});
  check("sparse4", 40, {1});
  for (int at = 40; at < 60; ++at) check("int4", static_cast<size_t>(at), {1});  // reserved
}

TEST(BlockFormat, ranges_outside_of_the_block_are_refused) {
  const ByteVector block = encode_floats("int4", normal_values(100));
  for (const auto& [first, count] :
       std::vector<std::pair<uint64_t, uint64_t>>{{0, 101}, {101, 0}, {100, 1}, {UINT64_MAX, 2}}) {
    ByteVector out(count * sizeof(float));
    const Status status = decode_block(block, first, count, DType::kF32, out);
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().code, Errc::kInvalidArgument);
  }
  EXPECT_TRUE(decode_block(block, 100, 0, DType::kF32, {}).has_value());
}

}  // namespace
}  // namespace ballast::quant
