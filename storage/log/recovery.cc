#include "storage/log/recovery.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "proto/base/planted.h"
#include "proto/files/files.h"
#include "storage/log/file_source.h"

namespace ballast::storage {
namespace {

constexpr size_t kEraseBytes = 256 << 10;

bool all_zero(std::span<const std::byte> bytes) {
  return bytes.empty() || (bytes[0] == std::byte{0} &&
                           std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

// The record's head at `offset`, its CRC and its place verified.
Result<RecordHeader> read_head(SegmentSource& source, GroupId group, uint64_t sequence,
                               uint64_t offset) {
  BALLAST_TRY(auto bytes, source.fetch(offset, kDirectAlignment));
  if (const size_t needed = peek_record_head_bytes(bytes); needed > bytes.size()) {
    BALLAST_TRY(bytes, source.fetch(offset, needed));
  }
  BALLAST_TRY(RecordHeader header, parse_record_head(bytes));
  if (header.group != group || header.segment != sequence || header.offset != offset)
    return fail(Errc::kCorrupt, "record was written for another place");
  return header;
}

// Every place from `offset` on where the head of a record of this segment is whole, until `visit`
// returns false.
template <class Visit>
Status each_head(SegmentSource& source, GroupId group, uint64_t sequence, uint64_t offset,
                 const Visit& visit) {
  for (; offset + kDirectAlignment <= source.size(); offset += kDirectAlignment) {
    BALLAST_TRY(const auto block, source.fetch(offset, kDirectAlignment));
    if (peek_record_head_bytes(block) == 0) continue;  // of a new file nearly all: it is zeros
    const auto record = read_head(source, group, sequence, offset);
    if (!record && record.error().code == Errc::kIo) return std::unexpected(record.error());
    if (record && !visit(*record)) return {};
  }
  return {};
}

Result<RecordHeader> read_record(SegmentSource& source, const SegmentHeader& segment,
                                 const ChainEnd& chain, uint64_t offset, uint64_t payloads_from) {
  BALLAST_TRY(RecordHeader header, read_head(source, segment.group, segment.sequence, offset));
  if (header.serial != chain.next_serial || header.previous != chain.previous)
    return fail(Errc::kCorrupt, "record does not follow the one before it");
  const size_t head = record_head_bytes(header.entry.header_bytes);
  if (header.serial < payloads_from) {
    if (offset + head + header.entry.payload_bytes > source.size())
      return fail(Errc::kCorrupt, "payload is cut off");
    return header;
  }
  BALLAST_TRY(const auto bytes, source.fetch(offset, head + header.entry.payload_bytes));
  if (bytes.size() < head + header.entry.payload_bytes)
    return fail(Errc::kCorrupt, "payload is cut off");
  if (crc32c(bytes.subspan(head)) != header.payload_crc && !BALLAST_PLANTED(kTornTailKept))
    return fail(Errc::kCorrupt, "payload does not match its CRC32C");
  return header;
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
  Recovery(std::string directory, GroupId group, const HardStateRecord& hard_state)
      : directory_(std::move(directory)), group_(group) {
    log_.hard_state = hard_state;
    log_.chain = hard_state.start.chain;
  }

  Result<RecoveredLog> run() {
    BALLAST_TRY_STATUS(open_files());
    for (size_t i = 0; i < files_.size(); ++i) {
      BALLAST_TRY(const auto header, read_segment_header(i));
      if (!header) {
        log_.prepared = files_[i];
        break;
      }
      // A segment is begun when all before it is durable.
      BALLAST_TRY(const bool full, is_begun(i + 1));
      uint64_t unsure_from = kNoPayloads;
      if (!full) {
        BALLAST_TRY(unsure_from, durable_before(*files_[i], *header));
      }
      BALLAST_TRY_STATUS(take_segment(i, *header, unsure_from));
    }
    BALLAST_TRY_STATUS(finish_tail());
    return std::move(log_);
  }

 private:
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
      BALLAST_TRY(const SegmentPtr file, open_segment(directory_, *sequence));
      if (home) {
        log_.homes.push_back(file);
        continue;
      }
      if (file->bytes < kSegmentHeaderBytes || file->bytes % kDirectAlignment != 0)
        return corrupt(*file, file->bytes, "the file is cut off");
      // A killed process may have left writes that are not durable yet.
      BALLAST_TRY_STATUS(sync_file(file->file));
      files_.push_back(file);
    }
    return files_.empty() ? missing(log_.hard_state.start.segment) : Status();
  }

  // The header, or nothing if the segment is not in use yet.
  Result<std::optional<SegmentHeader>> read_segment_header(size_t i) {
    const SegmentFile& segment = *files_[i];
    FileSource source(segment.file, segment.bytes);
    BALLAST_TRY(const auto block, source.fetch(0, kSegmentHeaderBytes));
    auto header = parse_segment_header(block);
    if (!header && header.error().code != Errc::kCorrupt)
      return fail_within(std::move(header).error(), "'{}'", segment.file.path());
    if (header && header->group != group_)
      return fail(Errc::kRefused, "'{}' belongs to group {}, not to group {}", segment.file.path(),
                  header->group, group_);
    if (header) return std::optional(*header);
    if (i + 1 < files_.size()) return corrupt(segment, 0, header.error().message);
    // The header is written with the first batch: without it no batch was finished, unless one
    // that came later lies here.
    BALLAST_TRY(const uint64_t later,
                find_later_record(source, group_, segment.sequence, kSegmentHeaderBytes,
                                  log_.chain.next_serial));
    if (later != 0) return corrupt(segment, 0, header.error().message);
    return std::optional<SegmentHeader>();
  }

  // True if the segment has a header, which came with its first batch.
  Result<bool> is_begun(size_t i) const {
    if (i >= files_.size()) return false;
    FileSource source(files_[i]->file, files_[i]->bytes);
    BALLAST_TRY(const auto block, source.fetch(0, kSegmentHeaderBytes));
    return parse_segment_header(block).has_value();
  }

  // Records with lower serials were durable, as those behind them and the hard state say. Their
  // payloads are whole, but for rot, which whoever reads them notices, and others have them: to
  // look at them all would take long.
  Result<uint64_t> durable_before(const SegmentFile& segment, const SegmentHeader& header) const {
    uint64_t serial = log_.hard_state.durable_serial;
    FileSource source(segment.file, segment.bytes);
    BALLAST_TRY_STATUS(scan_segment(source, header, kSegmentHeaderBytes, kNoPayloads,
                                    [&](const RecordHeader& record, uint64_t) {
                                      serial = std::max(serial, record.batch);
                                      return Status();
                                    }));
    return serial;
  }

  Status take_segment(size_t i, const SegmentHeader& header, uint64_t payloads_from) {
    const SegmentFile& segment = *files_[i];
    if (header.sequence != segment.sequence || header.segment_bytes != segment.bytes)
      return corrupt(segment, 0, "the segment header is another segment's");
    if (header.chain != log_.chain) {
      // The one before ends too early: it was whole when this one was begun.
      if (i == 0) return corrupt(segment, 0, "the segment header is another log's");
      return corrupt(*files_[i - 1], log_.write_offset, tail_cause_);
    }
    log_.segments.push_back({files_[i], header.first_index, header.chain});
    FileSource source(segment.file, segment.bytes);
    auto found = scan_segment(source, header, kSegmentHeaderBytes, payloads_from,
                              [&](const RecordHeader& record, uint64_t offset) {
                                return take_record(segment, record, offset);
                              });
    if (!found) return std::unexpected(std::move(found).error());
    log_.chain = found->chain;
    log_.write_offset = found->end;
    tail_cause_ = std::move(found->end_cause);
    return {};
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

  // Erases what torn writes left, and nothing before all is known to be just that.
  Status finish_tail() {
    if (!BALLAST_PLANTED(kRotIsTornTail)) {
      BALLAST_TRY_STATUS(check_tail());
    }
    if (log_.prepared) {
      BALLAST_TRY_STATUS(erase_tail(*log_.prepared, group_, 0));
    }
    return log_.segments.empty()
               ? Status()
               : erase_tail(*log_.segments.back().file, group_, log_.write_offset);
  }

  // The last segment in use may end in a torn batch; anything else is rot.
  Status check_tail() const {
    const bool none = log_.segments.empty();
    const SegmentFile& last = none ? *files_.front() : *log_.segments.back().file;
    if (!none) {
      FileSource source(last.file, last.bytes);
      BALLAST_TRY(const uint64_t later,
                  find_later_record(source, group_, last.sequence, log_.write_offset,
                                    log_.chain.next_serial));
      if (later != 0) return corrupt(last, log_.write_offset, tail_cause_);
    }
    if (log_.chain.next_serial < log_.hard_state.durable_serial)
      return corrupt(last, log_.write_offset,
                     none ? "the log is empty although it held records" : tail_cause_);
    return {};
  }

  const std::string directory_;
  const GroupId group_;
  std::vector<SegmentPtr> files_;
  RecoveredLog log_;
  std::string tail_cause_;
};

}  // namespace

Result<SegmentScan> scan_segment(SegmentSource& source, const SegmentHeader& header,
                                 uint64_t offset, uint64_t payloads_from,
                                 const RecordVisitor& visit) {
  SegmentScan found{header.chain, offset, "the segment is full"};
  while (found.end + kDirectAlignment <= source.size()) {
    const auto record = read_record(source, header, found.chain, found.end, payloads_from);
    if (!record && record.error().code == Errc::kIo) return std::unexpected(record.error());
    if (!record) {
      found.end_cause = record.error().message;
      break;
    }
    BALLAST_TRY_STATUS(visit(*record, found.end));
    found.chain = {record->serial + 1, record->crc};
    found.end += record_bytes(record->entry.header_bytes, record->entry.payload_bytes);
  }
  return found;
}

Result<uint64_t> find_later_record(SegmentSource& source, GroupId group, uint64_t sequence,
                                   uint64_t offset, uint64_t serial) {
  uint64_t found = 0;
  BALLAST_TRY_STATUS(each_head(source, group, sequence, offset, [&](const RecordHeader& record) {
    if (record.batch > serial) found = record.offset;
    return found == 0;
  }));
  return found;
}

Result<RecoveredLog> recover_log(const std::string& directory, GroupId group,
                                 const HardStateRecord& hard_state) {
  return Recovery(directory, group, hard_state).run();
}

}  // namespace ballast::storage
