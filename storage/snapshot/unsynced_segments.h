// Which segments have to be synced before what was written to them is durable.
#pragma once

#include <mutex>
#include <set>
#include <utility>

#include "proto/base/result.h"
#include "storage/log/segment_file.h"

namespace ballast::storage {

// Thread-safe.
class UnsyncedSegments {
 public:
  // A write to the segment has ended: not before, for then a sync() beside it would take the
  // segment off the list without it.
  void written(const SegmentPtr& segment) {
    const std::lock_guard lock(mutex_);
    segments_.insert(segment);
  }
  // `sync_one(segment)` for each to which a write had ended before the call. After an error it is
  // not known what is durable.
  template <class SyncOne>
  Status sync(SyncOne sync_one) {
    std::set<SegmentPtr> segments;
    {
      const std::lock_guard lock(mutex_);
      segments = std::exchange(segments_, {});
    }
    for (const SegmentPtr& segment : segments) BALLAST_TRY_STATUS(sync_one(*segment));
    return {};
  }

 private:
  std::mutex mutex_;
  std::set<SegmentPtr> segments_;
};

}  // namespace ballast::storage
