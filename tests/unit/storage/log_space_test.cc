// A disk without space for the next segment. A limit on the size of files stands for it: it is met
// in the segment that is made, and not in the one that is in use.
#include <sys/resource.h>

#include <atomic>
#include <csignal>

#include "proto/files/files.h"
#include "storage/io/space.h"
#include "storage/log/record.h"
#include "tests/unit/storage/log_testing.h"
#include "tests/unit/storage/small_disk.h"

namespace ballast::storage {
namespace {

constexpr uint64_t kLimit = kSmallSegment - (1 << 20);
constexpr size_t kQuarter = 4 << 20;  // with its head, the fourth one does not fit

// While it lives.
class FileLimit {
 public:
  explicit FileLimit(uint64_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  FileLimit(const FileLimit&) = delete;
  FileLimit& operator=(const FileLimit&) = delete;
  ~FileLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

class LogSpace : public testing::Test {
 protected:
  // A log with one segment, since there is no space for the second.
  void SetUp() override {
    open_log(small_log(directory_.path()));
    std::filesystem::remove(directory_ / segment_name(2));
    limit_.emplace(kLimit);
    log_ = open_log(small_log(directory_.path()));
    ASSERT_TRUE(log_);
    for (uint64_t index = 1; index <= 3; ++index)
      append_and_wait(*log_, {make_entry(index, 1, kQuarter)});
  }
  void TearDown() override { log_.reset(); }

  TemporaryDirectory directory_;
  std::optional<FileLimit> limit_;
  std::unique_ptr<LogStore> log_;
};

TEST_F(LogSpace, is_looked_for_again_until_it_is_needed) {
  append_and_wait(*log_, {make_entry(4, 1, 0)});
  limit_.reset();
  append_and_wait(*log_, {make_entry(5, 1, kQuarter)});
  EXPECT_TRUE(path_exists(directory_ / segment_name(2)));
  EXPECT_EQ(read_all(*log_).size(), 5u);
}

TEST_F(LogSpace, that_is_needed_and_not_there_stops_the_process) {
  log_.reset();
  EXPECT_DEATH(
      {
        const auto log = open_log(small_log(directory_.path()));
        append_and_wait(*log, {make_entry(4, 1, kQuarter)});
      },
      "the log can't go on without its next segment: cannot write '.*2.log.tmp': File too large");
  limit_.reset();
  log_ = open_log(small_log(directory_.path()));
  EXPECT_EQ(read_all(*log_).size(), 3u);
  append_and_wait(*log_, {make_entry(4, 1, kQuarter)});
}

// Others need what is left.
TEST_F(LogSpace, is_given_back_by_a_segment_that_could_not_be_made) {
  log_.reset();
  const auto made =
      create_segment(directory_.path(), 2, kSmallSegment, SegmentFill::kZeros, [] { return true; });
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, Errc::kIo);
  EXPECT_FALSE(path_exists(directory_ / (segment_name(2) + ".tmp")));
}

// ---- with a rule for what must stay free ----

TEST(LogRoom, takes_records_in_order_and_never_splits_one) {
  const LogRoom room{.left = 100, .ahead = 80, .next = Outlook::kAssured};
  const auto holds = [&](std::vector<uint64_t> records, uint64_t reserve) {
    return room.holds(records, reserve);
  };
  EXPECT_TRUE(holds({100, 80}, 0));
  EXPECT_TRUE(holds({60, 60}, 20));
  EXPECT_FALSE(holds({60, 60}, 21)) << "40 of the first segment are lost";
  EXPECT_FALSE(holds({60, 60, 40}, 0)) << "the log does not go back";
  EXPECT_FALSE(holds({101}, 0));
  EXPECT_TRUE(holds({}, 180));
}

class LogRule : public testing::Test {
 protected:
  std::unique_ptr<LogStore> open() {
    LogOptions options = small_log(directory_.path());
    options.may_take = [this](uint64_t) -> Status {
      if (allowed_) return {};
      return fail(Errc::kNoSpace, "not now");
    };
    return open_log(options);
  }
  static void expect_room(const LogStore& log, uint64_t left, uint64_t ahead, Outlook next) {
    EXPECT_EQ(log.room().left, left);
    EXPECT_EQ(log.room().ahead, ahead);
    EXPECT_EQ(log.room().next, next);
  }
  static constexpr uint64_t kWhole = kSmallSegment - kSegmentHeaderBytes;

  TemporaryDirectory directory_;
  std::atomic<bool> allowed_ = false;
};

// Neither the process nor the term and vote wait for space: an append that fits goes on.
TEST_F(LogRule, lacking_space_stops_nothing_that_fits) {
  auto log = open();
  const uint64_t quarter = record_bytes(40, kQuarter);
  for (uint64_t index = 1; index <= 3; ++index)
    append_and_wait(*log, {make_entry(index, 1, kQuarter)});
  poll_until(*log, [&] { return log->room().next == Outlook::kLacking; });
  expect_room(*log, kWhole - 3 * quarter, 0, Outlook::kLacking);
  EXPECT_FALSE(path_exists(directory_ / segment_name(2)));
  append_and_wait(*log, {make_entry(4, 1, 0)}, HardState{Term(1), NodeId(2)});
  log.reset();
  log = open();  // a start without space, too
  poll_until(*log, [&] { return log->room().next == Outlook::kLacking; });
  EXPECT_EQ(read_all(*log).size(), 4u);
  EXPECT_EQ(log->hard_state(), (HardState{Term(1), NodeId(2)}));
  expect_room(*log, kWhole - 3 * quarter - record_bytes(40, 0), 0, Outlook::kLacking);
}

TEST_F(LogRule, an_append_that_does_not_fit_waits_for_space_and_not_in_vain) {
  auto log = open();
  for (uint64_t index = 1; index <= 3; ++index)
    append_and_wait(*log, {make_entry(index, 1, kQuarter)});
  bool done = false;
  log->append({}, {make_entry(4, 1, kQuarter)}, [&] { done = true; });
  EXPECT_EQ(log->room().next, Outlook::kComing) << "of the segment behind that of the append";
  EXPECT_EQ(log->room().left, kWhole - record_bytes(40, kQuarter));
  allowed_ = true;
  poll_until(*log, [&] { return done; });
  poll_until(*log, [&] { return log->room().next == Outlook::kAssured; });
  expect_room(*log, kWhole - record_bytes(40, kQuarter), kWhole, Outlook::kAssured);
  EXPECT_EQ(read_all(*log).size(), 4u);
}

// ---- on a disk that is full ----

TEST(LogOnAFullDisk, goes_on_in_what_it_has_and_then_in_what_comes_back) {
  if (const std::string problem = SmallDisk::problem(); !problem.empty()) GTEST_SKIP() << problem;
  const TemporaryDirectory directory;
  SmallDisk disk(directory.path(), 4 * kSmallSegment);
  auto log = open_log(small_log(directory.path()));
  append_and_wait(*log, {make_entry(1, 1, kQuarter)});
  poll_until(*log, [&] { return path_exists(directory / segment_name(2)); });
  disk.fill(kSmallSegment / 2);
  for (uint64_t index = 2; index <= 6; ++index)
    append_and_wait(*log, {make_entry(index, 1, kQuarter)});
  poll_until(*log, [&] { return log->room().next == Outlook::kLacking; });
  EXPECT_FALSE(path_exists(directory / (segment_name(3) + ".tmp"))) << "others need what it took";
  append_and_wait(*log, {make_entry(7, 1, 0)}, HardState{Term(2), NodeId(1)});
  disk.fill(0);
  append_and_wait(*log, {make_entry(8, 1, 0)}, HardState{Term(3), NodeId(1)});
  log.reset();
  log = open_log(small_log(directory.path()));
  ASSERT_TRUE(log) << "a start needs no space";
  EXPECT_EQ(read_all(*log).size(), 8u);
  EXPECT_EQ(log->hard_state(), (HardState{Term(3), NodeId(1)}));
  disk.give_back();
  poll_until(*log, [&] { return log->room().next == Outlook::kAssured; });
  append_and_wait(*log, {make_entry(9, 1, kQuarter)});
  EXPECT_EQ(read_all(*log).size(), 9u);
  log.reset();
}

TEST(HeldBack, is_made_once_and_given_up) {
  const TemporaryDirectory directory;
  ASSERT_TRUE(hold_space_back(directory.path()));
  ASSERT_TRUE(hold_space_back(directory.path()));
  const auto names = list_directory(directory.path());
  ASSERT_TRUE(names);
  ASSERT_EQ(names->size(), 1u);
  EXPECT_EQ(std::filesystem::file_size(directory / names->front()), kHeldBackBytes);
  ASSERT_TRUE(give_space_up(directory.path()));
  ASSERT_TRUE(give_space_up(directory.path()));
  EXPECT_TRUE(list_directory(directory.path())->empty());
}

// Nothing is left of what does not fit.
TEST(HeldBack, takes_nothing_where_there_is_no_space) {
  const TemporaryDirectory directory;
  const FileLimit limit(kHeldBackBytes / 2);
  EXPECT_FALSE(hold_space_back(directory.path()));
  EXPECT_TRUE(list_directory(directory.path())->empty());
}

}  // namespace
}  // namespace ballast::storage
