#include "storage/log/recovery.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "proto/base/check.h"
#include "proto/base/planted.h"
#include "proto/files/files.h"
#include "storage/log/file_source.h"
#include "storage/log/segment_scan.h"

namespace ballast::storage {
namespace {

constexpr size_t kEraseBytes = 256 << 10;

bool all_zero(std::span<const std::byte> bytes) {
  return bytes.empty() || (bytes[0] == std::byte{0} &&
                           std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

Status zero(const SegmentFile& segment, uint64_t offset, uint64_t end) {
  MutableBytes zeros(kEraseBytes);
  std::memset(zeros.data(), 0, zeros.size());
  for (; offset < end; offset += kEraseBytes) {
    const size_t part = std::min<uint64_t>(kEraseBytes, end - offset);
    BALLAST_TRY_STATUS(write_fully(segment.file, zeros.span().first(part), offset));
  }
  return sync_file(segment.file);
}

// Zeros what a torn write left of records, so that none is taken for one later on. Records of the
// segment that the file was before can't be: they name that one.
Status erase_tail(const SegmentFile& segment, GroupId group, uint64_t offset) {
  FileSource source(segment.file, segment.bytes);
  const uint64_t begin = offset;
  uint64_t end = begin;
  if (begin == 0) {
    BALLAST_TRY(const auto header, source.fetch(0, kSegmentHeaderBytes));
    offset = kSegmentHeaderBytes;
    if (!all_zero(header)) end = offset;
  }
  BALLAST_TRY_STATUS(
      each_head(source, group, segment.sequence, offset, [&](const RecordHeader& record) {
        end = record.offset + record_head_bytes(record.entry.header_bytes);
        return true;
      }));
  return begin == end ? Status() : zero(segment, begin, end);
}

class Recovery {
 public:
  Recovery(std::string directory, GroupId group, const StoredHardState& hard_state)
      : directory_(std::move(directory)), group_(group), slots_(hard_state.slots.span()) {
    log_.hard_state = hard_state.record;
    log_.chain = hard_state.record.start.chain;
  }

  Result<RecoveredLog> run() {
    BALLAST_TRY_STATUS(open_files());
    for (size_t i = 0; i < files_.size(); ++i) BALLAST_TRY_STATUS(read_segment_header(i));
    for (size_t i = 0; i < files_.size(); ++i) {
      if (!files_[i].header) {
        BALLAST_TRY_STATUS(check_unused(i));
        log_.prepared = files_[i].segment;
        break;
      }
      BALLAST_TRY_STATUS(take_segment(i));
    }
    if (!BALLAST_PLANTED(kRotIsTornTail)) {
      BALLAST_TRY_STATUS(check_tail());
    }
    if (!log_.segments.empty()) {
      const size_t last = log_.segments.size() - 1;
      BALLAST_TRY(const Bytes bare_head, bare_head_at(last, files_[last].last));
      log_.last_head.set(bare_head.span());
    }
    BALLAST_TRY_STATUS(write_all());
    return std::move(log_);
  }

 private:
  // From the log's beginning on.
  struct File {
    SegmentPtr segment;
    std::optional<SegmentHeader> header;  // as it must be, if the segment is in use
    std::string header_cause;             // why what lies there is none
    MendedHeads mended;
    uint64_t last = 0;  // offset of its last record

    MendedSource source() const { return {*segment, mended}; }
  };

  std::unexpected<Error> corrupt(const SegmentFile& segment, uint64_t offset,
                                 std::string_view why) const {
    return fail(Errc::kCorrupt,
                "log is damaged in '{}' at offset {}: {}; this is not the trace of a crash: let "
                "the node join again as a new one, its data comes from the others",
                segment.file.path(), offset, why);
  }

  std::unexpected<Error> missing(uint64_t sequence) const {
    return fail(Errc::kCorrupt,
                "log segment '{}/{}' is missing: restore it, or let the node join again as a new "
                "one, its data comes from the others",
                directory_, segment_name(sequence));
  }

  Status open_files() {
    BALLAST_TRY(const auto names, list_directory(directory_));
    for (const std::string& name : names) {
      const auto sequence = parse_segment_name(name);
      if (!sequence) continue;
      const uint64_t expected = log_.hard_state.start.segment + files_.size();
      const bool home = *sequence < expected || has_arrived(*sequence);
      if (!home && *sequence > expected) return missing(expected);
      BALLAST_TRY(const SegmentPtr segment, open_segment(directory_, *sequence));
      if (home) {
        log_.homes.push_back(segment);
        continue;
      }
      if (segment->bytes < kSegmentHeaderBytes || segment->bytes % kDirectAlignment != 0)
        return corrupt(*segment, segment->bytes, "the file is cut off");
      // A killed process may have left writes that are not durable yet.
      BALLAST_TRY_STATUS(sync_file(segment->file));
      files_.push_back({.segment = segment});
    }
    return files_.empty() ? missing(log_.hard_state.start.segment) : Status();
  }

  // Or what its first record tells, if a header was there and has rotted. None if the segment is
  // not in use, as far as can be told before the others are read.
  Status read_segment_header(size_t i) {
    File& file = files_[i];
    const SegmentFile& segment = *file.segment;
    MendedSource source = file.source();
    BALLAST_TRY(const auto block, source.fetch(0, kSegmentHeaderBytes));
    auto header = parse_segment_header(block);
    if (!header && header.error().code != Errc::kCorrupt)
      return fail_within(std::move(header).error(), "'{}'", segment.file.path());
    if (header && header->group != group_)
      return fail(Errc::kRefused, "'{}' belongs to group {}, not to group {}", segment.file.path(),
                  header->group, group_);
    if (header) file.header = *header;
    if (header && header->sequence == segment.sequence) return {};
    if (!header) file.header_cause = header.error().message;
    BALLAST_TRY(const auto told, header_by_record(source, group_, segment.sequence));
    if (!told) return {};
    if (i + 1 == files_.size()) {
      BALLAST_TRY(const bool durable,
                  was_durable(file, kSegmentHeaderBytes, told->chain.next_serial));
      if (!durable) return {};
    }
    file.header = *told;
    MutableBytes bytes(kSegmentHeaderBytes);
    encode_segment_header(*told, bytes.span());
    file.mended.emplace(0, Bytes(std::move(bytes)));
    return {};
  }

  // The header is written with the first batch: without it no batch was finished, unless one that
  // came later lies here, or another segment behind.
  Status check_unused(size_t i) const {
    const File& file = files_[i];
    bool rotten = i + 1 < files_.size();
    if (!rotten) {
      MendedSource source = file.source();
      BALLAST_TRY(const uint64_t later,
                  find_later_record(source, group_, file.segment->sequence, kSegmentHeaderBytes,
                                    log_.chain.next_serial));
      rotten = later != 0;
    }
    return rotten ? corrupt(*file.segment, 0, file.header_cause) : Status();
  }

  // A segment is begun when all before it is durable.
  bool is_begun(size_t i) const { return i < files_.size() && files_[i].header; }

  // Whether the disk says so of the record that is missing at this place of the last segment.
  Result<bool> was_durable(const File& file, uint64_t offset, uint64_t serial) const {
    if (BALLAST_PLANTED(kRotIsTornTail)) return false;
    if (serial < log_.hard_state.durable_serial) return true;
    MendedSource source = file.source();
    BALLAST_TRY(const uint64_t later,
                find_later_record(source, group_, file.segment->sequence, offset, serial));
    return later != 0;
  }

  // Whether what stands where the chain ends is rot: else the segment is full, or its tail torn.
  Result<bool> is_rot(size_t i, uint64_t end, const ChainEnd& chain) {
    if (is_begun(i + 1)) return files_[i + 1].header->chain != chain;
    if (end == torn_from_) return false;
    BALLAST_TRY(const bool durable, was_durable(files_[i], end, chain.next_serial));
    if (!durable) torn_from_ = end;
    return durable;
  }

  Result<bool> mend(size_t i, MendedSource& source, const SegmentScan& found) {
    File& file = files_[i];
    if (file.mended.contains(found.end)) return false;
    BALLAST_TRY(const bool rotten, is_rot(i, found.end, found.chain));
    if (!rotten || BALLAST_PLANTED(kSecondPlaceIgnored)) return false;
    std::optional<MendedSource> next;
    if (is_begun(i + 1)) next.emplace(*files_[i + 1].segment, files_[i + 1].mended);
    BALLAST_TRY(const auto bare_head,
                find_copy({group_, file.segment->sequence, found.end, found.chain},
                          {source, next ? &*next : nullptr, slots_}));
    if (!bare_head) return false;
    BALLAST_TRY(const Bytes before, bare_head_at(i, found.last));
    file.mended.emplace(found.end, pad_head(bare_head->span(), before.span()));
    return true;
  }

  // Of the segment's record at `offset`, or of the last before the segment if that is 0; empty if
  // the log holds none.
  Result<Bytes> bare_head_at(size_t i, uint64_t offset) const {
    if (offset == 0 && i > 0) offset = files_[--i].last;
    if (offset == 0) return Bytes();
    MendedSource source = files_[i].source();
    return read_bare_head(source, group_, files_[i].segment->sequence, offset);
  }

  Status take_segment(size_t i) {
    File& file = files_[i];
    const SegmentFile& segment = *file.segment;
    const SegmentHeader& header = *file.header;
    if (header.sequence != segment.sequence || header.segment_bytes != segment.bytes)
      return corrupt(segment, 0, "the segment header is another segment's");
    if (header.chain != log_.chain) {
      // The one before ends too early: it was whole when this one was begun.
      if (i == 0) return corrupt(segment, 0, "the segment header is another log's");
      return corrupt(*files_[i - 1].segment, log_.write_offset, tail_cause_);
    }
    log_.segments.push_back({file.segment, header.first_index, header.chain});
    auto found = scan(i, [&](const RecordHeader& record, uint64_t offset) {
      return take_record(segment, record, offset);
    });
    if (!found) return std::unexpected(std::move(found).error());
    log_.chain = found->chain;
    log_.write_offset = found->end;
    file.last = found->last;
    tail_cause_ = std::move(found->end_cause);
    return {};
  }

  // Mends heads on the way. Payloads are looked at in the last batch alone: those of records that
  // were durable, as the ones behind them and the hard state say, are whole but for rot, which
  // whoever reads them notices, and others have them; to look at them all would take long.
  Result<SegmentScan> scan(size_t i, const RecordVisitor& visit) {
    const File& file = files_[i];
    MendedSource source = file.source();
    const auto mender = [&](const SegmentScan& found) { return mend(i, source, found); };
    if (is_begun(i + 1))
      return scan_segment(source, *file.header, kSegmentHeaderBytes, kNoPayloads, visit, mender);
    uint64_t unsure_from = log_.hard_state.durable_serial;
    const auto note_durable = [&](const RecordHeader& record, uint64_t) {
      unsure_from = std::max(unsure_from, record.batch);
      return Status();
    };
    BALLAST_TRY_STATUS(
        scan_segment(source, *file.header, kSegmentHeaderBytes, kNoPayloads, note_durable, mender));
    return scan_segment(source, *file.header, kSegmentHeaderBytes, unsure_from, visit);
  }

  Status take_record(const SegmentFile& segment, const RecordHeader& record, uint64_t offset) {
    const EntryMeta& entry = record.entry;
    const LogBase& base = log_.hard_state.start.base;
    if (entry.index <= base.index || entry.index > base.index + (log_.locators.size() + 1))
      return corrupt(segment, offset, "the record's index leaves a gap");
    const size_t place = entry.index - base.index - 1;
    if ((place == 0 ? base.term : log_.locators[place - 1].term) > entry.term)
      return corrupt(segment, offset, "the record's term is lower than the one before it");
    log_.locators.resize(place);  // a later record replaces what stood from its index on
    log_.locators.push_back({record.serial, entry.term, static_cast<uint32_t>(segment.sequence),
                             static_cast<uint32_t>(offset / kDirectAlignment), entry.header_bytes,
                             entry.payload_bytes, entry.checksum, entry.kind});
    return {};
  }

  // The last segment in use may end in a torn batch; anything else is rot.
  Status check_tail() {
    if (log_.segments.empty()) {
      if (log_.chain.next_serial >= log_.hard_state.durable_serial) return {};
      return corrupt(*files_.front().segment, 0, "the log is empty although it held records");
    }
    BALLAST_TRY(const bool rotten, is_rot(log_.segments.size() - 1, log_.write_offset, log_.chain));
    if (!rotten) return {};
    return corrupt(*log_.segments.back().file, log_.write_offset, tail_cause_);
  }

  // Restores what had rotted and erases what torn writes left, now that all is known to be just
  // that.
  Status write_all() {
    for (const File& file : files_) {
      BALLAST_TRY_STATUS(write_heads(*file.segment, file.mended));
      for (const auto& [offset, head] : file.mended)
        log_.restored.push_back({file.segment->file.path(), offset});
    }
    if (log_.prepared) {
      BALLAST_TRY_STATUS(erase_tail(*log_.prepared, group_, 0));
    }
    return log_.segments.empty()
               ? Status()
               : erase_tail(*log_.segments.back().file, group_, log_.write_offset);
  }

  const std::string directory_;
  const GroupId group_;
  const std::span<const std::byte> slots_;
  std::vector<File> files_;
  RecoveredLog log_;
  std::string tail_cause_;
  uint64_t torn_from_ = 0;  // a place in the last segment in use, already known as a torn tail
};

}  // namespace

Result<RecoveredLog> recover_log(const std::string& directory, GroupId group,
                                 const StoredHardState& hard_state) {
  return Recovery(directory, group, hard_state).run();
}

}  // namespace ballast::storage
