// The bytes of a log segment (docs/formats/log_segment.md): pure functions over spans.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "proto/base/entry.h"
#include "proto/base/limits.h"
#include "proto/base/result.h"

namespace ballast::storage {

inline constexpr size_t kSegmentHeaderBytes = kDirectAlignment;
inline constexpr size_t kRecordFixedBytes = 96;
inline constexpr uint32_t kSegmentVersion = 1;

// Where the chain of records stands: what the next record must say of itself.
struct ChainEnd {
  uint64_t next_serial = 1;  // records are numbered in the order of writing, and never reused
  uint32_t previous = 0;     // crc of the last record
  bool operator==(const ChainEnd&) const = default;
};

// The first 4 KiB of a segment. Written with the first batch of records: until then they are zeros.
struct SegmentHeader {
  GroupId group;
  uint64_t sequence = 0;  // of the segment: 1, 2, 3, ...
  uint64_t segment_bytes = 0;
  Index first_index;  // of the first record
  ChainEnd chain;     // before the first record
  bool operator==(const SegmentHeader&) const = default;
};

struct RecordHeader {
  GroupId group;
  uint64_t segment = 0;  // sequence and offset: a record that stands elsewhere is not one
  uint64_t offset = 0;
  uint64_t serial = 0;
  uint64_t batch = 0;  // serial of the first record of its batch: all before were durable then
  uint32_t previous = 0;
  EntryMeta entry;  // its checksum is not in the record: it follows from the rest
  uint32_t payload_crc = 0;
  uint32_t crc = 0;  // of the fixed header and the entry's header; the next record's `previous`
  bool operator==(const RecordHeader&) const = default;
};

// The record's head: fixed header, entry header and padding. The payload follows it.
constexpr size_t record_head_bytes(uint32_t entry_header_bytes) {
  return direct_round_up(kRecordFixedBytes + entry_header_bytes);
}
// Without the padding: what the CRC covers and what a second place holds.
constexpr size_t bare_head_bytes(uint32_t entry_header_bytes) {
  return kRecordFixedBytes + entry_header_bytes;
}
constexpr uint64_t record_bytes(uint32_t entry_header_bytes, uint32_t payload_bytes) {
  return record_head_bytes(entry_header_bytes) + direct_round_up(payload_bytes);
}
inline constexpr uint64_t kRecordBytesMax =
    record_bytes(limits::kEntryHeaderBytesMax, limits::kBlockBytesMax);

// REQUIRES: out.size() == kSegmentHeaderBytes.
void encode_segment_header(const SegmentHeader& header, std::span<std::byte> out);
// Error kCorrupt with what is wrong; kRefused for a version that is not known.
Result<SegmentHeader> parse_segment_header(std::span<const std::byte> bytes);

// A second place for a record's head: what lies on the disk behind `used` bytes, up to the end of
// their last 4 KiB, has no other use. Fills all of it, with zeros if the bare head is too long.
// REQUIRES: used <= out.size().
void put_second_place(std::span<const std::byte> bare_head, size_t used, std::span<std::byte> out);
// What lies there. Whether it is a head parse_record_head() tells, and the head says of which
// record.
std::span<const std::byte> second_place(std::span<const std::byte> bytes, size_t used);

// Fills `out`, padding included, and returns the record's crc; header.crc is not read. `before` is
// the bare head of the record before it, which finds its second place here; it may be empty.
// REQUIRES: out.size() == record_head_bytes(entry_header.size()).
uint32_t encode_record_head(const RecordHeader& header, std::span<const std::byte> entry_header,
                            std::span<const std::byte> before, std::span<std::byte> out);
// `bytes` begins with a record and may end anywhere. Error kCorrupt with what is wrong.
Result<RecordHeader> parse_record_head(std::span<const std::byte> bytes);
// The head's size if the fixed header looks like one, without a check of its CRC; else 0. It tells
// how much to read before parse_record_head() can judge.
size_t peek_record_head_bytes(std::span<const std::byte> bytes);
// The entry's header within a record's bytes. REQUIRES: parse_record_head() accepted them.
std::span<const std::byte> record_entry_header(const RecordHeader& header,
                                               std::span<const std::byte> bytes);

}  // namespace ballast::storage
