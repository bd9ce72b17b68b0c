#include "storage/snapshot/arriving_blocks.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <utility>
#include <vector>

#include "proto/base/crc32c.h"
#include "proto/files/files.h"
#include "storage/log/record.h"
#include "storage/log/segment_file.h"
#include "storage/snapshot/unsynced_segments.h"

namespace ballast::storage {
namespace {

// Of the segments that are there, the numbers above those of a log.
Result<std::set<uint64_t>> arrived_segments(const std::string& directory) {
  std::set<uint64_t> sequences;
  if (!path_exists(directory)) return sequences;
  BALLAST_TRY(const auto names, list_directory(directory));
  for (const std::string& name : names) {
    const auto sequence = parse_segment_name(name);
    if (sequence && has_arrived(*sequence)) sequences.insert(*sequence);
  }
  return sequences;
}

Bytes entry_header_of(const pb::BlockRef& reference) {
  pb::BlockEntry entry;
  *entry.mutable_block() = reference;
  return Bytes::copy_of(entry.SerializeAsString());
}

// As O_DIRECT takes them.
Bytes padded(const Bytes& bytes) {
  if (bytes.direct()) return bytes;
  MutableBytes copy(direct_round_up(bytes.size()));
  std::memcpy(copy.data(), bytes.data(), bytes.size());
  std::memset(copy.data() + bytes.size(), 0, copy.size() - bytes.size());
  return Bytes(std::move(copy));
}

class ArrivingSegments final : public ArrivingBlocks {
 public:
  ArrivingSegments(ArrivingOptions options, std::set<uint64_t> earlier, uint64_t next)
      : options_(std::move(options)), earlier_(std::move(earlier)), next_sequence_(next) {}

  Result<Place> add(const pb::BlockRef& reference, const Bytes& bytes) override {
    const Bytes header = entry_header_of(reference);
    const auto header_bytes = static_cast<uint32_t>(header.size());
    MutableBytes head(record_head_bytes(header_bytes));
    BALLAST_TRY(const Taken taken, take(header, bytes, reference.crc32c(), head.span()));
    const Bytes payload = padded(bytes);
    const std::array<std::span<const std::byte>, 2> pieces{
        head.span(), std::span(payload.data(), direct_round_up(bytes.size()))};
    BALLAST_TRY_STATUS(write_fully(taken.segment->file, pieces, taken.offset));
    unsynced_.written(taken.segment);
    const uint64_t unit = (taken.offset + head.size()) / kDirectAlignment;
    return Place{taken.segment->sequence, static_cast<uint32_t>(unit)};
  }

  Status sync() override {
    return unsynced_.sync([](const SegmentFile& segment) { return sync_file(segment.file); });
  }

  Status keep(const std::set<uint64_t>& segments) override {
    for (const uint64_t sequence : segments) {
      const bool there = earlier_.contains(sequence) || made_.contains(sequence);
      if (!there)
        return fail(Errc::kCorrupt, "segment '{}/{}', which blocks lie in, is missing",
                    options_.directory, segment_name(sequence));
    }
    for (auto sequence = earlier_.begin(); sequence != earlier_.end();) {
      if (segments.contains(*sequence)) {
        ++sequence;
        continue;
      }
      BALLAST_TRY_STATUS(remove_file(options_.directory + "/" + segment_name(*sequence)));
      sequence = earlier_.erase(sequence);
    }
    return {};
  }

  Status seal() override {
    BALLAST_TRY_STATUS(sync());
    if (!current_) return {};
    const SegmentPtr segment = std::exchange(current_, nullptr);
    // The header first: a segment that is longer than it says is as good.
    BALLAST_TRY_STATUS(write_header(*segment, end_));
    BALLAST_TRY_STATUS(sync_file(segment->file));
    if (::ftruncate(segment->file.get(), static_cast<off_t>(end_)) != 0)
      return os_failure("cut off", segment->file.path());
    return sync_file(segment->file);
  }

 private:
  struct Taken {
    SegmentPtr segment;
    uint64_t offset = 0;
  };

  // Room for a record, whose head is encoded: the records of a segment are a chain.
  Result<Taken> take(const Bytes& header, const Bytes& payload, uint32_t payload_crc,
                     std::span<std::byte> head) {
    const auto payload_bytes = static_cast<uint32_t>(payload.size());
    const uint64_t bytes = head.size() + direct_round_up(payload.size());
    const std::lock_guard lock(mutex_);
    if (!current_ || end_ + bytes > current_->bytes) BALLAST_TRY_STATUS(begin_segment());
    RecordHeader record{.group = options_.group,
                        .segment = current_->sequence,
                        .offset = end_,
                        .serial = chain_.next_serial,
                        .batch = 1,
                        .previous = chain_.previous,
                        .entry = {.term = Term(1),
                                  .index = Index(chain_.next_serial),
                                  .kind = EntryKind::kBlock,
                                  .header_bytes = static_cast<uint32_t>(header.size()),
                                  .payload_bytes = payload_bytes},
                        .payload_crc = payload_crc};
    chain_ = {chain_.next_serial + 1, encode_record_head(record, header.span(), {}, head)};
    return Taken{current_, std::exchange(end_, end_ + bytes)};
  }

  // REQUIRES: mutex_ is held.
  Status begin_segment() {
    current_ = nullptr;
    if (options_.may_take) BALLAST_TRY_STATUS(options_.may_take(options_.segment_bytes));
    BALLAST_TRY(const SegmentPtr segment,
                create_segment(options_.directory, next_sequence_, options_.segment_bytes,
                               SegmentFill::kReserved, [] { return true; }));
    made_.insert(next_sequence_++);
    chain_ = {};
    end_ = kSegmentHeaderBytes;
    BALLAST_TRY_STATUS(write_header(*segment, segment->bytes));
    current_ = segment;
    return {};
  }

  Status write_header(const SegmentFile& segment, uint64_t bytes) const {
    MutableBytes header(kSegmentHeaderBytes);
    encode_segment_header({options_.group, segment.sequence, bytes, Index(1), {}}, header.span());
    return write_fully(segment.file, header.span(), 0);
  }

  const ArrivingOptions options_;
  std::set<uint64_t> earlier_;  // segments of earlier attempts
  std::set<uint64_t> made_;     // and of this one
  std::mutex mutex_;
  uint64_t next_sequence_;
  SegmentPtr current_;
  ChainEnd chain_;    // of its records
  uint64_t end_ = 0;  // of its last record
  UnsyncedSegments unsynced_;
};

}  // namespace

uint64_t arriving_bytes(const pb::BlockRef& reference) {
  return record_bytes(static_cast<uint32_t>(entry_header_of(reference).size()), reference.length());
}

Result<std::unique_ptr<ArrivingBlocks>> open_arriving_blocks(ArrivingOptions options) {
  BALLAST_TRY_STATUS(make_directories(options.directory));
  BALLAST_TRY(auto earlier, arrived_segments(options.directory));
  BALLAST_TRY(const auto in_log, arrived_segments(options.log));
  uint64_t next = kFirstArrivedSegment;
  for (const std::set<uint64_t>& sequences : {earlier, in_log})
    if (!sequences.empty()) next = std::max(next, *sequences.rbegin() + 1);
  return std::make_unique<ArrivingSegments>(std::move(options), std::move(earlier), next);
}

Status take_over_segments(const std::string& from, const std::string& log) {
  if (!path_exists(from)) return {};
  BALLAST_TRY(const auto sequences, arrived_segments(from));
  for (const uint64_t sequence : sequences) {
    const std::string name = "/" + segment_name(sequence);
    const std::string path = from + name;
    if (::rename(path.c_str(), (log + name).c_str()) != 0) return os_failure("move", path);
  }
  // Even if there are none: whoever moved them may have been killed before it was durable.
  BALLAST_TRY_STATUS(sync_directory(log));
  return sync_directory(from);
}

}  // namespace ballast::storage
