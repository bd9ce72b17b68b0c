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

// The segments of a log are numbered from 1. Those that came with a snapshot, which never were part
// of a log here, are homes from the beginning, and have numbers of their own.
inline constexpr uint64_t kFirstArrivedSegment = uint64_t{1} << 32;
constexpr bool has_arrived(uint64_t sequence) { return sequence >= kFirstArrivedSegment; }

// The head of a segment or record that had rotted, and was written anew.
struct RestoredHead {
  std::string path;
  uint64_t offset = 0;
};

// "00000000000000000007.log"
std::string segment_name(uint64_t sequence);
std::optional<uint64_t> parse_segment_name(std::string_view name);

// A record's payload of `bytes` bytes. The buffer is such that it can be written as it is by direct
// I/O (Bytes::direct()). Errors: kIo.
Result<Bytes> read_payload(const UniqueFd& file, uint64_t offset, size_t bytes);

Result<SegmentPtr> open_segment(const std::string& directory, uint64_t sequence);

// What a new file's space has behind it. Both read as zeros.
enum class SegmentFill : uint8_t {
  kZeros,    // they are written: a durable append then costs the file system no journal commit,
             // which halves the latency of a small one
  kReserved  // set aside, where the file system can: a large append doesn't notice the commit, and
             // each byte is written once
};

// Makes a segment of zeros, durably and under its final name only when it is whole. `pace` is
// called between writes, first when the space is set aside, and ends the work by returning false
// (error kUnavailable). Error kNoSpace: what it took is given back.
Result<SegmentPtr> create_segment(const std::string& directory, uint64_t sequence, uint64_t bytes,
                                  SegmentFill fill, const std::function<bool()>& pace);

// Makes a segment of one that nothing needs any more, and that nobody but the caller has: what lies
// behind its header stays as it is, for another segment's records to be written over. Its space is
// allocated and written, so that this costs no more than a rename. A crash on the way leaves the
// old segment, or none of the two. Error kIo.
Result<SegmentPtr> recycle_segment(const std::string& directory, SegmentPtr spare,
                                   uint64_t sequence);

// What is to be made: of `spare` if that is not null, which nobody else has, else anew.
struct SegmentOrder {
  uint64_t sequence = 0;
  SegmentFill fill = SegmentFill::kZeros;
  SegmentPtr spare;
};

// Where a log gets its next segment from. When take() has something to give, the supply sees to it
// that the log's poll() is called.
class SegmentSupply {
 public:
  virtual ~SegmentSupply() = default;
  // Starts to make a segment. REQUIRES: the one before was taken.
  virtual void prepare(SegmentOrder order) = 0;
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

  void prepare(SegmentOrder order) override;
  SegmentPtr take() override;
  void hurry() override;
  Outlook outlook() const override { return outlook_; }

 private:
  void run(const std::stop_token& stop);
  Result<SegmentPtr> make(SegmentOrder order, const std::stop_token& stop);
  bool pace(const std::stop_token& stop);
  void set_outlook(Outlook outlook);

  const std::string directory_;
  const uint64_t segment_bytes_;
  const SpaceRule rule_;
  const std::function<void()> on_change_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  SegmentOrder wanted_;  // sequence 0: nothing
  bool urgent_ = false;
  SegmentPtr ready_;
  std::atomic<Outlook> outlook_ = Outlook::kComing;
  std::jthread thread_;  // last: it uses the others
};

}  // namespace ballast::storage
