#include "storage/log/segment_log.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <utility>

#include "proto/base/check.h"
#include "proto/base/clock.h"
#include "proto/base/crc32c.h"
#include "proto/files/files.h"
#include "storage/io/io_queue.h"
#include "storage/log/hard_state_file.h"
#include "storage/log/locator.h"
#include "storage/log/log_read.h"
#include "storage/log/make_log.h"
#include "storage/log/recovery.h"
#include "storage/log/second_place.h"
#include "storage/log/segment_file.h"
#include "storage/log/segment_set.h"
#include "storage/log/spare_segments.h"

namespace ballast::storage {
namespace {

// Bounds of one batch. The number of records bounds the pieces of its write, two for each.
constexpr uint64_t kBatchBytesMax = 8 * limits::kMiB;
constexpr size_t kBatchRecordsMax = 500;
// How often, while batch follows batch, one of them writes down how far the log is durable: it is
// one small write more.
constexpr uint64_t kNoteUnderLoadUs = 1'000'000;
// From this size on a record's write takes so long that a journal commit doesn't show beside it.
constexpr uint64_t kLargeRecordBytes = 256 << 10;
constexpr uint64_t kSegmentBytesMin = 16 * limits::kMiB;
constexpr uint64_t kSegmentBytesMax = 4096 * limits::kMiB;
static_assert(kRecordBytesMax <= kBatchBytesMax);
static_assert(kBatchBytesMax + kSegmentHeaderBytes <= kSegmentBytesMin);

uint64_t now_us() {
  const auto now = Clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

uint64_t entry_record_bytes(const Entry& entry) {
  return record_bytes(static_cast<uint32_t>(entry.header.size()),
                      static_cast<uint32_t>(entry.payload.size()));
}

class SegmentLog final : public LogStore {
 public:
  SegmentLog(LogOptions options, UniqueFd lock, UniqueFd hard_state_file, RecoveredLog recovered,
             LogParts parts)
      : options_(std::move(options)),
        lock_(std::move(lock)),
        hard_state_file_(std::move(hard_state_file)),
        opened_hard_state_(recovered.hard_state.state),
        hard_state_(recovered.hard_state),
        base_(recovered.hard_state.start.base),
        locators_(std::move(recovered.locators)),
        homes_(std::move(recovered.homes)),
        spares_(options_.directory),
        segments_(std::move(recovered.segments)),
        prepared_(std::move(recovered.prepared)),
        durable_(last()),
        chain_(recovered.chain),
        last_head_(recovered.last_head),
        write_offset_(recovered.write_offset),
        end_{segments_.size(), recovered.write_offset},
        next_serial_(recovered.chain.next_serial),
        durable_serial_(recovered.chain.next_serial),
        slot_(kHardStateSlotBytes),
        queue_(std::move(parts.queue)),
        supply_(std::move(parts.supply)) {
    if (!supply_) {
      supply_ = std::make_unique<SegmentPreparer>(options_.directory, options_.segment_bytes,
                                                  options_.may_take, [this] { queue_->wake(); });
    }
    if (!prepared_) prepare_next();
    for (const SegmentPtr& home : homes_) payloads_->add(home);
    for (const LogSegment& segment : segments_) payloads_->add(segment.file);
  }

  ~SegmentLog() override {
    closing_ = true;
    queue_->drain();
    // Marks how far the log is known to be durable, so that the next open tells rot of the last
    // records from a torn tail.
    if (hard_state_.durable_serial != durable_serial_) {
      write_hard_state(hard_state_.state, [] {});
      queue_->drain();
    }
    // A LogRead may keep the descriptors for longer than the log is in use.
    for (const SegmentPtr& home : homes_) (void)::flock(home->file.get(), LOCK_UN);
    spares_.unlock();
    for (const LogSegment& segment : segments_) (void)::flock(segment.file->file.get(), LOCK_UN);
  }

  HardState hard_state() const override { return opened_hard_state_; }

  std::vector<EntryMeta> entries() const override {
    std::vector<EntryMeta> all;
    all.reserve(locators_.size());
    for (const Locator& locator : locators_)
      all.push_back(locator.meta(base().index + (all.size() + 1)));
    return all;
  }
  LogBase base() const override { return base_; }

  void append(std::optional<HardState> hard_state, std::vector<Entry> entries,
              Completion done) override {
    Append append{hard_state, {}, std::move(entries), 0, next_serial_, std::move(done), now_us()};
    for (const Entry& entry : append.entries) place(entry);
    appends_.push_back(std::move(append));
    start_batch();
  }

  Index may_begin_behind(Index upto) const override {
    upto = std::min(upto, durable());
    for (auto segment = segments_.rbegin(); segment != segments_.rend(); ++segment) {
      const Index before = segment->first - 1;
      if (before <= base_.index) break;
      if (before <= upto && all_before(*segment)) return before;
    }
    return base().index;
  }

  void begin_behind(LogBase base, Completion done) override {
    BALLAST_CHECK(base.index > this->base().index && base.index <= durable() &&
                      base.index == may_begin_behind(base.index) && !starting_,
                  "a log from {} on is to begin behind {}", this->base().index, base.index);
    starting_ = true;
    const auto first = std::ranges::find(segments_, base.index + 1, &LogSegment::first);
    BALLAST_CHECK(first != segments_.end());
    const LogStart start{first->file->sequence, base, first->chain};
    appends_.push_back({{}, start, {}, 0, next_serial_, std::move(done), now_us()});
    start_batch();
  }

  std::vector<Home> homes() const override {
    std::vector<Home> homes;
    for (const SegmentPtr& home : homes_) homes.push_back({home->sequence, home->bytes});
    return homes;
  }

  void retire_home(uint64_t segment) override {
    const auto home = std::ranges::find(homes_, segment, &SegmentFile::sequence);
    BALLAST_CHECK(home != homes_.end(), "segment {} is no home", segment);
    payloads_->remove(segment);
    spares_.add(std::move(*home));
    homes_.erase(home);
  }

  uint64_t spare_bytes() const override { return spares_.bytes(); }
  Status trim_spares(uint64_t bytes) override { return spares_.trim(bytes); }

  void note_durable() override {
    if (closing_ || hard_state_.durable_serial == durable_serial_) return;
    if (batch_.since_us != 0 || !appends_.empty()) {
      // Under load that never ends: then the next batch does it.
      note_due_ = now_us() - noted_us_ >= kNoteUnderLoadUs;
      return;
    }
    batch_ = {};
    batch_.hard_state = hard_state_.state;
    batch_.since_us = now_us();
    batch_.started_us = batch_.since_us;
    encode_slot(hard_state_.state);
    write_slot(0, [this] {
      // Term and vote are the same in both copies: whoever waits needn't wait for the second.
      if (!appends_.empty()) return finish_batch();
      write_slot(1, [this] { finish_batch(); });
    });
  }

  Result<std::unique_ptr<LogRead>> prepare_read(Index first, Index last) const override {
    if (first <= base().index || first > last || last > durable())
      return fail(Errc::kNotFound, "the log holds no durable entries {} to {}; it has {} to {}",
                  first, last, base().index + 1, durable());
    std::vector<PlannedEntry> plan;
    plan.reserve(last - first + 1);
    for (Index index = first; index <= last; ++index) {
      const Locator& locator = locators_[place_in_log(index)];
      plan.push_back({segment_of(locator), locator, index});
    }
    return make_log_read(options_.group, std::move(plan));
  }

  Place place_of(Index index) const override {
    BALLAST_CHECK(index > base().index && index <= durable(), "entry {} is not durable", index);
    return locators_[place_in_log(index)].payload_place();
  }
  std::shared_ptr<const Payloads> payloads() const override { return payloads_; }

  Index last() const override { return base().index + locators_.size(); }
  Index durable() const override { return durable_; }
  uint64_t disk_bytes() const override {
    uint64_t bytes = 2 * kHardStateSlotBytes + (prepared_ ? prepared_->bytes : 0) + spare_bytes();
    for (const SegmentPtr& home : homes_) bytes += home->bytes;
    for (const LogSegment& segment : segments_) bytes += segment.file->bytes;
    return bytes;
  }
  LogRoom room() const override {
    LogRoom room;
    if (end_.segments > 0) room.left = bytes_of(end_.segments) - end_.offset;
    // If what waits begins the next segment already, nothing is known of the one behind that.
    if (end_.segments > segments_.size()) return room;
    room.next = prepared_ ? Outlook::kAssured : supply_->outlook();
    if (room.next == Outlook::kAssured)
      room.ahead = bytes_of(segments_.size() + 1) - kSegmentHeaderBytes;
    return room;
  }
  uint64_t last_append_us() const override { return last_append_us_; }
  uint64_t oldest_pending_us() const override {
    if (batch_.since_us != 0) return now_us() - batch_.since_us;
    return appends_.empty() ? 0 : now_us() - appends_.front().since_us;
  }

  int event_fd() const override { return queue_->event_fd(); }
  void poll() override {
    polling_ = true;
    queue_->poll();
    polling_ = false;
    start_batch();  // the segment that it waited for may be there now
    while (!finished_.empty()) {
      Completion done = std::move(finished_.front());
      finished_.pop_front();
      done();
    }
  }

 private:
  struct Append {
    std::optional<HardState> hard_state;
    std::optional<LogStart> start;  // comes alone
    std::vector<Entry> entries;
    size_t taken = 0;  // entries that are in a batch already
    uint64_t first_serial = 0;
    Completion done;
    uint64_t since_us = 0;
  };
  // What is on its way to the disk. One at a time: a completion then says that all before it is
  // durable, and appends that arrive meanwhile form the next batch.
  struct Batch {
    std::optional<HardState> hard_state;
    std::optional<LogStart> start;
    std::vector<Entry> entries;
    uint64_t first_serial = 0;
    uint64_t bytes = 0;
    std::vector<Completion> done;
    uint64_t since_us = 0;  // when its oldest append was made; 0: no batch
    uint64_t started_us = 0;
    bool new_segment = false;
  };

  uint64_t next_sequence() const {
    return segments_.empty() ? hard_state_.start.segment : segments_.back().file->sequence + 1;
  }
  void prepare_next() {
    supply_->prepare({next_sequence(), fill_of_next(), spares_.take(options_.segment_bytes)});
  }
  // As what the segment before this one held.
  SegmentFill fill_of_next() const {
    if (segments_.size() < 2) return SegmentFill::kZeros;
    const LogSegment& before = segments_[segments_.size() - 2];
    const uint64_t records = segments_.back().chain.next_serial - before.chain.next_serial;
    const bool large = records > 0 && before.file->bytes / records >= kLargeRecordBytes;
    return large ? SegmentFill::kReserved : SegmentFill::kZeros;
  }
  size_t place_in_log(Index index) const { return index - base_.index - 1; }
  const SegmentPtr& segment_of(const Locator& locator) const {
    return segments_[locator.segment - segments_.front().file->sequence].file;
  }
  // Nothing that the segment holds replaces an entry of those before it, and they all are in the
  // segments before it.
  bool all_before(const LogSegment& segment) const {
    const Index before = segment.first - 1;
    return locators_[place_in_log(before)].segment < segment.file->sequence;
  }

  // Where what was appended will end: a place in the last of so many segments, in use or not.
  struct End {
    size_t segments = 0;
    uint64_t offset = 0;
  };

  // Of a segment, the first being number 1, whether it is in use or not.
  uint64_t bytes_of(size_t number) const {
    if (number <= segments_.size()) return segments_[number - 1].file->bytes;
    return number == segments_.size() + 1 && prepared_ ? prepared_->bytes : options_.segment_bytes;
  }

  // The same decision as make_room() makes later.
  void extend_end(uint64_t record) {
    if (end_.segments == 0 || end_.offset + record > bytes_of(end_.segments))
      end_ = {end_.segments + 1, kSegmentHeaderBytes};
    end_.offset += record;
  }

  // Gives the entry its place in the index and its serial; its position follows with its batch.
  void place(const Entry& entry) {
    const Index index = entry.index;
    BALLAST_CHECK(index > base().index && index <= last() + 1, "entry {} in a log from {} to {}",
                  index, base().index, last());
    const size_t place = place_in_log(index);
    const Term before = place == 0 ? base().term : locators_[place - 1].term;
    BALLAST_CHECK(before <= entry.term, "entry {} of term {} after term {}", index, entry.term,
                  before);
    BALLAST_CHECK(entry.header.size() <= limits::kEntryHeaderBytesMax, "entry {}: {} bytes", index,
                  entry.header.size());
    BALLAST_CHECK(entry.payload.size() <= limits::kBlockBytesMax, "entry {}: {} bytes", index,
                  entry.payload.size());
    extend_end(entry_record_bytes(entry));
    locators_.resize(place);
    durable_ = std::min(durable_, index - 1);
    const EntryMeta meta = entry.meta();
    locators_.push_back({next_serial_++, entry.term, 0, 0, meta.header_bytes, meta.payload_bytes,
                         meta.checksum, entry.kind});
  }

  void start_batch() {
    if (batch_.since_us != 0 || appends_.empty() || closing_) return;
    batch_ = {};
    if (!make_room()) return;
    batch_.since_us = appends_.front().since_us;
    batch_.started_us = now_us();
    gather();
    if (batch_.start) hard_state_.start = *batch_.start;
    const bool note = std::exchange(note_due_, false);
    if (batch_.hard_state || batch_.start) {
      write_hard_state(batch_.hard_state.value_or(hard_state_.state), [this] { write_entries(); });
    } else if (note) {
      encode_slot(hard_state_.state);
      write_slot(0, [this] { write_entries(); });  // one is enough: see note_durable()
    } else {
      write_entries();
    }
  }

  // True if the next entry fits into the last segment; begins the next segment if need be.
  bool make_room() {
    const Append& next = appends_.front();
    if (next.entries.empty()) return true;
    const uint64_t needed = entry_record_bytes(next.entries[next.taken]);
    if (!segments_.empty() && write_offset_ + needed <= segments_.back().file->bytes) {
      return true;
    }
    if (!prepared_) prepared_ = supply_->take();
    if (!prepared_) {
      supply_->hurry();  // it wakes poll() when it is done
      return false;
    }
    segments_.push_back(
        {std::exchange(prepared_, nullptr), next.entries[next.taken].index, chain_});
    payloads_->add(segments_.back().file);
    write_offset_ = 0;
    batch_.new_segment = true;
    return true;
  }

  // Takes appends, or the first entries of one, into the batch.
  void gather() {
    const uint64_t start = write_offset_ + (batch_.new_segment ? kSegmentHeaderBytes : 0);
    const uint64_t room =
        segments_.empty() ? 0 : std::min(kBatchBytesMax, segments_.back().file->bytes - start);
    while (!appends_.empty()) {
      Append& append = appends_.front();
      const auto fits = [&] {
        return batch_.entries.size() < kBatchRecordsMax &&
               batch_.bytes + entry_record_bytes(append.entries[append.taken]) <= room;
      };
      if (append.start && (!batch_.entries.empty() || batch_.hard_state)) return;
      if (!append.entries.empty() && !fits()) return;
      if (append.hard_state) batch_.hard_state = std::exchange(append.hard_state, std::nullopt);
      while (append.taken < append.entries.size() && fits()) {
        if (batch_.entries.empty()) batch_.first_serial = append.first_serial + append.taken;
        batch_.bytes += entry_record_bytes(append.entries[append.taken]);
        batch_.entries.push_back(std::move(append.entries[append.taken++]));
      }
      if (append.taken < append.entries.size()) return;
      batch_.start = append.start;
      batch_.done.push_back(std::move(append.done));
      appends_.pop_front();
      if (batch_.start) return;
    }
  }

  // One copy after the other: if a crash tears the first, the second still holds the old state,
  // which nobody was told to be past.
  void write_hard_state(HardState state, std::move_only_function<void()> then) {
    encode_slot(state);
    write_slot(0, [this, then = std::move(then)]() mutable { write_slot(1, std::move(then)); });
  }

  void encode_slot(HardState state) {
    hard_state_.state = state;
    hard_state_.durable_serial = durable_serial_;
    ++hard_state_.sequence;
    noted_us_ = now_us();
    // Of a record whose write is under way nobody knows.
    const bool durable = durable_serial_ == chain_.next_serial;
    encode_hard_state(hard_state_, durable ? last_head_.span() : std::span<const std::byte>(),
                      slot_.span());
  }

  void write_slot(uint64_t slot, std::move_only_function<void()> then) {
    queue_->write_durably(hard_state_file_, {{slot_.data(), slot_.size()}},
                          slot * kHardStateSlotBytes,
                          [then = std::move(then)](Status status) mutable {
                            if (!status) stop_process(status.error());
                            then();
                          });
  }

  void write_entries() {
    if (closing_) return;
    if (batch_.entries.empty()) return finish_batch();
    std::vector<iovec> pieces = encode_batch();
    const uint64_t offset = write_offset_;
    write_offset_ += batch_.bytes + (batch_.new_segment ? kSegmentHeaderBytes : 0);
    queue_->write_durably(segments_.back().file->file, std::move(pieces), offset,
                          [this](Status status) {
                            if (!status) stop_process(status.error());
                            finish_batch();
                          });
  }

  // Lays the batch out: heads, and payloads that O_DIRECT can't take as they are, in the staging
  // buffer; the other payloads where they lie. Neighbours in the staging buffer are one piece.
  std::vector<iovec> encode_batch() {
    size_t staged = batch_.new_segment ? kSegmentHeaderBytes : 0;
    for (const Entry& entry : batch_.entries) {
      staged += record_head_bytes(static_cast<uint32_t>(entry.header.size()));
      if (!entry.payload.direct()) staged += direct_round_up(entry.payload.size());
    }
    if (staging_.size() < staged) staging_ = MutableBytes(direct_round_up(staged));
    std::span<std::byte> free = staging_.span();
    std::vector<iovec> pieces;
    pieces.reserve(2 * batch_.entries.size() + 1);
    const auto stage = [&](size_t bytes) {
      const auto taken = free.first(bytes);
      free = free.subspan(bytes);
      const auto* end =
          pieces.empty() ? nullptr
                         : static_cast<std::byte*>(pieces.back().iov_base) + pieces.back().iov_len;
      if (end == taken.data()) {
        pieces.back().iov_len += bytes;
      } else {
        pieces.push_back({taken.data(), bytes});
      }
      return taken;
    };
    uint64_t offset = write_offset_;
    if (batch_.new_segment) {
      const SegmentPtr& segment = segments_.back().file;
      encode_segment_header(
          {options_.group, segment->sequence, segment->bytes, batch_.entries.front().index, chain_},
          stage(kSegmentHeaderBytes));
      offset += kSegmentHeaderBytes;
    }
    for (const Entry& entry : batch_.entries) {
      encode_entry(entry, offset, stage, pieces);
      offset += entry_record_bytes(entry);
    }
    return pieces;
  }

  template <class Stage>
  void encode_entry(const Entry& entry, uint64_t offset, const Stage& stage,
                    std::vector<iovec>& pieces) {
    const EntryMeta meta = entry.meta();
    RecordHeader header{options_.group,
                        segments_.back().file->sequence,
                        offset,
                        chain_.next_serial,
                        batch_.first_serial,
                        chain_.previous,
                        meta,
                        entry.payload_crc,
                        0};
    const auto head = stage(record_head_bytes(meta.header_bytes));
    const uint32_t crc = encode_record_head(header, entry.header.span(), last_head_.span(), head);
    last_head_.set(head.first(bare_head_bytes(meta.header_bytes)));
    if (entry.payload.direct()) {
      // The kernel reads it only; iovec knows no const.
      pieces.push_back(
          {const_cast<std::byte*>(entry.payload.data()), direct_round_up(entry.payload.size())});
    } else if (!entry.payload.empty()) {
      const auto copy = stage(direct_round_up(entry.payload.size()));
      std::memcpy(copy.data(), entry.payload.data(), entry.payload.size());
      std::memset(copy.data() + entry.payload.size(), 0, copy.size() - entry.payload.size());
    }
    chain_ = {chain_.next_serial + 1, crc};
    if (entry.index > last() || locators_[place_in_log(entry.index)].serial != header.serial)
      return;
    Locator& locator = locators_[place_in_log(entry.index)];
    locator.segment = static_cast<uint32_t>(header.segment);
    locator.block = static_cast<uint32_t>(offset / kDirectAlignment);
  }

  void finish_batch() {
    // Not before the header of the last segment is durable: recovery takes a segment without a
    // header for a torn first batch only if no other file stands behind it.
    if (batch_.new_segment) prepare_next();
    if (!batch_.entries.empty()) {
      durable_serial_ = chain_.next_serial;
      // An entry that was replaced while its write was under way has a later serial by now.
      while (durable_ < last() && locators_[place_in_log(durable_ + 1)].serial < durable_serial_)
        ++durable_;
    }
    if (!batch_.entries.empty() || batch_.hard_state)
      last_append_us_ = now_us() - batch_.started_us;
    if (batch_.start) drop_before(*batch_.start);
    for (Completion& done : batch_.done) finished_.push_back(std::move(done));
    batch_ = {};
    if (!finished_.empty() && !polling_) queue_->wake();
    start_batch();
  }

  void drop_before(const LogStart& start) {
    locators_.erase(locators_.begin(),
                    locators_.begin() + static_cast<ptrdiff_t>(start.base.index - base_.index));
    while (segments_.front().file->sequence < start.segment) {
      homes_.push_back(segments_.front().file);
      segments_.erase(segments_.begin());
      --end_.segments;
    }
    base_ = start.base;
    starting_ = false;
  }

  const LogOptions options_;
  const UniqueFd lock_;
  const UniqueFd hard_state_file_;
  const HardState opened_hard_state_;
  HardStateRecord hard_state_;  // the last one written
  LogBase base_;                // of what is below: follows hard_state_.start when that is durable
  std::vector<Locator> locators_;     // of the entries behind the base
  std::vector<SegmentPtr> homes_;     // segments before the log's start
  SpareSegments spares_;              // retired ones
  std::vector<LogSegment> segments_;  // in use
  const std::shared_ptr<SegmentSet> payloads_ = std::make_shared<SegmentSet>();
  SegmentPtr prepared_;
  Index durable_;          // entries up to here are
  ChainEnd chain_;         // after the last record that was handed to the queue
  LastHead last_head_;     // of the last such record
  uint64_t write_offset_;  // in the last segment
  End end_;
  uint64_t next_serial_;          // of the next entry that is appended
  uint64_t durable_serial_;       // records before it are durable
  uint64_t noted_us_ = now_us();  // when the hard state was written last
  bool note_due_ = false;
  uint64_t last_append_us_ = 0;
  bool starting_ = false;  // a start is to be written, or is being written
  bool closing_ = false;
  bool polling_ = false;
  std::deque<Append> appends_;
  Batch batch_;
  std::deque<Completion> finished_;
  MutableBytes slot_;
  MutableBytes staging_;
  std::unique_ptr<IoQueue> queue_;
  std::unique_ptr<SegmentSupply> supply_;  // goes before the queue, which it wakes
};

}  // namespace

Result<std::unique_ptr<LogStore>> open_segment_log(LogOptions options, LogParts parts) {
  if (parts.make_segment == nullptr &&
      (options.segment_bytes % kDirectAlignment != 0 || options.segment_bytes < kSegmentBytesMin ||
       options.segment_bytes > kSegmentBytesMax))
    return fail(Errc::kInvalidArgument,
                "segment_bytes is {}; it must be a multiple of 4 KiB from 16 MiB to 4 GiB",
                options.segment_bytes);
  BALLAST_TRY(UniqueFd lock, open_file(options.directory + "/LOCK", O_RDWR | O_CREAT));
  BALLAST_TRY_STATUS(lock_file(lock, std::chrono::milliseconds(0)));
  BALLAST_TRY_STATUS(make_log_if_new(options, parts.make_segment));
  BALLAST_TRY(UniqueFd hard_state_file,
              open_direct(options.directory + "/" + kHardStateName, O_RDWR));
  BALLAST_TRY(const auto hard_state, load_hard_state(hard_state_file, options.group));
  BALLAST_TRY(RecoveredLog recovered, recover_log(options.directory, options.group, hard_state));
  for (const RestoredHead& head : recovered.restored)
    if (options.on_restored) options.on_restored(head);
  if (options.installed && !holds(recovered, *options.installed)) {
    BALLAST_TRY_STATUS(restart_behind(*options.installed, options, parts.make_segment,
                                      hard_state_file, recovered));
  }
  if (!parts.queue) {
    BALLAST_TRY(parts.queue, make_uring_queue());
  }
  return std::make_unique<SegmentLog>(std::move(options), std::move(lock),
                                      std::move(hard_state_file), std::move(recovered),
                                      std::move(parts));
}

}  // namespace ballast::storage
