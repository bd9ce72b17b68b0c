// The log over the simulated disk: many seeds of appends, crashes and damage. What it acknowledged
// is there, bit for bit, or the log does not open.
#include "proto/base/clock.h"
#include "proto/base/limits.h"
#include "storage/log/record.h"
#include "tests/sim/disk.h"
#include "tests/sim/file_journal.h"
#include "tests/unit/storage/log_testing.h"

namespace ballast::sim {
namespace {

using storage::make_entry;
using storage::read_all;

constexpr uint64_t kSeeds = BALLAST_DISK_SEEDS;

// Of all sizes; a few segments of the simulated disk fill up in the course of a test.
size_t payload_of(uint64_t index, uint64_t term) {
  raft::Prng chance(index * 1'000 + term);
  if (chance.below(20) == 0) return chance.below(limits::kBlockBytesMax + 1);
  return chance.below(3) == 0 ? 0 : chance.below(20'000);
}

Entry entry_of(uint64_t index, uint64_t term) {
  return make_entry(index, term, payload_of(index, term));
}

class LogOnSimDisk {
 public:
  explicit LogOnSimDisk(uint64_t seed)
      : chance_(seed), disk_(directory_ / "log", scheduler_, raft::Prng(chance_.next())) {}
  ~LogOnSimDisk() { disk_.crash(); }

  Status open() {
    ++life_;
    BALLAST_TRY(log_, disk_.open({}, [this] {
      scheduler_.after(0, [this, life = life_] {
        if (life == life_) log_->poll();
      });
    }));
    return {};
  }

  // The power fails.
  void crash() {
    disk_.crash();
    close();
  }
  void close() {
    ++life_;
    log_.reset();
  }

  // Runs what happens within that time.
  void run(uint64_t us) {
    const uint64_t end = scheduler_.now_us() + us;
    while (scheduler_.run_next(end)) {
    }
  }

  // `count` entries of the term from the index on.
  void append(uint64_t index, uint64_t count, uint64_t term,
              std::optional<HardState> state = std::nullopt) {
    std::vector<Entry> entries;
    for (uint64_t i = index; i < index + count; ++i) entries.push_back(entry_of(i, term));
    log_->append(state, std::move(entries), [=, this] {
      acknowledged_at_us_.push_back(scheduler_.now_us());
      if (state) promised_ = *state;
      if (count == 0) return;
      acknowledged_.resize(index - 1);
      acknowledged_.insert(acknowledged_.end(), count, term);
    });
  }

  // One thing that a node might do next.
  void act(uint64_t term) {
    switch (chance_.below(6)) {
      case 0: return log_->note_durable();
      case 1: return append(1, 0, term, next_state());
      case 2: {
        // Only entries of older terms are ever replaced.
        uint64_t next = log_->last().value() + 1;
        const std::vector<EntryMeta> held = log_->entries();
        for (uint64_t back = chance_.below(4); back > 0; --back)
          if (next > 1 && held[next - 2].term < Term(term)) --next;
        return append(next, 1 + chance_.below(3), term);
      }
      default: return append(log_->last().value() + 1, 1 + chance_.below(4), term);
    }
  }

  // What the opened log holds is all that was acknowledged, or what was to replace it.
  void expect_kept_promises() {
    ASSERT_EQ(disk_.recovered(*log_), "");
    EXPECT_GE(log_->hard_state().term, promised_.term);
    EXPECT_EQ(log_->hard_state(), state_of(log_->hard_state().term.value()));
    const std::vector<Entry> found = read_all(*log_);
    for (size_t i = 0; i < acknowledged_.size(); ++i) {
      ASSERT_LT(i, found.size()) << "an acknowledged entry is missing";
      if (found[i].term > Term(acknowledged_[i])) break;
      ASSERT_EQ(found[i].term, Term(acknowledged_[i])) << "index " << i + 1;
    }
    acknowledged_.clear();
    for (size_t i = 0; i < found.size(); ++i) {
      ASSERT_TRUE(found[i] == entry_of(i + 1, found[i].term.value())) << "index " << i + 1;
      acknowledged_.push_back(found[i].term.value());
    }
    promised_ = log_->hard_state();
  }

  bool read_is_refused() const {
    if (log_->last() == Index()) return false;
    const auto read = log_->prepare_read(Index(1), log_->last());
    const auto entries = (*read)->entries();
    return !entries && entries.error().code == Errc::kCorrupt;
  }

  storage::LogStore& log() { return *log_; }
  SimDisk& disk() { return disk_; }
  raft::Prng& chance() { return chance_; }
  uint64_t now_us() const { return scheduler_.now_us(); }
  size_t acknowledged() const { return acknowledged_.size(); }
  const std::vector<uint64_t>& acknowledged_at_us() const { return acknowledged_at_us_; }

  // Another one each time; its terms have nothing to do with those of the entries.
  HardState next_state() { return state_of(++states_); }

 private:
  static HardState state_of(uint64_t term) { return {Term(term), NodeId(term * 7 % 5)}; }

  storage::TemporaryDirectory directory_;
  Scheduler scheduler_;
  raft::Prng chance_;
  SimDisk disk_;
  uint64_t life_ = 0;
  std::unique_ptr<storage::LogStore> log_;
  std::vector<uint64_t> acknowledged_;  // terms of index 1, 2, ...
  HardState promised_;
  uint64_t states_ = 0;
  std::vector<uint64_t> acknowledged_at_us_;
};

// Acts and crashes, or closes, a few times over.
void live(LogOnSimDisk& bed, uint64_t lives) {
  bed.disk().faults.stall_ppm = 20'000;
  bed.disk().faults.stall_us_max = 20 * kMs;
  for (uint64_t term = 1; term <= lives; ++term) {
    const Status opened = bed.open();
    ASSERT_TRUE(opened) << opened.error().message;
    bed.expect_kept_promises();
    for (uint64_t left = bed.chance().below(60); left > 0; --left) {
      bed.act(term);
      if (bed.chance().below(2) == 0) bed.run(bed.chance().below(2 * kMs));
    }
    if (bed.chance().below(4) == 0) {
      bed.close();
    } else {
      bed.crash();
    }
  }
}

TEST(SimDisk, what_was_acknowledged_survives_crashes_at_any_moment) {
  uint64_t acknowledged = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    LogOnSimDisk bed(seed);
    ASSERT_NO_FATAL_FAILURE(live(bed, 5));
    ASSERT_TRUE(bed.open());
    ASSERT_NO_FATAL_FAILURE(bed.expect_kept_promises());
    acknowledged += bed.acknowledged();
  }
  EXPECT_GT(acknowledged, kSeeds * 50);
}

// One seed, and a crash somewhat later each time.
TEST(SimDisk, crashes_all_along_one_run_are_survived) {
  for (uint64_t us = 0; us < 6 * kMs; us += 53) {
    SCOPED_TRACE(fmt::format("crash after {} us", us));
    LogOnSimDisk bed(1);
    ASSERT_TRUE(bed.open());
    bed.append(1, 3, 1, bed.next_state());
    bed.run(us / 2);
    bed.append(4, 3, 1);
    bed.log().note_durable();
    bed.run(us - us / 2);
    bed.crash();
    ASSERT_TRUE(bed.open());
    ASSERT_NO_FATAL_FAILURE(bed.expect_kept_promises());
  }
}

// Power fails again and again in what recovery zeroes or restores, each time further on.
TEST(SimDisk, crashes_in_recovery_are_survived) {
  uint64_t torn = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    LogOnSimDisk bed(seed);
    for (uint64_t term = 1; term <= 3; ++term) {
      for (uint64_t steps = 0; steps < 4; ++steps) {
        bed.disk().fail_power_in_open(steps);
        const Status opened = bed.open();
        if (opened) {
          bed.close();
          break;
        }
        ASSERT_EQ(opened.error().code, Errc::kIo) << opened.error().message;
        ++torn;
      }
      ASSERT_TRUE(bed.open());
      ASSERT_NO_FATAL_FAILURE(bed.expect_kept_promises());
      for (int i = 0; i < 10; ++i) {
        bed.act(term);
        bed.run(bed.chance().below(kMs));
      }
      bed.crash();
    }
    ASSERT_TRUE(bed.open());
    ASSERT_NO_FATAL_FAILURE(bed.expect_kept_promises());
  }
  EXPECT_GT(torn, kSeeds * 2);
}

// Segments of zeros, names and the hard state: whatever a crash leaves of a log that was being made
// becomes a log.
TEST(SimDisk, the_making_of_a_log_may_be_interrupted_anywhere) {
  uint64_t steps = 0;
  for (bool whole = false; !whole; ++steps) {
    for (uint64_t seed = 1; seed <= 2; ++seed) {
      SCOPED_TRACE(fmt::format("{} steps, seed {}", steps, seed));
      const storage::TemporaryDirectory directory;
      raft::Prng chance(seed);
      {
        FileJournal journal(steps);
        auto log = storage::open_segment_log(storage::small_log(directory.path()));
        whole = !journal.power_failed();
        ASSERT_EQ(log.has_value(), whole);
        if (whole) {
          storage::append_and_wait(**log, {entry_of(1, 1)}, HardState{Term(1), NodeId(1)});
          log->reset();
        }
        journal.crash(chance);
      }
      const auto log = storage::open_log(storage::small_log(directory.path()));
      ASSERT_TRUE(log);
      ASSERT_EQ(log->last(), Index(whole ? 1 : 0));
      storage::append_and_wait(*log, {entry_of(log->last().value() + 1, 1)});
    }
  }
  EXPECT_GT(steps, 20u) << "16 writes of zeros, the hard state, names and flushes";
}

// A head comes back from its copy. Rot may hit the zeros behind a payload; then nothing is lost,
// and nothing is said.
TEST(SimDisk, damage_is_mended_or_an_error_and_never_a_shorter_log) {
  uint64_t damaged = 0;
  uint64_t mended = 0;
  uint64_t refused = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    LogOnSimDisk bed(seed);
    ASSERT_NO_FATAL_FAILURE(live(bed, 3));
    if (!(seed % 2 == 0 ? bed.disk().rot() : bed.disk().misplace())) continue;
    ++damaged;
    const Status opened = bed.open();
    if (bed.disk().rotten_head_has_copy()) {
      ASSERT_TRUE(opened) << opened.error().message;
      ASSERT_NO_FATAL_FAILURE(bed.expect_kept_promises());
      ++mended;
    } else if (!opened) {
      EXPECT_EQ(opened.error().code, Errc::kCorrupt) << opened.error().message;
      ++refused;
    } else if (bed.read_is_refused()) {
      ++refused;  // a payload in a full segment, which a start does not look at
    } else {
      ASSERT_NO_FATAL_FAILURE(bed.expect_kept_promises());
    }
  }
  EXPECT_GT(damaged, kSeeds * 3 / 4);
  EXPECT_GT(mended, damaged / 10);
  EXPECT_GT(refused, damaged / 4);
}

TEST(SimDisk, one_copy_of_the_hard_state_is_enough_and_becomes_two) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    LogOnSimDisk bed(seed);
    ASSERT_TRUE(bed.open());
    bed.append(1, 3, 1, bed.next_state());
    bed.run(20 * kMs);
    for (int i = 0; i < 3; ++i) {
      bed.crash();
      ASSERT_TRUE(bed.disk().rot_hard_state());
      EXPECT_FALSE(bed.disk().rot_hard_state()) << "there is one copy left";
      const Status opened = bed.open();
      ASSERT_TRUE(opened) << opened.error().message;
      ASSERT_NO_FATAL_FAILURE(bed.expect_kept_promises());
    }
  }
}

TEST(SimDisk, even_the_last_record_is_known_once_the_log_was_idle) {
  for (const bool idle : {false, true}) {
    LogOnSimDisk bed(1);
    ASSERT_TRUE(bed.open());
    bed.append(1, 1, 1);
    bed.run(10 * kMs);
    ASSERT_EQ(bed.acknowledged(), 1u);
    if (idle) bed.log().note_durable();
    bed.run(10 * kMs);
    bed.crash();
    EXPECT_EQ(bed.disk().rot(), idle) << "the one record there is";
    // It is not taken for a torn one: a rotten head comes back, and of a rotten payload the head
    // says that it was there.
    ASSERT_TRUE(bed.open());
    EXPECT_EQ(bed.log().last(), Index(1));
  }
}

TEST(SimDisk, an_append_waits_for_one_write_of_the_note_at_most) {
  LogOnSimDisk bed(1);
  bed.disk().faults.write_us_min = bed.disk().faults.write_us_max = kMs;
  ASSERT_TRUE(bed.open());
  bed.append(1, 1, 1);
  bed.run(5 * kMs);
  const uint64_t start = bed.now_us();
  bed.log().note_durable();
  bed.append(2, 1, 1);
  bed.run(10 * kMs);
  EXPECT_EQ(bed.acknowledged_at_us().back(), start + 2 * kMs) << "one slot, and the entry";
  int writes = 0;
  bed.disk().on_write = [&](uint64_t) { ++writes; };
  for (int i = 0; i < 5; ++i) {
    bed.log().note_durable();
    bed.run(10 * kMs);
  }
  EXPECT_EQ(writes, 2) << "both slots once, and then there is nothing to note";
}

TEST(SimDisk, a_write_that_fails_is_never_acknowledged) {
  LogOnSimDisk bed(1);
  ASSERT_TRUE(bed.open());
  int errors = 0;
  bed.disk().on_error = [&] { ++errors; };
  bed.disk().faults.error_ppm = 1'000'000;
  bed.append(1, 1, 1);
  bed.run(100 * kMs);
  EXPECT_EQ(errors, 1);
  EXPECT_EQ(bed.acknowledged(), 0u);
  EXPECT_EQ(bed.log().durable(), Index(0));
}

// Segments of four entries without payload, and time that the log sees.
class SmallSegments : public testing::Test {
 protected:
  void SetUp() override {
    bed_.disk().faults.segment_bytes = 5 * storage::kSegmentHeaderBytes;
    bed_.disk().on_error = [this] { ++errors_; };
  }
  void TearDown() override { simulate_time(nullptr); }

  void append(uint64_t index) {
    bed_.log().append(std::nullopt, {make_entry(index, 1, 0)}, [this] { ++done_; });
  }
  void append_four() {
    for (uint64_t index = 1; index <= 4; ++index) append(index);
    run(10 * kMs);
    ASSERT_EQ(done_, 4u);
  }
  // For three seconds there is no space for another segment.
  void fill_last_segment_of_full_disk() {
    ASSERT_TRUE(bed_.open());
    bed_.crash();
    std::filesystem::remove(bed_.disk().directory() + "/" + storage::segment_name(2));
    bed_.disk().fill(3'000 * kMs, false);
    ASSERT_TRUE(bed_.open());
    append_four();
  }
  void run(uint64_t us) {
    bed_.run(us);
    time_.now = Clock::time_point(std::chrono::hours(1) + std::chrono::microseconds(bed_.now_us()));
    simulate_time(&time_);
  }

  LogOnSimDisk bed_{1};
  SimulatedTime time_{};
  uint64_t done_ = 0;
  int errors_ = 0;
};

TEST_F(SmallSegments, an_append_waits_for_a_segment_that_is_late) {
  bed_.disk().faults.segment_us_max = 4'000 * kMs;
  run(0);
  ASSERT_TRUE(bed_.open());
  append_four();
  append(5);
  run(100 * kMs);
  EXPECT_EQ(done_, 4u);
  EXPECT_EQ(bed_.log().oldest_pending_us(), 100 * kMs) << "a primary hands over by that";
  run(4'000 * kMs);
  EXPECT_EQ(done_, 5u);
  EXPECT_EQ(bed_.log().oldest_pending_us(), 0u);
  EXPECT_EQ(bed_.disk().counts().late_segments, 1u);
}

TEST_F(SmallSegments, a_full_disk_is_no_error_while_nobody_needs_a_segment) {
  fill_last_segment_of_full_disk();
  run(5'000 * kMs);
  append(5);
  run(10 * kMs);
  EXPECT_EQ(done_, 5u);
  EXPECT_EQ(errors_, 0);
}

TEST_F(SmallSegments, a_full_disk_stops_the_node_that_needs_a_segment_and_loses_nothing) {
  fill_last_segment_of_full_disk();
  append(5);
  run(10 * kMs);
  EXPECT_EQ(errors_, 1);
  EXPECT_EQ(done_, 4u);
  bed_.crash();
  run(5'000 * kMs);
  ASSERT_TRUE(bed_.open());
  EXPECT_EQ(bed_.log().last(), Index(4));
  append(5);
  run(10 * kMs);
  EXPECT_EQ(done_, 5u);
}

TEST_F(SmallSegments, a_disk_that_copies_on_write_takes_nothing_when_it_is_full) {
  ASSERT_TRUE(bed_.open());
  bed_.disk().fill(1'000 * kMs, true);
  append(1);
  run(10 * kMs);
  EXPECT_EQ(errors_, 1);
  EXPECT_EQ(done_, 0u);
  bed_.crash();
  const Status refused = bed_.open();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kIo);
  run(1'000 * kMs);
  EXPECT_TRUE(bed_.open());
}

TEST(SimDisk, a_wiped_disk_is_a_new_one) {
  LogOnSimDisk bed(1);
  ASSERT_TRUE(bed.open());
  bed.append(1, 5, 1, bed.next_state());
  bed.run(20 * kMs);
  bed.crash();
  bed.disk().wipe();
  ASSERT_TRUE(bed.open());
  EXPECT_EQ(bed.log().last(), Index(0));
  EXPECT_EQ(bed.log().hard_state(), HardState());
}

TEST(SimDisk, the_same_seed_is_the_same_run) {
  std::vector<std::vector<uint64_t>> runs;
  for (int i = 0; i < 2; ++i) {
    LogOnSimDisk bed(7);
    ASSERT_NO_FATAL_FAILURE(live(bed, 4));
    runs.push_back(bed.acknowledged_at_us());
  }
  EXPECT_GT(runs[0].size(), 20u);
  EXPECT_EQ(runs[0], runs[1]);
}

}  // namespace
}  // namespace ballast::sim
