#include "storage/log/segment_set.h"

#include <cstring>
#include <utility>

#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "proto/files/files.h"
#include "storage/log/record.h"

namespace ballast::storage {
namespace {

// A Block entry's header is short: its record's head takes one unit.
constexpr uint64_t kBlockHeadBytes = kDirectAlignment;

// A payload is written over a damaged one only where the head before it says that it belongs there:
// a row that is wrong must not spoil another record.
Status check_record(const SegmentFile& segment, Place place, size_t bytes, uint32_t crc) {
  const auto nothing = [&](std::string_view why) {
    return fail(Errc::kCorrupt, "no record in '{}' at offset {} has this payload: {}",
                segment.file.path(), place.offset(), why);
  };
  if (place.offset() < kSegmentHeaderBytes + kBlockHeadBytes ||
      place.offset() + direct_round_up(bytes) > segment.bytes)
    return nothing("it lies outside");
  MutableBytes head(kBlockHeadBytes);
  BALLAST_TRY_STATUS(read_fully(segment.file, head.span(), place.offset() - kBlockHeadBytes));
  const auto record = parse_record_head(head.span());
  if (!record) return nothing(record.error().message);
  if (record->segment != place.segment || record->offset != place.offset() - kBlockHeadBytes ||
      record->entry.payload_bytes != bytes || record->payload_crc != crc ||
      record_head_bytes(record->entry.header_bytes) != kBlockHeadBytes)
    return nothing("another one stands there");
  return {};
}

}  // namespace

void SegmentSet::add(SegmentPtr segment) {
  const std::lock_guard lock(mutex_);
  const uint64_t sequence = segment->sequence;
  BALLAST_CHECK(segments_.emplace(sequence, std::move(segment)).second, "segment {} twice",
                sequence);
}

void SegmentSet::remove(uint64_t sequence) {
  const std::lock_guard lock(mutex_);
  segments_.erase(sequence);
}

Result<SegmentPtr> SegmentSet::find(uint64_t sequence) const {
  const std::lock_guard lock(mutex_);
  const auto found = segments_.find(sequence);
  if (found == segments_.end())
    return fail(Errc::kCorrupt, "log segment {} does not exist", sequence);
  return found->second;
}

Result<Bytes> SegmentSet::read(Place place, uint32_t bytes, uint32_t crc, ReadFrom from) const {
  BALLAST_TRY(const SegmentPtr segment, find(place.segment));
  if (place.offset() + direct_round_up(bytes) > segment->bytes)
    return fail(Errc::kCorrupt, "'{}' is cut off: it ends at offset {}", segment->file.path(),
                segment->bytes);
  // The page cache first: models are read again and again. What it holds may be damaged, or older
  // than a direct write that came after it was read ahead; then the disk has the last word.
  if (from == ReadFrom::kCache) {
    BALLAST_TRY(Bytes payload, read_payload(segment->cached, place.offset(), bytes));
    if (crc32c(payload.span()) == crc) return payload;
  }
  BALLAST_TRY(Bytes payload, read_payload(segment->file, place.offset(), bytes));
  if (crc32c(payload.span()) == crc) return payload;
  return fail(Errc::kCorrupt, "the payload in '{}' at offset {} does not match its CRC32C",
              segment->file.path(), place.offset());
}

Status SegmentSet::restore(Place place, const Bytes& payload) const {
  BALLAST_TRY(const SegmentPtr segment, find(place.segment));
  const uint32_t crc = crc32c(payload.span());
  BALLAST_TRY_STATUS(check_record(*segment, place, payload.size(), crc));
  MutableBytes padded(direct_round_up(payload.size()));
  std::memcpy(padded.data(), payload.data(), payload.size());
  std::memset(padded.data() + payload.size(), 0, padded.size() - payload.size());
  BALLAST_TRY_STATUS(write_fully(segment->file, padded.span(), place.offset()));
  BALLAST_TRY_STATUS(sync_file(segment->file));
  BALLAST_TRY(const Bytes back,
              read(place, static_cast<uint32_t>(payload.size()), crc, ReadFrom::kDisk));
  return {};
}

}  // namespace ballast::storage
