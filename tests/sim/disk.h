// The disk of a simulated node: the log's writes are in flight for as long as the simulation says,
// land in files (of a directory that nobody else uses) when they complete, and are torn by a crash.
// What has landed may rot. A write that fails stops its node, as in reality. Segments are made as
// SegmentPreparer makes them: ahead of need, in their own time, and once more if the disk was full.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/raft/prng.h"
#include "storage/log/segment_log.h"
#include "tests/sim/counts.h"
#include "tests/sim/faults.h"
#include "tests/sim/scheduler.h"

namespace ballast::sim {

// What is durable at one index of a log: the oracle's view, parsed from the bytes that landed.
struct DurableEntry {
  EntryMeta meta;
  uint32_t header_crc = 0;   // of the entry's header
  uint32_t payload_crc = 0;  // what the record says, and its payload has
  bool whole = false;        // the payload that landed matches
  bool in_snapshot = false;  // it never landed here: the rows that came show it
  std::string header;        // the entry's, of the record that landed last
};

class SimDisk {
 public:
  SimDisk(std::string directory, Scheduler& scheduler, raft::Prng chance);
  ~SimDisk();
  SimDisk(const SimDisk&) = delete;
  SimDisk& operator=(const SimDisk&) = delete;

  DiskFaults faults;
  // A write has failed, or the making of a segment that an append waits for: the node must stop.
  // Called from within an event.
  std::function<void()> on_error;
  // A write has begun and will take so long. Null: nobody listens.
  std::function<void(uint64_t us)> on_write;

  const std::string& directory() const { return directory_; }
  const Counts& counts() const { return counts_; }
  // Opens the log over this disk, of rows that came as a snapshot if `installed` says so; it
  // becomes useless with the next crash. `on_ready` is called when completions wait. Errors: as
  // open_segment_log(), and kIo if the disk is full or power fails.
  Result<std::unique_ptr<storage::LogStore>> open(std::optional<storage::LogBase> installed,
                                                  std::function<void()> on_ready);
  // Power fails in the next open(), after so many steps of what recovery writes (FileJournal): of
  // what is not flushed by then, any sectors may have landed. Nothing happens if it takes fewer.
  void fail_power_in_open(uint64_t steps) { power_steps_ = steps; }

  // The process is gone: of each write in flight any of its sectors may have landed.
  void crash();
  // For so long there is no space. No segment can be made; and where the file system copies on
  // write, nothing can be written, not even into segments that are there.
  void fill(uint64_t us, bool copies_on_write);
  // No write that begins within so long ends before that time is over.
  void hang(uint64_t us) { hangs_until_us_ = scheduler_.now_us() + us; }
  // Draws whether a read of entries fails.
  bool read_fails();
  // From now on nothing goes wrong.
  void heal();
  // A new disk: empty.
  void wipe();
  // Flips a bit in a record that has landed, and that the disk knows to have landed: of the very
  // last ones it can't tell rot from a torn tail (docs/formats/log_segment.md). If it hits a head,
  // the copy of it may rot, too. Returns false if there is none.
  bool rot();
  // A head has rotted of which another record has a copy: a start must not refuse it.
  bool rotten_head_has_copy() const { return rotten_head_has_copy_; }
  // Flips a bit in one copy of the hard state; the other one must do. Returns false if there
  // aren't two, whole and the same.
  bool rot_hard_state();
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
  class Supply;
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

  storage::LogParts parts();
  bool full() const { return scheduler_.now_us() < full_until_us_; }
  bool hits(uint64_t ppm) { return chance_.below(kMillion) < ppm; }
  void prepare_segment(storage::SegmentOrder order);
  void finish_segment();
  void hurry_segment();
  Result<storage::SegmentPtr> make_segment(uint64_t sequence) const;
  void leave_half_made();
  void begin_behind(const storage::LogBase& base);
  void forget_places(uint64_t first_segment);
  void start(Write write);
  void end_life();
  void land(const Write& write);
  void note(const Write& write);
  void put(const std::string& path, uint64_t offset, std::span<const std::byte> bytes) const;
  MutableBytes get(const std::string& path, uint64_t offset, size_t bytes) const;
  // A record that the disk knows to have landed, rather a new one; null if there is none.
  const Place* some_known_place();
  const Place* carrier_of(const Place& place) const;
  void flip(const std::string& path, uint64_t at);

  const std::string directory_;
  Scheduler& scheduler_;
  raft::Prng chance_;
  uint64_t started_ = 0;
  std::map<uint64_t, Write> in_flight_;  // by the order in which they were started
  uint64_t life_ = 0;
  uint64_t making_ = 0;        // the segment that is being made; 0: none
  storage::SegmentPtr spare_;  // of which it is made; null: of nothing
  bool urgent_ = false;        // an append waits for it
  bool retrying_ = false;
  storage::SegmentPtr made_;
  uint64_t full_until_us_ = 0;
  bool copies_on_write_ = false;
  uint64_t hangs_until_us_ = 0;
  std::optional<uint64_t> power_steps_;
  std::function<void()> on_ready_;
  std::vector<std::pair<storage::IoQueue::Completion, Status>> completed_;
  std::vector<DurableEntry> durable_;
  HardState hard_state_;
  Counts counts_;
  bool rotten_head_has_copy_ = false;
  uint64_t known_serial_ = 0;  // records before it are known to have landed, by what lies behind
  std::vector<Place> places_;  // of records that landed, in order
};

}  // namespace ballast::sim
