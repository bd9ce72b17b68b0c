#include "storage/log/segment_file.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include "proto/base/bytes.h"
#include "proto/base/check.h"
#include "proto/base/planted.h"
#include "proto/files/files.h"
#include "storage/log/record.h"

namespace ballast::storage {
namespace {

constexpr size_t kDigits = 20;
constexpr std::string_view kSuffix = ".log";
constexpr size_t kZeroBytes = 1 << 20;
constexpr std::chrono::milliseconds kLockPatience{5000};
constexpr std::chrono::milliseconds kPause{1};
constexpr std::chrono::seconds kRetry{1};

Status write_zeros(const UniqueFd& file, uint64_t bytes, const std::function<bool()>& pace) {
  MutableBytes zeros(kZeroBytes);
  std::memset(zeros.data(), 0, zeros.size());
  for (uint64_t at = 0; at < bytes; at += kZeroBytes) {
    if (!pace()) return fail(Errc::kUnavailable, "the log closes");
    const size_t part = std::min<uint64_t>(kZeroBytes, bytes - at);
    BALLAST_TRY_STATUS(write_fully(file, zeros.span().first(part), at));
  }
  return {};
}

Status create_zeros(const std::string& path, uint64_t bytes, SegmentFill fill,
                    const std::function<bool()>& pace) {
  BALLAST_TRY(const UniqueFd file, open_direct(path, O_RDWR | O_CREAT | O_TRUNC));
  // Sets the space aside, in large extents; a file system without it allocates as it goes.
  const bool reserved = ::fallocate(file.get(), 0, 0, static_cast<off_t>(bytes)) == 0;
  if (!reserved && (errno == ENOSPC || errno == EDQUOT)) return disk_failure("make", path);
  if (!pace()) return fail(Errc::kUnavailable, "the log closes");
  if (!reserved || fill == SegmentFill::kZeros) {
    BALLAST_TRY_STATUS(write_zeros(file, bytes, pace));
  }
  if (::fsync(file.get()) != 0) return os_failure("flush", path);
  return {};
}

}  // namespace

std::string segment_name(uint64_t sequence) { return fmt::format("{:020}{}", sequence, kSuffix); }

std::optional<uint64_t> parse_segment_name(std::string_view name) {
  if (name.size() != kDigits + kSuffix.size() || !name.ends_with(kSuffix)) return std::nullopt;
  uint64_t sequence = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + kDigits, sequence);
  if (error != std::errc() || end != name.data() + kDigits || sequence == 0) return std::nullopt;
  return sequence;
}

Result<Bytes> read_payload(const UniqueFd& file, uint64_t offset, size_t bytes) {
  if (bytes == 0) return Bytes();
  const size_t padded = direct_round_up(bytes);
  // A buffer of 4 KiB or more has room for the padding, so that direct reads end in it.
  if (bytes >= kDirectAlignment) {
    MutableBytes payload(bytes);
    const std::span room(payload.data(), padded);
    BALLAST_TRY_STATUS(read_fully(file, room, offset));
    std::memset(room.data() + bytes, 0, padded - bytes);
    return Bytes(std::move(payload));
  }
  MutableBytes scratch(padded);
  BALLAST_TRY_STATUS(read_fully(file, scratch.span(), offset));
  return Bytes::copy_of(scratch.span().first(bytes));
}

Result<SegmentPtr> open_segment(const std::string& directory, uint64_t sequence) {
  const std::string path = directory + "/" + segment_name(sequence);
  SegmentFile segment;
  segment.sequence = sequence;
  BALLAST_TRY(segment.file, open_direct(path, O_RDWR));
  BALLAST_TRY(segment.cached, open_file(path, O_RDONLY));
  BALLAST_TRY_STATUS(lock_file(segment.file, kLockPatience));
  BALLAST_TRY(segment.bytes, file_bytes(segment.file));
  return std::make_shared<const SegmentFile>(std::move(segment));
}

Result<SegmentPtr> create_segment(const std::string& directory, uint64_t sequence, uint64_t bytes,
                                  SegmentFill fill, const std::function<bool()>& pace) {
  const std::string name = segment_name(sequence);
  const std::string temporary = name + ".tmp";
  if (Status made = create_zeros(directory + "/" + temporary, bytes, fill, pace); !made) {
    // Where there was no space for it, others need what it took.
    (void)remove_file(directory + "/" + temporary);
    return std::unexpected(std::move(made).error());
  }
  BALLAST_TRY_STATUS(rename_durably(directory, temporary, name));
  return open_segment(directory, sequence);
}

Result<SegmentPtr> recycle_segment(const std::string& directory, SegmentPtr spare,
                                   uint64_t sequence) {
  const std::string name = segment_name(sequence);
  const std::string temporary = name + ".tmp";
  // Without its old name it is nobody's; only then may its bytes change.
  BALLAST_TRY_STATUS(rename_durably(directory, segment_name(spare->sequence), temporary));
  MutableBytes zeros(kSegmentHeaderBytes);
  std::memset(zeros.data(), 0, zeros.size());
  if (!BALLAST_PLANTED(kOldHeaderKept)) {
    BALLAST_TRY_STATUS(write_fully(spare->file, zeros.span(), 0));
  }
  BALLAST_TRY_STATUS(sync_file(spare->file));
  // Readers of the new segment shall not find the old one's bytes in the page cache.
  ::posix_fadvise(spare->cached.get(), 0, 0, POSIX_FADV_DONTNEED);
  spare.reset();  // and its lock with it
  BALLAST_TRY_STATUS(rename_durably(directory, temporary, name));
  return open_segment(directory, sequence);
}

SegmentPreparer::SegmentPreparer(std::string directory, uint64_t segment_bytes, SpaceRule rule,
                                 std::function<void()> on_change)
    : directory_(std::move(directory)),
      segment_bytes_(segment_bytes),
      rule_(std::move(rule)),
      on_change_(std::move(on_change)),
      thread_([this](const std::stop_token& stop) { run(stop); }) {}

SegmentPreparer::~SegmentPreparer() = default;

void SegmentPreparer::prepare(SegmentOrder order) {
  const std::lock_guard lock(mutex_);
  BALLAST_CHECK(wanted_.sequence == 0 && !ready_, "segment {} while {} is wanted", order.sequence,
                wanted_.sequence);
  wanted_ = std::move(order);
  urgent_ = false;
  outlook_ = wanted_.spare ? Outlook::kAssured : Outlook::kComing;
  changed_.notify_all();
}

SegmentPtr SegmentPreparer::take() {
  const std::lock_guard lock(mutex_);
  if (ready_) outlook_ = Outlook::kComing;  // of the one behind
  return std::exchange(ready_, nullptr);
}

void SegmentPreparer::hurry() {
  const std::lock_guard lock(mutex_);
  urgent_ = true;
  changed_.notify_all();
}

// Writing zeros at full speed would slow the appends down for which it is done; the pauses leave
// the disk to them, and a segment is still ready long before the present one is full.
bool SegmentPreparer::pace(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, stop, kPause, [this] { return urgent_; });
  return !stop.stop_requested();
}

void SegmentPreparer::run(const std::stop_token& stop) {
  while (true) {
    SegmentOrder order;
    {
      std::unique_lock lock(mutex_);
      if (!changed_.wait(lock, stop, [this] { return wanted_.sequence != 0; })) return;
      // The spare file is for one try: what fails leaves it without its name.
      order = {wanted_.sequence, wanted_.fill, std::exchange(wanted_.spare, nullptr)};
    }
    Result<SegmentPtr> made = make(std::move(order), stop);
    if (stop.stop_requested()) return;
    std::unique_lock lock(mutex_);
    if (made) {
      wanted_ = {};
      ready_ = *std::move(made);
      lock.unlock();
      on_change_();
      continue;
    }
    // Nothing of the log lies in the file that failed, so another try is safe, and without space
    // there may be some then. Any other error is the disk's.
    const bool lacks_space = made.error().code == Errc::kNoSpace;
    if (urgent_ && !lacks_space)
      stop_process(
          fail_within(made.error(), "the log can't go on without its next segment").error());
    lock.unlock();
    if (lacks_space) set_outlook(Outlook::kLacking);
    lock.lock();
    changed_.wait_for(lock, stop, kRetry, [&] { return urgent_ && !lacks_space; });
  }
}

Result<SegmentPtr> SegmentPreparer::make(SegmentOrder order, const std::stop_token& stop) {
  if (order.spare) return recycle_segment(directory_, std::move(order.spare), order.sequence);
  if (rule_) {
    BALLAST_TRY_STATUS(rule_(segment_bytes_));
  }
  return create_segment(directory_, order.sequence, segment_bytes_, order.fill, [&] {
    set_outlook(Outlook::kAssured);
    return pace(stop);
  });
}

void SegmentPreparer::set_outlook(Outlook outlook) {
  if (outlook_.exchange(outlook) != outlook) on_change_();
}

}  // namespace ballast::storage
