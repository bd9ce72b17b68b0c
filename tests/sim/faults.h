// What may go wrong in a run, and how often. Drawn from the seed.
#pragma once

#include <cstdint>
#include <string_view>

#include "server/raft/prng.h"

namespace ballast::sim {

// Probabilities are in parts of a million.
inline constexpr uint64_t kMillion = 1'000'000;

// Of one disk, at each thing that it does.
struct DiskFaults {
  uint64_t segment_bytes = 6ull << 20;  // must hold the largest record; how soon one is full
  uint64_t write_us_min = 20;
  uint64_t write_us_max = 400;
  uint64_t stall_ppm = 0;  // of log writes: take up to stall_us_max more
  uint64_t stall_us_max = 0;
  uint64_t error_ppm = 0;       // of log writes: fail, and the node stops
  uint64_t read_error_ppm = 0;  // of reads of entries: fail, and the node stops
  uint64_t segment_us_max = 0;  // how long the making of a segment may take
};

// Mean times between events are in milliseconds of simulated time; 0: never.
struct Faults {
  uint64_t nodes = 3;   // founding members
  uint64_t spares = 0;  // nodes that may be added later
  uint64_t clients = 4;
  uint64_t storm_ms = 8'000;  // how long the faults go on
  uint64_t requests = 400;    // of all clients, at most

  // Network
  uint64_t delay_us_min = 50;
  uint64_t delay_us_spread = 500;
  uint64_t loss_ppm = 0;
  uint64_t duplicate_ppm = 0;
  uint64_t corrupt_ppm = 0;  // a bit flips on the way
  uint64_t slow_ppm = 0;     // a frame takes up to slow_us_max more, so that others overtake it
  uint64_t slow_us_max = 0;
  uint64_t partition_ms = 0;  // between partitions
  uint64_t partition_heal_ms = 1'500;

  // Nodes
  uint64_t crash_ms = 0;
  uint64_t restart_ms = 800;  // from a crash to the restart
  uint64_t pause_ms = 0;
  uint64_t pause_length_ms = 2'000;
  uint64_t clock_ppm = 0;    // how far a clock's rate may be off
  uint64_t transfer_ms = 0;  // between orders to hand leadership over
  uint64_t strand_ms = 0;    // between primaries that are cut off with one other and die
  uint64_t flush_ms = 500;   // between flushes of a node's rows

  uint64_t log_keep_bytes = 0;  // of the newest entries, before the log forgets; 0: it never does

  // Disks
  DiskFaults disk;
  uint64_t rot_ms = 0;       // between flipped bits in what was written; the disk is then replaced
  uint64_t misplace_ms = 0;  // between writes that hit another record's place; the same
  uint64_t wipe_ms = 0;      // between disks that are replaced by empty ones
  uint64_t hang_ms = 0;      // between disks that don't answer for a while
  uint64_t hang_length_ms = 2'000;
  uint64_t full_ms = 0;  // between disks without space
  uint64_t full_length_ms = 2'000;
  uint64_t recovery_crash_ppm = 0;  // of starts: power fails in recovery

  // Membership
  uint64_t change_ms = 0;  // between changes of the configuration
};

// Three nodes, short, some of everything that is usual.
Faults lite(raft::Prng& chance);
// Three to five nodes, longer, each seed with another mix and other strengths.
Faults swarm(raft::Prng& chance);

}  // namespace ballast::sim
