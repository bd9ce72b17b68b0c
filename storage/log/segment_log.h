// The log as segment files, written with io_uring (docs/formats/log_segment.md).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "storage/io/io_queue.h"
#include "storage/log/log_store.h"
#include "storage/log/segment_file.h"

namespace ballast::storage {

struct LogOptions {
  std::string directory;                  // exists and belongs to this log alone
  uint64_t segment_bytes = 256ull << 20;  // a multiple of 4 KiB, at least 16 MiB
  GroupId group{1};
  // The state comes from a snapshot of this place: a log that does not hold it begins anew behind
  // it. What it held before is no part of the group's log any more, its segments become homes.
  std::optional<LogBase> installed = {};
  // Null: a segment is made wherever it fits. What must stay free beside it is the caller's to say.
  SpaceRule may_take = nullptr;
  // Told of each head that had rotted and was restored from its second place. May be null.
  std::function<void(const RestoredHead&)> on_restored = nullptr;
};

// What a log stands on; a simulator brings its own. Its directory is then real all the same, but
// what reaches the files, and when, is the queue's affair.
struct LogParts {
  std::unique_ptr<IoQueue> queue;  // null: io_uring
  // Makes the first segment of a new log, and the supply those that follow; they see to the size:
  // each must hold the largest record. Null, both: a thread writes zeros ahead of need.
  SegmentMaker make_segment;
  std::unique_ptr<SegmentSupply> supply;
};

// Opens the log of the directory, or makes an empty one. A torn tail (a write that the crash cut
// off, never acknowledged) is discarded, a rotten head is restored from its second place; damage
// anywhere else is an error that names file and offset. Errors: kIo, kCorrupt, kRefused (another
// process has it open, or it belongs to another group).
// The calling thread is the log's thread from then on, and destroys it too: what is in flight is
// waited for, what was not handed to the disk yet is dropped, and no completion is called any more.
Result<std::unique_ptr<LogStore>> open_segment_log(LogOptions options, LogParts parts = {});

}  // namespace ballast::storage
