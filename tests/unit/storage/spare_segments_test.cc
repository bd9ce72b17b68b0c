// Files of segments that nothing needs any more: the next segments are written over them.
#include <gtest/gtest.h>

#include <filesystem>

#include "storage/log/record.h"
#include "storage/log/segment_file.h"
#include "tests/unit/storage/log_testing.h"

namespace ballast::storage {
namespace {

constexpr size_t kMiB = 1 << 20;

std::vector<Entry> entries_of(uint64_t first, uint64_t last, uint64_t term = 1) {
  std::vector<Entry> entries;
  for (uint64_t index = first; index <= last; ++index)
    entries.push_back(make_entry(index, term, kMiB));
  return entries;
}

void forget_all(LogStore& log) {
  bool done = false;
  log.begin_behind({log.may_begin_behind(log.durable()), Term(1), 0}, [&] { done = true; });
  poll_until(log, [&] { return done; });
  for (const LogStore::Home& home : log.homes()) log.retire_home(home.segment);
}

class Spares : public testing::Test {
 protected:
  // Each segment holds 15 entries. Four are full, and three of them spare.
  void SetUp() override {
    log_ = open_log(options_);
    append_and_wait(*log_, entries_of(1, 60));
    forget_all(*log_);
    ASSERT_EQ(log_->spare_bytes(), 3 * kSmallSegment);
  }
  void reopen() {
    log_.reset();
    log_ = open_log(options_);
    ASSERT_TRUE(log_);
  }
  std::string path_of(uint64_t segment) { return directory_ / segment_name(segment); }

  const TemporaryDirectory directory_;
  const LogOptions options_ = small_log(directory_.path());
  std::unique_ptr<LogStore> log_;
};

TEST_F(Spares, become_the_next_segments) {
  const uint64_t bytes = log_->disk_bytes();
  // The segment that is prepared already is new; the three behind it are not.
  append_and_wait(*log_, entries_of(61, 120));
  EXPECT_EQ(log_->spare_bytes(), 0u);
  for (const uint64_t spare : {1, 2, 3}) EXPECT_FALSE(std::filesystem::exists(path_of(spare)));
  EXPECT_LE(log_->disk_bytes(), bytes + 2 * kSmallSegment) << "of four segments one was made anew";
  EXPECT_TRUE(read_from_base(*log_) == entries_of(46, 120));
  reopen();
  EXPECT_TRUE(read_from_base(*log_) == entries_of(46, 120));
}

TEST_F(Spares, keep_what_they_held_until_it_is_written_over) {
  append_and_wait(*log_, entries_of(61, 91));  // the last of them into the second file
  const std::string path = path_of(log_->place_of(Index(91)).segment);
  const uint64_t behind = kSegmentHeaderBytes + record_bytes(40, kMiB);
  const std::string old = read_at(path, behind, 4096);
  EXPECT_NE(old, std::string(4096, '\0'));
  // Which is not taken for a record of the new segment, and costs a start no writes.
  reopen();
  EXPECT_EQ(log_->last(), Index(91));
  EXPECT_EQ(read_at(path, behind, 4096), old);
  append_and_wait(*log_, entries_of(92, 120));
  reopen();
  EXPECT_TRUE(read_from_base(*log_) == entries_of(46, 120));
}

TEST_F(Spares, are_not_written_over_while_somebody_reads_them) {
  const TemporaryDirectory directory;
  const auto log = open_log(small_log(directory.path()));
  append_and_wait(*log, entries_of(1, 45));
  auto read = log->prepare_read(Index(1), Index(3));
  ASSERT_TRUE(read);
  forget_all(*log);
  ASSERT_EQ(log->spare_bytes(), 2 * kSmallSegment);
  append_and_wait(*log, entries_of(46, 75));
  EXPECT_EQ(log->spare_bytes(), kSmallSegment) << "the one that is read stays as it is";
  EXPECT_TRUE((*read)->entries().value() == entries_of(1, 3));
  read->reset();
  append_and_wait(*log, entries_of(76, 90));
  EXPECT_EQ(log->spare_bytes(), 0u);
}

TEST_F(Spares, are_homes_again_after_a_restart) {
  reopen();
  EXPECT_EQ(log_->homes().size(), 3u);
  EXPECT_EQ(log_->spare_bytes(), 0u);
}

TEST_F(Spares, of_another_size_are_left_alone) {
  log_.reset();
  LogOptions larger = options_;
  larger.segment_bytes = 2 * kSmallSegment;
  log_ = open_log(larger);
  for (const LogStore::Home& home : log_->homes()) log_->retire_home(home.segment);
  append_and_wait(*log_, entries_of(61, 150));
  EXPECT_EQ(log_->spare_bytes(), 3 * kSmallSegment);
  ASSERT_TRUE(log_->trim_spares(kSmallSegment));
  EXPECT_EQ(log_->spare_bytes(), kSmallSegment);
}

// The records of the first batch have landed, and its header has not.
TEST_F(Spares, a_torn_first_batch_leaves_no_record_behind) {
  append_and_wait(*log_, entries_of(61, 90));  // two segments, up to their end
  const std::string hard_state = directory_ / "hard_state";
  const std::string before = read_at(hard_state, 0, 8192);
  append_and_wait(*log_, entries_of(91, 93));
  const uint64_t torn = log_->place_of(Index(91)).segment;
  ASSERT_EQ(log_->place_of(Index(91)).offset(), kSegmentHeaderBytes + record_head_bytes(40));
  log_.reset();
  write_at(hard_state, 0, before);
  std::filesystem::remove(path_of(torn + 1));  // made only when that batch is durable
  write_at(path_of(torn), 0, std::string(kSegmentHeaderBytes, '\0'));
  reopen();
  EXPECT_TRUE(read_from_base(*log_) == entries_of(46, 90));
  EXPECT_EQ(read_at(path_of(torn), kSegmentHeaderBytes, 4096), std::string(4096, '\0'));
  append_and_wait(*log_, entries_of(91, 120, 2));
  reopen();
  EXPECT_EQ(log_->last(), Index(120));
}

// The file has lost its old name, or has no header any more, or has its new name.
TEST_F(Spares, a_crash_while_one_is_made_anew_loses_nothing) {
  const uint64_t next = log_->place_of(Index(60)).segment + 1;
  const std::string temporary = path_of(next) + ".tmp";
  const std::string no_header(kSegmentHeaderBytes, '\0');
  for (int step = 0; step < 3; ++step) {
    log_.reset();
    std::filesystem::rename(path_of(step + 1), temporary);
    if (step > 0) write_at(temporary, 0, no_header);
    if (step > 1) std::filesystem::rename(temporary, path_of(next));
    reopen();
    EXPECT_TRUE(read_from_base(*log_) == entries_of(46, 60)) << "step " << step;
  }
  append_and_wait(*log_, entries_of(61, 100));
  reopen();
  EXPECT_TRUE(read_from_base(*log_) == entries_of(46, 100));
}

// Makes segments at once, and remembers what was asked for.
class Remembering final : public SegmentSupply {
 public:
  Remembering(std::string directory, std::vector<SegmentFill>& fills)
      : directory_(std::move(directory)), fills_(fills) {}
  void prepare(SegmentOrder order) override {
    fills_.push_back(order.fill);
    auto made =
        create_segment(directory_, order.sequence, kSmallSegment, order.fill, [] { return true; });
    BALLAST_CHECK(made.has_value(), "{}", made.error().message);
    ready_ = *std::move(made);
  }
  SegmentPtr take() override { return std::exchange(ready_, nullptr); }
  void hurry() override {}

 private:
  const std::string directory_;
  std::vector<SegmentFill>& fills_;
  SegmentPtr ready_;
};

TEST(SegmentFill, a_new_file_is_made_for_what_the_segment_before_held) {
  const TemporaryDirectory directory;
  std::vector<SegmentFill> fills;
  LogParts parts;
  parts.supply = std::make_unique<Remembering>(directory.path(), fills);
  auto log = open_segment_log(small_log(directory.path()), std::move(parts));
  ASSERT_TRUE(log) << log.error().message;
  const auto small = [](uint64_t first, uint64_t last) {
    std::vector<Entry> entries;
    for (uint64_t index = first; index <= last; ++index)
      entries.push_back(make_entry(index, 1, 60'000));
    return entries;
  };
  append_and_wait(**log, entries_of(1, 40));  // 15 to a segment, in three of them
  append_and_wait(**log, small(41, 1000));    // 255 to a segment
  const Index last = (*log)->last();
  const std::vector<SegmentFill> expected = {
      SegmentFill::kZeros,     // behind the first, when nothing is known yet
      SegmentFill::kReserved,  // the first held large ones
      SegmentFill::kReserved,  // and the second; the third is mixed
  };
  ASSERT_GE(fills.size(), 5u);
  EXPECT_TRUE(std::ranges::equal(expected, std::span(fills).first(3)));
  EXPECT_EQ(fills.back(), SegmentFill::kZeros) << "small ones for whole segments now";
  const auto entries = read_all(**log);
  log->reset();
  const auto again = open_log(small_log(directory.path()));
  EXPECT_EQ(again->last(), last);
  EXPECT_TRUE(read_all(*again) == entries);
}

TEST(SegmentFill, both_read_as_zeros) {
  const TemporaryDirectory directory;
  for (const SegmentFill fill : {SegmentFill::kZeros, SegmentFill::kReserved}) {
    const auto made = create_segment(directory.path(), 1, kSmallSegment, fill, [] { return true; });
    ASSERT_TRUE(made) << made.error().message;
    EXPECT_EQ((*made)->bytes, kSmallSegment);
    EXPECT_TRUE(read_at(directory / segment_name(1), 0, kSmallSegment) ==
                std::string(kSmallSegment, '\0'));
    std::filesystem::remove(directory / segment_name(1));
  }
}

}  // namespace
}  // namespace ballast::storage
