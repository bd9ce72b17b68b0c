#include "storage/log/record.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "proto/base/check.h"
#include "proto/base/crc32c.h"

namespace ballast::storage {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers lie on disk as they are");

constexpr uint32_t kSegmentMagic = 0x53474C42;  // "BLGS"
constexpr uint32_t kRecordMagic = 0x52474C42;   // "BLGR"
constexpr uint8_t kEntryRecord = 1;
constexpr size_t kChecked = 8;  // magic and CRC stand before what the CRC covers
constexpr size_t kSegmentFixedBytes = 64;
constexpr size_t kSecondPlaceAlignment = 8;

template <class T>
void put(std::span<std::byte> out, size_t at, T value) {
  std::memcpy(out.data() + at, &value, sizeof value);
}
template <class T>
T get(std::span<const std::byte> in, size_t at) {
  T value;
  std::memcpy(&value, in.data() + at, sizeof value);
  return value;
}

}  // namespace

void encode_segment_header(const SegmentHeader& header, std::span<std::byte> out) {
  BALLAST_CHECK(out.size() == kSegmentHeaderBytes);
  std::memset(out.data(), 0, out.size());
  put(out, 0, kSegmentMagic);
  put(out, 8, kSegmentVersion);
  put(out, 12, header.chain.previous);
  put(out, 16, header.group.value());
  put(out, 24, header.sequence);
  put(out, 32, header.segment_bytes);
  put(out, 40, header.first_index.value());
  put(out, 48, header.chain.next_serial);
  put(out, 4, crc32c(out.first(kSegmentFixedBytes).subspan(kChecked)));
}

Result<SegmentHeader> parse_segment_header(std::span<const std::byte> bytes) {
  if (bytes.size() < kSegmentFixedBytes) return fail(Errc::kCorrupt, "segment header is cut off");
  if (get<uint32_t>(bytes, 0) != kSegmentMagic)
    return fail(Errc::kCorrupt, "segment header has no magic number");
  if (get<uint32_t>(bytes, 4) != crc32c(bytes.first(kSegmentFixedBytes).subspan(kChecked)))
    return fail(Errc::kCorrupt, "segment header does not match its CRC32C");
  if (const auto version = get<uint32_t>(bytes, 8); version != kSegmentVersion)
    return fail(Errc::kRefused, "segment has format version {}; this program knows version {}",
                version, kSegmentVersion);
  SegmentHeader header;
  header.chain.previous = get<uint32_t>(bytes, 12);
  header.group = GroupId(get<uint64_t>(bytes, 16));
  header.sequence = get<uint64_t>(bytes, 24);
  header.segment_bytes = get<uint64_t>(bytes, 32);
  header.first_index = Index(get<uint64_t>(bytes, 40));
  header.chain.next_serial = get<uint64_t>(bytes, 48);
  return header;
}

void put_second_place(std::span<const std::byte> bare_head, size_t used, std::span<std::byte> out) {
  const size_t free = second_place(out, used).size();
  const auto padding = out.subspan(used);
  std::memset(padding.data(), 0, padding.size());
  if (!bare_head.empty() && bare_head.size() <= free)
    std::memcpy(out.last(free).data(), bare_head.data(), bare_head.size());
}

std::span<const std::byte> second_place(std::span<const std::byte> bytes, size_t used) {
  const size_t at =
      (used + kSecondPlaceAlignment - 1) / kSecondPlaceAlignment * kSecondPlaceAlignment;
  return bytes.subspan(std::min(at, bytes.size()));
}

uint32_t encode_record_head(const RecordHeader& header, std::span<const std::byte> entry_header,
                            std::span<const std::byte> before, std::span<std::byte> out) {
  BALLAST_CHECK(header.entry.header_bytes == entry_header.size());
  BALLAST_CHECK(out.size() == record_head_bytes(header.entry.header_bytes));
  const size_t used = bare_head_bytes(header.entry.header_bytes);
  std::memset(out.data(), 0, kRecordFixedBytes);
  put_second_place(before, used, out);
  put(out, 0, kRecordMagic);
  put(out, 8, header.previous);
  put(out, 12, kEntryRecord);
  put(out, 13, static_cast<uint8_t>(header.entry.kind));
  put(out, 16, header.group.value());
  put(out, 24, header.segment);
  put(out, 32, header.offset);
  put(out, 40, header.serial);
  put(out, 48, header.batch);
  put(out, 56, header.entry.term.value());
  put(out, 64, header.entry.index.value());
  put(out, 72, header.entry.header_bytes);
  put(out, 76, header.entry.payload_bytes);
  put(out, 80, header.payload_crc);
  if (!entry_header.empty())
    std::memcpy(out.data() + kRecordFixedBytes, entry_header.data(), entry_header.size());
  const uint32_t crc = crc32c(out.first(used).subspan(kChecked));
  put(out, 4, crc);
  return crc;
}

size_t peek_record_head_bytes(std::span<const std::byte> bytes) {
  if (bytes.size() < kRecordFixedBytes || get<uint32_t>(bytes, 0) != kRecordMagic) return 0;
  const auto header_bytes = get<uint32_t>(bytes, 72);
  return header_bytes > limits::kEntryHeaderBytesMax ? 0 : record_head_bytes(header_bytes);
}

Result<RecordHeader> parse_record_head(std::span<const std::byte> bytes) {
  if (bytes.size() < kRecordFixedBytes) return fail(Errc::kCorrupt, "record is cut off");
  if (get<uint32_t>(bytes, 0) != kRecordMagic)
    return fail(Errc::kCorrupt, "record has no magic number");
  const auto header_bytes = get<uint32_t>(bytes, 72);
  if (header_bytes > limits::kEntryHeaderBytesMax)
    return fail(Errc::kCorrupt, "record header has an impossible length");
  const size_t used = bare_head_bytes(header_bytes);
  if (bytes.size() < used) return fail(Errc::kCorrupt, "record header is cut off");
  RecordHeader header;
  header.crc = get<uint32_t>(bytes, 4);
  if (header.crc != crc32c(bytes.first(used).subspan(kChecked)))
    return fail(Errc::kCorrupt, "record header does not match its CRC32C");
  header.entry.header_bytes = header_bytes;
  header.entry.payload_bytes = get<uint32_t>(bytes, 76);
  const auto kind = get<uint8_t>(bytes, 13);
  if (get<uint8_t>(bytes, 12) != kEntryRecord || !entry_kind_valid(kind) ||
      header.entry.payload_bytes > limits::kBlockBytesMax)
    return fail(Errc::kCorrupt, "record is of a type that this program does not know");
  header.entry.kind = static_cast<EntryKind>(kind);
  header.previous = get<uint32_t>(bytes, 8);
  header.group = GroupId(get<uint64_t>(bytes, 16));
  header.segment = get<uint64_t>(bytes, 24);
  header.offset = get<uint64_t>(bytes, 32);
  header.serial = get<uint64_t>(bytes, 40);
  header.batch = get<uint64_t>(bytes, 48);
  header.entry.term = Term(get<uint64_t>(bytes, 56));
  header.entry.index = Index(get<uint64_t>(bytes, 64));
  header.payload_crc = get<uint32_t>(bytes, 80);
  header.entry.checksum = entry_checksum(record_entry_header(header, bytes), header.payload_crc);
  return header;
}

std::span<const std::byte> record_entry_header(const RecordHeader& header,
                                               std::span<const std::byte> bytes) {
  return bytes.subspan(kRecordFixedBytes, header.entry.header_bytes);
}

}  // namespace ballast::storage
