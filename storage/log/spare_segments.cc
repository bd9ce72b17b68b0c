#include "storage/log/spare_segments.h"

#include <sys/file.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "proto/files/files.h"

namespace ballast::storage {

SegmentPtr SpareSegments::take(uint64_t bytes) {
  const auto usable = std::ranges::find_if(spares_, [&](const SegmentPtr& spare) {
    return spare.use_count() == 1 && spare->bytes == bytes;
  });
  if (usable == spares_.end()) return nullptr;
  // Behind the last read of another thread, which gave its reference up before it was counted.
  std::atomic_thread_fence(std::memory_order_acquire);
  SegmentPtr spare = std::move(*usable);
  spares_.erase(usable);
  return spare;
}

uint64_t SpareSegments::bytes() const {
  uint64_t bytes = 0;
  for (const SegmentPtr& spare : spares_) bytes += spare->bytes;
  return bytes;
}

Status SpareSegments::trim(uint64_t bytes) {
  while (this->bytes() > bytes) {
    const std::string name = segment_name(spares_.back()->sequence);
    spares_.pop_back();
    BALLAST_TRY_STATUS(remove_file(directory_ + "/" + name));
  }
  return {};
}

void SpareSegments::unlock() const {
  for (const SegmentPtr& spare : spares_) (void)::flock(spare->file.get(), LOCK_UN);
}

}  // namespace ballast::storage
