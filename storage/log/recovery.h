// What a log directory holds, and the decision between a torn tail and rot
// (docs/formats/log_segment.md has the table).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "proto/base/result.h"
#include "storage/log/hard_state_file.h"
#include "storage/log/locator.h"
#include "storage/log/record.h"
#include "storage/log/second_place.h"
#include "storage/log/segment_file.h"

namespace ballast::storage {

// A segment in use.
struct LogSegment {
  SegmentPtr file;
  Index first;     // of its first record
  ChainEnd chain;  // before that
};

struct RecoveredLog {
  HardStateRecord hard_state;
  std::vector<SegmentPtr> homes;     // of blocks alone
  std::vector<Locator> locators;     // of the entries behind the log's base
  std::vector<LogSegment> segments;  // in use, in order
  SegmentPtr prepared;               // of zeros, if there is one
  ChainEnd chain;
  LastHead last_head;         // of the record before it
  uint64_t write_offset = 0;  // in the last segment
  std::vector<RestoredHead> restored;
};

// REQUIRES: the caller holds the directory's lock. Errors: kIo, kCorrupt, kRefused.
Result<RecoveredLog> recover_log(const std::string& directory, GroupId group,
                                 const StoredHardState& hard_state);

}  // namespace ballast::storage
