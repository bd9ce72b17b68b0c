#include "storage/log/segment_set.h"

#include <utility>

#include "proto/base/check.h"
#include "proto/base/crc32c.h"

namespace ballast::storage {

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

SegmentPtr SegmentSet::find(uint64_t sequence) const {
  const std::lock_guard lock(mutex_);
  const auto found = segments_.find(sequence);
  return found == segments_.end() ? nullptr : found->second;
}

Result<Bytes> SegmentSet::read(Place place, uint32_t bytes, uint32_t crc) const {
  const SegmentPtr segment = find(place.segment);
  if (!segment) return fail(Errc::kCorrupt, "log segment {} does not exist", place.segment);
  // The page cache first: models are read again and again. What it holds may be damaged, or older
  // than a direct write that came after it was read ahead; then the disk has the last word.
  for (const UniqueFd* file : {&segment->cached, &segment->file}) {
    BALLAST_TRY(Bytes payload, read_payload(*file, place.offset(), bytes));
    if (crc32c(payload.span()) == crc) return payload;
  }
  return fail(Errc::kCorrupt, "the payload in '{}' at offset {} does not match its CRC32C",
              segment->file.path(), place.offset());
}

}  // namespace ballast::storage
