#include "proto/base/crc32c.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "proto/base/bytes.h"

namespace ballast {
namespace {

TEST(Crc32c, known_answers) {
  // RFC 3720, appendix B.4.
  const std::string zeros(32, '\0'), ones(32, '\xFF');
  std::string rising, falling;
  for (int i = 0; i < 32; ++i) rising.push_back(static_cast<char>(i));
  falling.assign(rising.rbegin(), rising.rend());
  EXPECT_EQ(crc32c(as_byte_span(zeros)), 0x8A9136AAu);
  EXPECT_EQ(crc32c(as_byte_span(ones)), 0x62A8AB43u);
  EXPECT_EQ(crc32c(as_byte_span(rising)), 0x46DD794Eu);
  EXPECT_EQ(crc32c(as_byte_span(falling)), 0x113FDB5Cu);
  EXPECT_EQ(crc32c({}), 0u);
}

TEST(Crc32c, instruction_and_table_agree_on_every_length_and_offset) {
  std::mt19937 random(7);
  std::vector<std::byte> bytes(20'000);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  for (int i = 0; i < 2000; ++i) {
    const size_t offset = random() % 64, length = random() % (bytes.size() - 64);
    const auto part = std::span(bytes).subspan(offset, length);
    ASSERT_EQ(crc32c(part), crc32c_portable(part)) << offset << " " << length;
  }
}

TEST(Crc32c, continues_from_what_precedes) {
  const std::string text = "a checksum of parts is the checksum of the whole";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    const uint32_t head = crc32c(as_byte_span(std::string_view(text).substr(0, cut)));
    EXPECT_EQ(crc32c(as_byte_span(std::string_view(text).substr(cut)), head),
              crc32c(as_byte_span(text)));
  }
}

}  // namespace
}  // namespace ballast
