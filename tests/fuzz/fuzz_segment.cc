// The parsers of the log's formats and the scan of a segment over any bytes: no crash, no read
// outside, and nothing accepted that the writer would not have written.
//
// The input is a segment's image. A checksum stops random bytes early, so the CRCs are put right
// first wherever a record seems to begin, and the scan sees what lies behind them.
#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "storage/log/hard_state_file.h"
#include "storage/log/record.h"
#include "storage/log/second_place.h"
#include "storage/log/segment_scan.h"

namespace {

using namespace ballast;
using namespace ballast::storage;

class Image final : public SegmentSource {
 public:
  explicit Image(std::span<const std::byte> bytes) : bytes_(bytes) {}
  uint64_t size() const override { return bytes_.size(); }
  Result<std::span<const std::byte>> fetch(uint64_t offset, size_t bytes) override {
    BALLAST_CHECK(offset <= bytes_.size(), "{} of {}", offset, bytes_.size());
    return bytes_.subspan(offset, std::min<size_t>(bytes, bytes_.size() - offset));
  }

 private:
  std::span<const std::byte> bytes_;
};

void repair_crc(std::span<std::byte> bytes, size_t covered) {
  if (bytes.size() < covered || covered < 8) return;
  const uint32_t crc = crc32c(bytes.first(covered).subspan(8));
  std::memcpy(bytes.data() + 4, &crc, sizeof crc);
}

void scan(std::span<const std::byte> bytes, const SegmentHeader& header) {
  Image image(bytes);
  uint64_t next = kSegmentHeaderBytes;
  const auto result =
      scan_segment(image, header, kSegmentHeaderBytes, kAllPayloads,
                   [&](const RecordHeader& record, uint64_t offset) -> Status {
                     BALLAST_CHECK(offset == next && record.offset == offset);
                     next += record_bytes(record.entry.header_bytes, record.entry.payload_bytes);
                     return {};
                   });
  BALLAST_CHECK(result && result->end == next);
  const auto later = find_later_record(image, header.group, header.sequence, kSegmentHeaderBytes,
                                       result->chain.next_serial);
  BALLAST_CHECK(later.has_value());
  const auto copy = find_copy({header.group, header.sequence, result->end, result->chain},
                              {.segment = image, .slots = {}});
  BALLAST_CHECK(copy.has_value());
  if (*copy) {
    const auto head = parse_record_head((*copy)->span());
    BALLAST_CHECK(head && head->offset == result->end && head->serial == result->chain.next_serial);
  }
  BALLAST_CHECK(header_by_record(image, header.group, header.sequence).has_value());
}

// Of the head that begins there, and returns how long it says it is without its padding; 0: none.
size_t repair_head(std::span<std::byte> bytes) {
  if (bytes.size() < kRecordFixedBytes) return 0;
  uint32_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data() + 72, sizeof header_bytes);
  if (header_bytes > limits::kEntryHeaderBytesMax) return 0;
  repair_crc(bytes, bare_head_bytes(header_bytes));
  return bare_head_bytes(header_bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::byte> image(size);
  if (size > 0) std::memcpy(image.data(), data, size);
  const std::span bytes(image);
  (void)parse_hard_state(bytes);
  (void)parse_segment_header(bytes);
  (void)parse_record_head(bytes);
  SegmentHeader header{GroupId(1), 1, size, Index(1), {}};
  if (size < kSegmentHeaderBytes) return 0;
  scan(bytes, header);
  for (size_t at = kSegmentHeaderBytes; at + kRecordFixedBytes <= size; at += kDirectAlignment) {
    const auto record = bytes.subspan(at);
    const size_t used = repair_head(record);
    const size_t copy = record.size() - second_place(record, used).size();
    if (used > 0) repair_head(record.subspan(copy));
  }
  repair_crc(bytes, 64);
  if (const auto parsed = parse_segment_header(bytes)) header = *parsed;
  scan(bytes, header);
  return 0;
}
