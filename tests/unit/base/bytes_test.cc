#include "proto/base/bytes.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace ballast {
namespace {

TEST(Bytes, slice_shares_the_buffer) {
  const Bytes whole = Bytes::copy_of("0123456789");
  const Bytes part = whole.slice(3, 4);
  EXPECT_EQ(part.text(), "3456");
  EXPECT_EQ(part.data(), whole.data() + 3);
  EXPECT_EQ(whole.slice(10, 0).size(), 0u);
}

TEST(Bytes, slice_outlives_its_whole) {
  Bytes part;
  {
    const Bytes whole = Bytes::copy_of(std::string(100'000, 'x'));
    part = whole.slice(99'999, 1);
  }
  EXPECT_EQ(part.text(), "x");
}

TEST(BytesDeathTest, slice_beyond_the_end_stops_the_process) {
  const Bytes whole = Bytes::copy_of("abc");
  EXPECT_DEATH(static_cast<void>(whole.slice(2, 2)), "check failed");
}

TEST(Bytes, big_buffers_are_ready_for_direct_io) {
  for (const size_t size : {4096u, 4097u, 8191u, 1u << 20}) {
    MutableBytes buffer(size);
    std::memset(buffer.data(), 0xFF, size);
    const Bytes bytes(std::move(buffer));
    ASSERT_TRUE(bytes.direct()) << size;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(bytes.data()) % kDirectAlignment, 0u);
    for (size_t i = size; i < direct_round_up(size); ++i)
      ASSERT_EQ(bytes.data()[i], std::byte{0}) << size;
  }
}

TEST(Bytes, truncate_restores_the_zeros) {
  MutableBytes buffer(8192);
  std::memset(buffer.data(), 0xFF, 8192);
  buffer.truncate(5000);
  const Bytes bytes(std::move(buffer));
  ASSERT_TRUE(bytes.direct());
  EXPECT_EQ(bytes.data()[5000], std::byte{0});
}

TEST(Bytes, parts_are_direct_only_where_zeros_or_a_boundary_follow) {
  const Bytes whole{MutableBytes(10'000)};
  EXPECT_TRUE(whole.slice(0, 8192).direct());
  EXPECT_TRUE(whole.slice(4096, 10'000 - 4096).direct());
  EXPECT_FALSE(whole.slice(0, 5000).direct());
  EXPECT_FALSE(whole.slice(1, 4096).direct());
  EXPECT_FALSE(Bytes::copy_of("small").direct());
}

}  // namespace
}  // namespace ballast
