#include "storage/log/inspect_log.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "proto/files/files.h"
#include "storage/log/hard_state_file.h"
#include "storage/log/record.h"
#include "storage/log/second_place.h"
#include "storage/log/segment_scan.h"

namespace ballast::storage {
namespace {

// Fills `slots` with both copies, as far as they are there.
Result<HardStateReport> inspect_hard_state(const std::string& directory,
                                           std::span<std::byte> slots) {
  HardStateReport report;
  std::memset(slots.data(), 0, slots.size());
  const std::string path = directory + "/" + kHardStateName;
  if (!path_exists(path)) return report;
  BALLAST_TRY(const UniqueFd file, open_file(path, O_RDONLY));
  BALLAST_TRY(const uint64_t bytes, file_bytes(file));
  BALLAST_TRY_STATUS(read_fully(file, slots.first(std::min<uint64_t>(bytes, slots.size())), 0));
  const HardStateCopies parsed = parse_hard_state_copies(slots);
  for (const auto& copy : parsed.copies) report.whole_copies += copy ? 1 : 0;
  if (report.whole_copies == 0) return report;
  const HardStateRecord& newest = *parsed.copies[parsed.newest()];
  report.state = newest.state;
  report.durable_serial = newest.durable_serial;
  report.start = newest.start;
  return report;
}

class Inspection {
 public:
  Inspection(std::string directory, GroupId group)
      : directory_(std::move(directory)), group_(group) {}

  Result<std::unique_ptr<LogReport>> run() {
    MutableBytes slots(2 * kHardStateSlotBytes);
    BALLAST_TRY(report_->hard_state, inspect_hard_state(directory_, slots.span()));
    slots_ = Bytes(std::move(slots));
    BALLAST_TRY(const auto names, list_directory(directory_));
    const LogStart& start = report_->hard_state.start;
    uint64_t expected = start.segment;
    chain_ = start.chain;
    report_->last = start.base.index;
    for (const std::string& name : names) {
      const auto sequence = parse_segment_name(name);
      if (!sequence) continue;
      if (!has_arrived(*sequence)) {
        if (*sequence > expected) note(fmt::format("segment {} is missing", expected));
        expected = std::max(expected, *sequence + 1);
      }
      BALLAST_TRY_STATUS(open(*sequence));
    }
    for (size_t i = 0; i < files_.size(); ++i) BALLAST_TRY_STATUS(look_at(i));
    const HardStateReport& hard_state = report_->hard_state;
    report_->made = !report_->segments.empty() || path_exists(directory_ + "/" + kHardStateName);
    if (report_->made && hard_state.whole_copies == 0) note("no copy of term and vote is whole");
    report_->next_serial = chain_.next_serial;
    if (chain_.next_serial < hard_state.durable_serial) {
      note(fmt::format("it ends at record {}, but record {} was durable", chain_.next_serial - 1,
                       hard_state.durable_serial - 1));
      const auto last =
          std::ranges::find_if(report_->segments.rbegin(), report_->segments.rend(),
                               [](const auto& segment) { return segment.begun && !segment.home; });
      if (last != report_->segments.rend() && last->damage.empty()) last->damage = end_cause_;
    }
    return std::move(report_);
  }

 private:
  void note(std::string damage) {
    if (report_->damage.empty()) report_->damage = std::move(damage);
  }

  Status open(uint64_t sequence) {
    SegmentFile segment;
    segment.sequence = sequence;
    const std::string path = directory_ + "/" + segment_name(sequence);
    BALLAST_TRY(segment.file, open_file(path, O_RDONLY));
    BALLAST_TRY(segment.cached, open_file(path, O_RDONLY));
    BALLAST_TRY(segment.bytes, file_bytes(segment.file));
    files_.push_back(std::make_shared<const SegmentFile>(std::move(segment)));
    report_->payloads.add(files_.back());
    return {};
  }

  Status look_at(size_t i) {
    const SegmentFile& segment = *files_[i];
    SegmentReport report{.sequence = segment.sequence,
                         .bytes = segment.bytes,
                         .home = has_arrived(segment.sequence) ||
                                 segment.sequence < report_->hard_state.start.segment};
    MendedHeads mended;
    BALLAST_TRY_STATUS(scan(i, mended, report));
    if (!report.damage.empty()) {
      note(fmt::format("segment {} is damaged at offset {}", segment.sequence, report.end));
    } else if (!mended.empty()) {
      report.damage =
          fmt::format("rotten heads that the next start restores: {}, the first at offset {}",
                      mended.size(), mended.begin()->first);
      note(fmt::format("segment {} has {}", segment.sequence, report.damage));
    }
    report_->segments.push_back(std::move(report));
    return {};
  }

  Status scan(size_t i, MendedHeads& mended, SegmentReport& report) {
    const SegmentFile& segment = *files_[i];
    MendedSource source(segment, mended);
    BALLAST_TRY(const auto header, header_of(i, source, mended, report.home));
    if (!header) {
      return look_for_records(source, segment, 0, chain_.next_serial, header.error().message,
                              report);
    }
    report.begun = true;
    report.end = kSegmentHeaderBytes;
    // One that arrived may be longer than it says: a crash has kept it from being cut off.
    const bool fits = has_arrived(segment.sequence) ? header->segment_bytes <= segment.bytes
                                                    : header->segment_bytes == segment.bytes;
    if (header->group != group_ || header->sequence != segment.sequence || !fits) {
      report.damage = "its header is another segment's";
      return {};
    }
    if (!report.home && header->chain != chain_)
      note(fmt::format("segment {} does not follow", segment.sequence));
    const auto mender = [&](const SegmentScan& found) { return mend(i, source, mended, found); };
    BALLAST_TRY(const auto found, scan_segment(
                                      source, *header, kSegmentHeaderBytes, kAllPayloads,
                                      [&](const RecordHeader& record, uint64_t) {
                                        take(record, report);
                                        return Status();
                                      },
                                      report.home ? ScanMender() : mender));
    report.end = found.end;
    if (!report.home) {
      chain_ = found.chain;
      end_cause_ = found.end_cause;
    }
    return look_for_records(source, segment, found.end, found.chain.next_serial, found.end_cause,
                            report);
  }

  // The log's next segment; null if there is none.
  const SegmentFile* behind(size_t i) const {
    const bool there = i + 1 < files_.size() && !has_arrived(files_[i + 1]->sequence);
    return there ? files_[i + 1].get() : nullptr;
  }

  // The header that lies there, or that the first record tells if a start would take that.
  Result<Result<SegmentHeader>> header_of(size_t i, MendedSource& source, MendedHeads& mended,
                                          bool home) const {
    BALLAST_TRY(const auto block, source.fetch(0, kSegmentHeaderBytes));
    auto header = parse_segment_header(block);
    const bool others =
        header && header->group == group_ && header->sequence != files_[i]->sequence;
    if (home || (header && !others)) return header;
    BALLAST_TRY(const auto told, header_by_record(source, group_, files_[i]->sequence));
    if (!told) return header;
    BALLAST_TRY(const bool durable,
                was_durable(i, source, kSegmentHeaderBytes, told->chain.next_serial));
    if (!durable && behind(i) == nullptr) return header;
    MutableBytes bytes(kSegmentHeaderBytes);
    encode_segment_header(*told, bytes.span());
    mended.emplace(0, Bytes(std::move(bytes)));
    return Result<SegmentHeader>(*told);
  }

  // As a start does, if what stands where the chain ends is rot of a head.
  Result<bool> mend(size_t i, MendedSource& source, MendedHeads& mended,
                    const SegmentScan& found) const {
    const uint64_t sequence = files_[i]->sequence;
    const auto head = read_head(source, group_, sequence, found.end);
    if (!head && head.error().code == Errc::kIo) return std::unexpected(head.error());
    const bool payload =
        head && head->serial == found.chain.next_serial && head->previous == found.chain.previous;
    if (payload || mended.contains(found.end)) return false;
    BALLAST_TRY(const bool durable, was_durable(i, source, found.end, found.chain.next_serial));
    if (!durable) return false;
    const MendedHeads none;
    std::optional<MendedSource> next;
    if (behind(i) != nullptr) next.emplace(*behind(i), none);
    BALLAST_TRY(const auto bare_head, find_copy({group_, sequence, found.end, found.chain},
                                                {source, next ? &*next : nullptr, slots_.span()}));
    if (bare_head) mended.emplace(found.end, pad_head(bare_head->span(), {}));
    return bare_head.has_value();
  }

  Result<bool> was_durable(size_t i, MendedSource& source, uint64_t offset, uint64_t serial) const {
    if (serial < report_->hard_state.durable_serial) return true;
    if (const SegmentFile* const next = behind(i); next != nullptr) {
      // It is begun when all of this one is durable.
      MutableBytes block(kSegmentHeaderBytes);
      BALLAST_TRY_STATUS(read_fully(next->file, block.span(), 0));
      if (parse_segment_header(block.span())) return true;
      const MendedHeads none;
      MendedSource its(*next, none);
      BALLAST_TRY(const auto told, header_by_record(its, group_, next->sequence));
      if (told) return true;
    }
    BALLAST_TRY(const uint64_t later,
                find_later_record(source, group_, files_[i]->sequence, offset, serial));
    return later != 0;
  }

  void take(const RecordHeader& record, SegmentReport& report) {
    if (report.records++ == 0) report.first = record.entry.index;
    report.last = record.entry.index;
    report.payload_bytes += record.entry.payload_bytes;
    if (!report.home) report_->last = record.entry.index;
  }

  // What stands behind the end of a segment's records is the trace of a crash at most, unless it
  // holds records that were written after the end had been durable.
  Status look_for_records(MendedSource& source, const SegmentFile& segment, uint64_t end,
                          uint64_t next_serial, const std::string& cause, SegmentReport& report) {
    BALLAST_TRY(const uint64_t later,
                find_later_record(source, group_, segment.sequence, end, next_serial));
    if (later != 0) report.damage = cause;
    return {};
  }

  const std::string directory_;
  const GroupId group_;
  Bytes slots_;  // of the hard state
  std::vector<SegmentPtr> files_;
  std::unique_ptr<LogReport> report_ = std::make_unique<LogReport>();
  ChainEnd chain_;
  std::string end_cause_;  // why the last segment's records end where they do
};

}  // namespace

Result<std::unique_ptr<LogReport>> inspect_log(const std::string& directory, GroupId group) {
  return Inspection(directory, group).run();
}

}  // namespace ballast::storage
