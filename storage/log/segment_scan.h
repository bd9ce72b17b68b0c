// The records of a segment, by their chain or wherever the head of one stands.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "proto/base/result.h"
#include "storage/log/record.h"

namespace ballast::storage {

// The bytes of one segment, in whatever pieces memory allows.
class SegmentSource {
 public:
  virtual ~SegmentSource() = default;
  virtual uint64_t size() const = 0;
  // [offset, offset + bytes), cut off at the end; valid until the next call. Error kIo.
  virtual Result<std::span<const std::byte>> fetch(uint64_t offset, size_t bytes) = 0;
};

// The record's head at `offset`, its CRC and its place verified. Errors: kIo, kCorrupt.
Result<RecordHeader> read_head(SegmentSource& source, GroupId group, uint64_t sequence,
                               uint64_t offset);

// Every place from `offset` on where the head of a record of this segment is whole, until `visit`
// returns false. Error kIo.
Status each_head(SegmentSource& source, GroupId group, uint64_t sequence, uint64_t offset,
                 const std::function<bool(const RecordHeader&)>& visit);

// Looks from `offset` on for a record that was written after the one numbered `serial` had been
// durable. Returns its offset, or 0 if there is none. Error kIo.
Result<uint64_t> find_later_record(SegmentSource& source, GroupId group, uint64_t sequence,
                                   uint64_t offset, uint64_t serial);

// From which serial on a scan looks at payloads, too: what was durable before needs no look.
inline constexpr uint64_t kAllPayloads = 0;
inline constexpr uint64_t kNoPayloads = UINT64_MAX;

// How far the chain of records goes in a segment.
struct SegmentScan {
  ChainEnd chain;         // after the last record
  uint64_t end = 0;       // offset behind the last record
  std::string end_cause;  // why what stands there is not the next record
  uint64_t last = 0;      // offset of the last record; 0: there is none
};

using RecordVisitor = std::function<Status(const RecordHeader&, uint64_t offset)>;
// Asked where the chain ends; true: the source has the next record now.
using ScanMender = std::function<Result<bool>(const SegmentScan&)>;

// Follows the chain from `offset` on. `mend` may be null. Errors: kIo, and what the two return.
Result<SegmentScan> scan_segment(SegmentSource& source, const SegmentHeader& header,
                                 uint64_t offset, uint64_t payloads_from,
                                 const RecordVisitor& visit, const ScanMender& mend = nullptr);

}  // namespace ballast::storage
