// What a run did, to see that the faults really happened.
#pragma once

#include <cstdint>
#include <string>

namespace ballast::sim {

struct Counts {
  uint64_t frames = 0;
  uint64_t lost = 0;  // of the frames
  uint64_t partitions = 0;
  uint64_t stranded = 0;  // primaries
  uint64_t pauses = 0;
  uint64_t crashes = 0;
  uint64_t torn_recoveries = 0;  // power failures in the middle of what recovery writes
  uint64_t rotten = 0;
  uint64_t misplaced = 0;
  uint64_t refused = 0;  // disks, by their nodes
  uint64_t wiped = 0;
  uint64_t hangs = 0;
  uint64_t full = 0;           // disks
  uint64_t late_segments = 0;  // that an append had to wait for
  uint64_t reused = 0;         // segments' files
  uint64_t snapshots = 0;      // that were installed
  uint64_t write_errors = 0;
  uint64_t read_errors = 0;
  uint64_t changes = 0;
  uint64_t writes = 0;
  uint64_t acks = 0;
  uint64_t reads = 0;
  uint64_t entries = 0;

  Counts& operator+=(const Counts& other);
  // "1466 frames, 31 lost, ..."
  std::string to_string() const;
};

}  // namespace ballast::sim
