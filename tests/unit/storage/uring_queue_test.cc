// The queue over a kernel that answers as it may and seldom does: part of a write, nothing of it,
// or that it was interrupted. This program's own io_uring_submit() sees to that.
#include <dlfcn.h>
#include <liburing.h>

#include <deque>
#include <utility>

#include "proto/files/files.h"
#include "storage/io/io_queue.h"
#include "tests/unit/storage/log_testing.h"

namespace ballast::storage {
namespace {

// What becomes of one submission, in the order in which they are made.
struct Fate {
  int error = 0;            // negative: the kernel says that, and has done nothing
  size_t bytes = SIZE_MAX;  // of a write: so many are written, and that is said
};

struct Kernel {
  std::deque<Fate> fates;  // empty: as the real one
  int submissions = 0;
  std::vector<iovec> shortened;  // what the kernel reads of the write under way

  void shorten(io_uring_sqe& entry, size_t bytes) {
    const auto* pieces = reinterpret_cast<const iovec*>(entry.addr);
    shortened.clear();
    for (unsigned i = 0; i < entry.len && bytes > 0; ++i) {
      shortened.push_back({pieces[i].iov_base, std::min(bytes, pieces[i].iov_len)});
      bytes -= shortened.back().iov_len;
    }
    entry.addr = reinterpret_cast<uint64_t>(shortened.data());
    entry.len = static_cast<unsigned>(shortened.size());
  }
};
Kernel kernel;

int submit_really(io_uring* ring) {
  using Submit = int (*)(io_uring*);
  static const auto submit = reinterpret_cast<Submit>(::dlsym(RTLD_NEXT, "io_uring_submit"));
  return submit(ring);
}

// Replaces the request by one that does nothing, and its result by the error.
int submit_in_vain(io_uring* ring, io_uring_sqe& entry, int error) {
  const uint64_t id = entry.user_data;
  io_uring_prep_nop(&entry);
  io_uring_sqe_set_data64(&entry, id);
  const int code = submit_really(ring);
  unsigned head = 0;
  io_uring_cqe* completion = nullptr;
  io_uring_for_each_cqe(ring, head, completion) {
    if (completion->user_data == id) completion->res = error;
  }
  return code;
}

}  // namespace
}  // namespace ballast::storage

extern "C" int io_uring_submit(io_uring* ring) {
  using ballast::storage::kernel;
  ++kernel.submissions;
  if (kernel.fates.empty()) return ballast::storage::submit_really(ring);
  const auto fate = kernel.fates.front();
  kernel.fates.pop_front();
  io_uring_sqe& entry = ring->sq.sqes[ring->sq.sqe_head & *ring->sq.kring_mask];
  if (fate.error < 0) return ballast::storage::submit_in_vain(ring, entry, fate.error);
  if (entry.opcode == IORING_OP_WRITEV) kernel.shorten(entry, fate.bytes);
  return ballast::storage::submit_really(ring);
}

namespace ballast::storage {
namespace {

class UringQueueTest : public testing::Test {
 protected:
  void SetUp() override {
    kernel = {};
    auto made = make_uring_queue();
    ASSERT_TRUE(made) << made.error().message;
    queue_ = *std::move(made);
    auto opened = open_file(directory_ / "file", O_RDWR | O_CREAT);
    ASSERT_TRUE(opened);
    file_ = *std::move(opened);
  }
  void TearDown() override { queue_.reset(); }

  // Writes three pieces at an offset and waits.
  Status write() {
    std::optional<Status> outcome;
    std::vector<iovec> pieces;
    for (Bytes& piece : pieces_)
      pieces.push_back({const_cast<std::byte*>(piece.data()), piece.size()});
    kernel.submissions = 0;
    queue_->write_durably(file_, std::move(pieces), kOffset, [&](Status status) {
      EXPECT_FALSE(outcome.has_value()) << "it completes once";
      outcome = std::move(status);
    });
    queue_->drain();
    EXPECT_TRUE(outcome.has_value());
    return outcome.value_or(fail(Errc::kInternal, "no completion"));
  }

  void expect_written() const {
    uint64_t at = kOffset;
    for (const Bytes& piece : pieces_) {
      EXPECT_EQ(Bytes::copy_of(read_at(file_.path(), at, piece.size())), piece) << "at " << at;
      at += piece.size();
    }
  }

  static constexpr uint64_t kOffset = 4096;
  TemporaryDirectory directory_;
  std::vector<Bytes> pieces_{pattern(1, 4096), pattern(2, 12'288), pattern(3, 8192)};
  UniqueFd file_;
  std::unique_ptr<IoQueue> queue_;
};

TEST_F(UringQueueTest, a_write_is_a_write_and_a_flush) {
  ASSERT_TRUE(write());
  EXPECT_EQ(kernel.submissions, 2);
  expect_written();
}

TEST_F(UringQueueTest, short_writes_are_continued_where_they_ended) {
  // Within a piece, at the end of one, over two of them, and the rest.
  kernel.fates = {{.bytes = 1000}, {.bytes = 3096}, {.bytes = 12'289}, {}, {}};
  ASSERT_TRUE(write());
  EXPECT_EQ(kernel.submissions, 5) << "four writes and a flush";
  EXPECT_TRUE(kernel.fates.empty());
  expect_written();
}

TEST_F(UringQueueTest, what_was_interrupted_is_tried_again) {
  kernel.fates = {{.error = -EINTR},
                  {.bytes = 5000},
                  {.error = -EAGAIN},
                  {.error = -EINTR},
                  {},
                  {.error = -EINTR},
                  {}};
  ASSERT_TRUE(write());
  EXPECT_EQ(kernel.submissions, 7) << "the last but one is the flush";
  expect_written();
}

TEST_F(UringQueueTest, a_rest_that_fails_is_an_error_and_is_not_flushed) {
  kernel.fates = {{.bytes = 4096}, {.error = -EIO}};
  const Status status = write();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Errc::kIo);
  EXPECT_EQ(status.error().message, "cannot write '" + file_.path() + "': Input/output error");
  EXPECT_EQ(kernel.submissions, 2);
}

TEST_F(UringQueueTest, a_write_of_nothing_means_that_there_is_no_space) {
  kernel.fates = {{.bytes = 4096}, {.bytes = 0}};
  const Status status = write();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message, "cannot write '" + file_.path() + "': No space left on device");
}

TEST_F(UringQueueTest, a_flush_that_fails_is_an_error_and_is_not_tried_again) {
  kernel.fates = {{}, {.error = -EIO}};
  const Status status = write();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message, "cannot flush '" + file_.path() + "': Input/output error");
  EXPECT_EQ(kernel.submissions, 2);
}

// The kernel takes 1024 pieces at a time.
TEST_F(UringQueueTest, more_pieces_than_one_call_takes) {
  pieces_.assign(2'500, pattern(4, 40));
  ASSERT_TRUE(write());
  EXPECT_EQ(kernel.submissions, 4) << "three writes and a flush";
  expect_written();
}

}  // namespace
}  // namespace ballast::storage
