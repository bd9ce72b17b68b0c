// Segment files: their names, their making, and the thread that makes the next one ahead of need.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>

#include "proto/base/bytes.h"
#include "proto/base/result.h"
#include "proto/base/unique_fd.h"
#include "storage/log/log_room.h"

namespace ballast::storage {

// Immutable, so that reads on other threads may share it. It is open for direct I/O, and an flock
// on it is held while it can be written: an io_uring write that outlives its killed process keeps
// the lock, and whoever opens the log next waits for it.
struct SegmentFile {
  UniqueFd file;
  UniqueFd cached;  // the same one for reads through the page cache
  uint64_t sequence = 0;
  uint64_t bytes = 0;
};
using SegmentPtr = std::shared_ptr<const SegmentFile>;

// "00000000000000000007.log"
std::string segment_name(uint64_t sequence);
std::optional<uint64_t> parse_segment_name(std::string_view name);

// A record's payload of `bytes` bytes. The buffer is such that it can be written as it is by direct
// I/O (Bytes::direct()). Errors: kIo.
Result<Bytes> read_payload(const UniqueFd& file, uint64_t offset, size_t bytes);

Result<SegmentPtr> open_segment(const std::string& directory, uint64_t sequence);

// Makes a segment of zeros, durably and under its final name only when it is whole. `pace` is
// called between writes, first when the space is set aside, and ends the work by returning false
// (error kUnavailable). Error kNoSpace: what it took is given back.
// A new file costs a journal commit for every write that allocates; zeros written ahead halve the
// latency of a durable append.
Result<SegmentPtr> create_segment(const std::string& directory, uint64_t sequence, uint64_t bytes,
                                  const std::function<bool()>& pace);

// Where a log gets its next segment from. When take() has something to give, the supply sees to it
// that the log's poll() is called.
class SegmentSupply {
 public:
  virtual ~SegmentSupply() = default;
  // Starts to make this segment. REQUIRES: the one before was taken.
  virtual void prepare(uint64_t sequence) = 0;
  // The prepared segment, once; null if it isn't ready.
  virtual SegmentPtr take() = 0;
  // An append waits: no pauses from now on, and an error other than kNoSpace stops the process.
  virtual void hurry() = 0;
  // Of the segment that is wanted; when it changes, the log's poll() is called.
  virtual Outlook outlook() const { return Outlook::kAssured; }
};

using SegmentMaker = std::function<Result<SegmentPtr>(uint64_t sequence)>;
// Whether a segment of so many bytes may be made now: others need space on the disk, too. Called on
// another thread.
using SpaceRule = std::function<Status(uint64_t bytes)>;

// Makes the next segment on a thread of its own.
class SegmentPreparer final : public SegmentSupply {
 public:
  // `on_change` is called on the helper thread when take() has something to give, or outlook() has
  // changed. `rule` may be null.
  SegmentPreparer(std::string directory, uint64_t segment_bytes, SpaceRule rule,
                  std::function<void()> on_change);
  // Ends the thread; a segment that is half made goes away.
  ~SegmentPreparer() override;

  void prepare(uint64_t sequence) override;
  SegmentPtr take() override;
  void hurry() override;
  Outlook outlook() const override { return outlook_; }

 private:
  void run(const std::stop_token& stop);
  Result<SegmentPtr> make(uint64_t sequence, const std::stop_token& stop);
  bool pace(const std::stop_token& stop);
  void set_outlook(Outlook outlook);

  const std::string directory_;
  const uint64_t segment_bytes_;
  const SpaceRule rule_;
  const std::function<void()> on_change_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  uint64_t wanted_ = 0;  // 0: nothing
  bool urgent_ = false;
  SegmentPtr ready_;
  std::atomic<Outlook> outlook_ = Outlook::kComing;
  std::jthread thread_;  // last: it uses the others
};

}  // namespace ballast::storage
