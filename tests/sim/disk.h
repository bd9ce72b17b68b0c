// The disk of a simulated node: the log's writes are in flight for as long as the simulation says,
// land in files (of a directory that nobody else uses) when they complete, and are torn by a crash.
// What has landed may rot. A write that fails stops its node, as in reality.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "server/raft/prng.h"
#include "storage/log/segment_log.h"
#include "tests/sim/scheduler.h"

namespace ballast::sim {

// Probabilities are in parts of a million.
inline constexpr uint64_t kMillion = 1'000'000;

struct DiskFaults {
  uint64_t write_us_min = 20;
  uint64_t write_us_max = 400;
  uint64_t stall_ppm = 0;  // of a write: takes up to stall_us_max
  uint64_t stall_us_max = 0;
  uint64_t error_ppm = 0;  // of a write: fails
};

// What is durable at one index of a log: the oracle's view, parsed from the bytes that landed.
struct DurableEntry {
  EntryMeta meta;
  uint32_t header_crc = 0;   // of the entry's header
  uint32_t payload_crc = 0;  // what the record says, and its payload has
  bool whole = false;        // the payload that landed matches
};

class SimDisk {
 public:
  SimDisk(std::string directory, Scheduler& scheduler, raft::Prng chance);
  ~SimDisk();
  SimDisk(const SimDisk&) = delete;
  SimDisk& operator=(const SimDisk&) = delete;

  DiskFaults faults;
  // A write has failed: the node must stop. Called from within an event.
  std::function<void()> on_error;
  // A write has begun and will take so long. Null: nobody listens.
  std::function<void(uint64_t us)> on_write;

  const std::string& directory() const { return directory_; }
  // The parts of a log over this disk. `on_ready` is called when completions wait. They become
  // useless with the next crash.
  storage::LogParts parts(std::function<void()> on_ready);

  // The process is gone: of each write in flight any of its sectors may have landed.
  void crash();
  // A new disk: empty.
  void wipe();
  // Flips a bit in a record that has landed, and that the disk knows to have landed: of the very
  // last ones it can't tell rot from a torn tail (docs/formats/log_segment.md). Returns false if
  // there is none.
  bool rot();
  // A write that was meant for another record's place has landed on such a record: where it was
  // meant to go, it is too. Returns false if there are no two records.
  bool misplace();

  // Term and vote that a restart would find.
  const HardState& hard_state() const { return hard_state_; }
  // Of the log as it landed; index 1 first.
  const std::vector<DurableEntry>& durable() const { return durable_; }
  // After a recovery: the log goes on from what it found, which may be more than what was durable
  // for certain before, never less. Returns what is wrong, or nothing.
  std::string recovered(const storage::LogStore& log);

 private:
  class Queue;
  struct Write {
    std::string path;
    uint64_t offset = 0;
    std::vector<std::byte> bytes;
    storage::IoQueue::Completion done;
  };

  struct Place {
    uint64_t serial;
    std::string path;
    uint64_t offset;
    uint64_t bytes;
  };

  void start(Write write);
  void land(const Write& write);
  void note(const Write& write);
  void put(const std::string& path, uint64_t offset, std::span<const std::byte> bytes) const;
  MutableBytes get(const std::string& path, uint64_t offset, size_t bytes) const;
  // A record that the disk knows to have landed, rather a new one; null if there is none.
  const Place* some_known_place();

  const std::string directory_;
  Scheduler& scheduler_;
  raft::Prng chance_;
  uint64_t started_ = 0;
  std::map<uint64_t, Write> in_flight_;  // by the order in which they were started
  uint64_t life_ = 0;
  std::function<void()> on_ready_;
  std::vector<std::pair<storage::IoQueue::Completion, Status>> completed_;
  std::vector<DurableEntry> durable_;
  HardState hard_state_;
  uint64_t known_serial_ = 0;  // records before it are known to have landed, by what lies behind
  std::vector<Place> places_;  // of records that landed, in order
};

}  // namespace ballast::sim
