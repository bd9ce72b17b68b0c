// A look at the log of a node that does not run: what is there and what is damaged. Nothing is
// changed, and damage is what the report is about, not an error.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "proto/base/entry.h"
#include "proto/base/result.h"
#include "storage/log/hard_state_file.h"
#include "storage/log/segment_set.h"

namespace ballast::storage {

struct SegmentReport {
  uint64_t sequence = 0;
  uint64_t bytes = 0;
  bool home = false;   // of its blocks alone
  bool begun = false;  // false: prepared, of zeros as far as a start needs it
  uint64_t records = 0;
  uint64_t payload_bytes = 0;
  Index first;  // of its records; 0 if there are none
  Index last;
  uint64_t end = 0;    // where its records end
  std::string damage;  // empty: none
};

struct HardStateReport {
  HardState state;
  uint64_t durable_serial = 0;  // records with a lower one were durable when it was written
  int whole_copies = 0;         // of two
  LogStart start;
};

struct LogReport {
  bool made = false;  // false: no node was ever started here
  HardStateReport hard_state;
  std::vector<SegmentReport> segments;
  uint64_t next_serial = 1;
  Index last;          // of the log as a start would take it, if it did
  std::string damage;  // of the log as a whole; empty: none
  SegmentSet payloads;
};

// REQUIRES: the caller holds the data directory's lock. Every checksum is compared, those of
// payloads too. Errors: kIo.
Result<std::unique_ptr<LogReport>> inspect_log(const std::string& directory, GroupId group);

}  // namespace ballast::storage
