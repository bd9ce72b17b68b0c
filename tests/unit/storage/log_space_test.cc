// A disk without space for the next segment. A limit on the size of files stands for it: it is met
// in the segment that is made, and not in the one that is in use.
#include <sys/resource.h>

#include <csignal>

#include "storage/io/files.h"
#include "tests/unit/storage/log_testing.h"

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
  const auto made = create_segment(directory_.path(), 2, kSmallSegment, [] { return true; });
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, Errc::kIo);
  EXPECT_FALSE(path_exists(directory_ / (segment_name(2) + ".tmp")));
}

}  // namespace
}  // namespace ballast::storage
