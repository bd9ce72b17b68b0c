// What a log directory holds, and the decision between a torn tail and rot
// (docs/formats/log_segment.md has the table).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "proto/base/result.h"
#include "storage/log/hard_state_file.h"
#include "storage/log/locator.h"
#include "storage/log/record.h"
#include "storage/log/segment_file.h"

namespace ballast::storage {

// The bytes of one segment, in whatever pieces memory allows.
class SegmentSource {
 public:
  virtual ~SegmentSource() = default;
  virtual uint64_t size() const = 0;
  // [offset, offset + bytes), cut off at the end; valid until the next call. Error kIo.
  virtual Result<std::span<const std::byte>> fetch(uint64_t offset, size_t bytes) = 0;
};

// From which serial on a scan looks at payloads, too: what was durable before needs no look.
inline constexpr uint64_t kAllPayloads = 0;
inline constexpr uint64_t kNoPayloads = UINT64_MAX;

// How far the chain of records goes in a segment.
struct SegmentScan {
  ChainEnd chain;         // after the last record
  uint64_t end = 0;       // offset behind the last record
  std::string end_cause;  // why what stands there is not the next record
};

using RecordVisitor = std::function<Status(const RecordHeader&, uint64_t offset)>;

// Follows the chain from `offset` on. Errors: kIo, and what `visit` returns.
Result<SegmentScan> scan_segment(SegmentSource& source, const SegmentHeader& header,
                                 uint64_t offset, uint64_t payloads_from,
                                 const RecordVisitor& visit);

// Looks behind `offset` for a record that was written after the one numbered `serial` had been
// durable. Returns its offset, or 0 if there is none. Error kIo.
Result<uint64_t> find_later_record(SegmentSource& source, GroupId group, uint64_t sequence,
                                   uint64_t offset, uint64_t serial);

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
  uint64_t write_offset = 0;  // in the last segment
};

// REQUIRES: the caller holds the directory's lock. Errors: kIo, kCorrupt, kRefused.
Result<RecoveredLog> recover_log(const std::string& directory, GroupId group,
                                 const HardStateRecord& hard_state);

}  // namespace ballast::storage
