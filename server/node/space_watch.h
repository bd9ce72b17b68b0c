// Whether this node's disk has room for more, and for what when it has not: the log must never wait
// for a segment that can't be made, and RocksDB must never meet a full disk
// (docs/decisions/0012-a-full-disk.md).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "proto/base/entry.h"
#include "proto/base/limits.h"
#include "proto/base/result.h"
#include "storage/io/space.h"
#include "storage/log/log_room.h"

namespace ballast::server {

struct SpaceOptions {
  std::string name;                 // of the node, for messages
  std::string directory;            // likewise
  uint64_t segment_bytes = 0;       // of the log
  uint64_t write_buffer_bytes = 0;  // of the rows
  // Asked about once a second, on a worker. Null: nothing is watched, and nothing refused.
  std::function<Result<storage::Space>()> measure;

  // Below this nothing is written: RocksDB needs it to flush what it has in memory.
  uint64_t floor_bytes() const { return write_buffer_bytes; }
  // What a new segment of the log must leave.
  uint64_t beside_segment_bytes() const { return 2 * write_buffer_bytes; }
  // Whether a segment of so many bytes may be made.
  Status may_take(uint64_t bytes) const;
};

// What a write is for, hence how much of the log it must leave. Those that may go further are
// small.
enum class Need : uint8_t {
  kGrow,      // whatever a client stores
  kInFlight,  // what a primary with space has taken, at a backup
  kFree,      // deletes, which are how space comes back, and changes of the members
  kTerm,      // what a term begins with: without it nobody leads
};

class SpaceWatch {
 public:
  explicit SpaceWatch(SpaceOptions options) : options_(std::move(options)) {}

  bool watches() const { return options_.measure != nullptr; }
  const SpaceOptions& options() const { return options_; }
  const storage::Space& space() const { return space_; }
  void note(storage::Space space);

  // True if clients' writes are refused: the largest would not fit. `room` is the log's.
  bool full(const storage::LogRoom& room) const;
  // False if a flush of the rows could meet a full disk. It goes on for as long as it can: the log
  // can give back only what was flushed.
  bool may_flush() const { return !watches() || space_.free >= options_.floor_bytes() / 4; }
  // True if not even the entry fits with which a term begins.
  bool stuck(const storage::LogRoom& room) const;
  // Whether records of these sizes may be appended. Errors: kNoSpace; kOverloaded if the next
  // segment, which there is space for, is only being made.
  Status admit(const storage::LogRoom& room, std::span<const uint64_t> records, Need need) const;
  // What is missing where, and what to do.
  std::string complaint() const;

 private:
  uint64_t kept(Need need) const;

  SpaceOptions options_;
  storage::Space space_;
  bool below_floor_ = false;
};

}  // namespace ballast::server
