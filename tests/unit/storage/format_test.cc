#include "proto/base/crc32c.h"
#include "storage/log/hard_state_file.h"
#include "storage/log/record.h"
#include "storage/log/segment_file.h"
#include "tests/unit/storage/golden.h"
#include "tests/unit/storage/log_testing.h"

namespace ballast::storage {
namespace {

TEST(Format, segment_header_round_trip) {
  const SegmentHeader header{GroupId(3), 7, kSmallSegment, Index(99), {1234, 0xABCDEF01}};
  MutableBytes bytes(kSegmentHeaderBytes);
  encode_segment_header(header, bytes.span());
  EXPECT_EQ(*parse_segment_header(bytes.span()), header);
  for (size_t at = 0; at < 64; ++at) {
    bytes.data()[at] ^= std::byte{1};
    EXPECT_FALSE(parse_segment_header(bytes.span())) << at;
    bytes.data()[at] ^= std::byte{1};
  }
  for (size_t size = 0; size < 64; ++size)
    EXPECT_FALSE(parse_segment_header(bytes.span().first(size)));
}

TEST(Format, record_head_round_trip) {
  for (const size_t size : {0, 1, 3999, 4000, 4001, 57344}) {
    const Entry entry = make_entry(12, 5, 777, size);
    RecordHeader header{GroupId(1), 2, 4096, 40, 39, 0x1234, entry.meta(), entry.payload_crc, 0};
    MutableBytes bytes(record_head_bytes(static_cast<uint32_t>(size)));
    header.crc = encode_record_head(header, entry.header.span(), {}, bytes.span());
    EXPECT_EQ(*parse_record_head(bytes.span()), header);
    EXPECT_EQ(peek_record_head_bytes(bytes.span()), bytes.size());
    EXPECT_EQ(as_text(record_entry_header(header, bytes.span())), entry.header.text());
    for (size_t at = 0; at < kRecordFixedBytes + size; at += at < 128 ? 1 : 997) {
      bytes.data()[at] ^= std::byte{4};
      EXPECT_FALSE(parse_record_head(bytes.span())) << at;
      bytes.data()[at] ^= std::byte{4};
    }
    EXPECT_FALSE(parse_record_head(bytes.span().first(kRecordFixedBytes + size - 1)));
  }
}

TEST(Format, hard_state_with_bytes_that_nobody_writes_is_corrupt) {
  MutableBytes bytes(kHardStateSlotBytes);
  encode_hard_state({.group = GroupId(1), .sequence = 5}, {}, bytes.span());
  ASSERT_TRUE(parse_hard_state(bytes.span()));
  bytes.data()[12] = std::byte{1};
  const uint32_t crc = crc32c(bytes.span().first(96).subspan(8));
  std::memcpy(bytes.data() + 4, &crc, sizeof crc);
  EXPECT_EQ(parse_hard_state(bytes.span()).error().code, Errc::kCorrupt);
}

TEST(Format, segment_names) {
  EXPECT_EQ(segment_name(7), "00000000000000000007.log");
  EXPECT_EQ(parse_segment_name("00000000000000000007.log"), 7u);
  for (const char* name : {"7.log", "00000000000000000007.log.tmp", "00000000000000000000.log",
                           "hard_state", "0000000000000000000x.log", ""})
    EXPECT_EQ(parse_segment_name(name), std::nullopt) << name;
}

TEST(Format, segment_and_hard_state_are_frozen) {
  const TemporaryDirectory directory;
  const std::vector<Entry> entries{make_entry(1, 1, 0), make_entry(2, 1, 5000),
                                   make_entry(3, 2, 100)};
  {
    const auto log = open_log(small_log(directory.path()));
    for (const Entry& entry : entries)
      append_and_wait(*log, {entry}, HardState{entry.term, NodeId(2)});
  }
  constexpr size_t kUsed = kSegmentHeaderBytes + 4096 + 4096 + 8192 + 4096 + 4096;
  const std::string segment = read_at(directory / segment_name(1), 0, kUsed);
  EXPECT_TRUE(golden("log/segment_v1.bin", segment) == segment);
  const std::string state = read_at(directory / "hard_state", 0, 2 * kHardStateSlotBytes);
  EXPECT_TRUE(golden("log/hard_state_v2.bin", state) == state);
}

// Those of before there were second places, which nobody writes any more, too.

TEST(Format, frozen_segment_opens) {
  if (std::getenv("BALLAST_REWRITE") != nullptr) GTEST_SKIP();
  const TemporaryDirectory directory;
  {
    open_log(small_log(directory.path()));
  }
  for (const char* segment : {"log/segment_v1_without_copies.bin", "log/segment_v1.bin"}) {
    for (const char* version :
         {"log/hard_state_v1.bin", "log/hard_state_v2_without_copy.bin", "log/hard_state_v2.bin"}) {
      SCOPED_TRACE(fmt::format("{} with {}", segment, version));
      write_at(directory / segment_name(1), 0, golden(segment, ""));
      write_at(directory / "hard_state", 0, golden(version, ""));
      const auto log = open_log(small_log(directory.path()));
      EXPECT_EQ(log->hard_state(), (HardState{Term(2), NodeId(2)}));
      EXPECT_EQ(log->base(), LogBase());
      EXPECT_TRUE(read_all(*log) == (std::vector<Entry>{make_entry(1, 1, 0), make_entry(2, 1, 5000),
                                                        make_entry(3, 2, 100)}));
    }
  }
}

}  // namespace
}  // namespace ballast::storage
