#include "storage/log/inspect_log.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "proto/files/files.h"
#include "storage/log/file_source.h"
#include "storage/log/hard_state_file.h"
#include "storage/log/record.h"

namespace ballast::storage {
namespace {

Result<HardStateReport> inspect_hard_state(const std::string& directory) {
  HardStateReport report;
  const std::string path = directory + "/" + kHardStateName;
  if (!path_exists(path)) return report;
  BALLAST_TRY(const UniqueFd file, open_file(path, O_RDONLY));
  BALLAST_TRY(const uint64_t bytes, file_bytes(file));
  MutableBytes slots(2 * kHardStateSlotBytes);
  std::memset(slots.data(), 0, slots.size());  // of a file that is cut off
  BALLAST_TRY_STATUS(
      read_fully(file, slots.span().first(std::min<uint64_t>(bytes, slots.size())), 0));
  const HardStateCopies parsed = parse_hard_state_copies(slots.span());
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
    BALLAST_TRY(report_->hard_state, inspect_hard_state(directory_));
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
      BALLAST_TRY_STATUS(look_at(*sequence));
    }
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

  Status look_at(uint64_t sequence) {
    SegmentFile segment;
    segment.sequence = sequence;
    const std::string path = directory_ + "/" + segment_name(sequence);
    BALLAST_TRY(segment.file, open_file(path, O_RDONLY));
    BALLAST_TRY(segment.cached, open_file(path, O_RDONLY));
    BALLAST_TRY(segment.bytes, file_bytes(segment.file));
    const auto shared = std::make_shared<const SegmentFile>(std::move(segment));
    report_->payloads.add(shared);
    SegmentReport report{
        .sequence = sequence,
        .bytes = shared->bytes,
        .home = has_arrived(sequence) || sequence < report_->hard_state.start.segment};
    BALLAST_TRY_STATUS(scan(*shared, report));
    if (!report.damage.empty())
      note(fmt::format("segment {} is damaged at offset {}", sequence, report.end));
    report_->segments.push_back(std::move(report));
    return {};
  }

  Status scan(const SegmentFile& segment, SegmentReport& report) {
    FileSource source(segment.file, segment.bytes);
    BALLAST_TRY(const auto block, source.fetch(0, kSegmentHeaderBytes));
    const auto header = parse_segment_header(block);
    if (!header) {
      return look_for_records(source, segment, 0, chain_.next_serial, header.error().message,
                              report);
    }
    report.begun = true;
    report.end = kSegmentHeaderBytes;
    if (header->group != group_ || header->sequence != segment.sequence ||
        header->segment_bytes != segment.bytes) {
      report.damage = "its header is another segment's";
      return {};
    }
    if (!report.home && header->chain != chain_)
      note(fmt::format("segment {} does not follow", segment.sequence));
    BALLAST_TRY(const auto found, scan_segment(source, *header, kSegmentHeaderBytes, kAllPayloads,
                                               [&](const RecordHeader& record, uint64_t) {
                                                 take(record, report);
                                                 return Status();
                                               }));
    report.end = found.end;
    if (!report.home) {
      chain_ = found.chain;
      end_cause_ = found.end_cause;
    }
    return look_for_records(source, segment, found.end, found.chain.next_serial, found.end_cause,
                            report);
  }

  void take(const RecordHeader& record, SegmentReport& report) {
    if (report.records++ == 0) report.first = record.entry.index;
    report.last = record.entry.index;
    report.payload_bytes += record.entry.payload_bytes;
    if (!report.home) report_->last = record.entry.index;
  }

  // What stands behind the end of a segment's records is the trace of a crash at most, unless it
  // holds records that were written after the end had been durable.
  Status look_for_records(FileSource& source, const SegmentFile& segment, uint64_t end,
                          uint64_t next_serial, const std::string& cause, SegmentReport& report) {
    BALLAST_TRY(const uint64_t later,
                find_later_record(source, group_, segment.sequence, end, next_serial));
    if (later != 0) report.damage = cause;
    return {};
  }

  const std::string directory_;
  const GroupId group_;
  std::unique_ptr<LogReport> report_ = std::make_unique<LogReport>();
  ChainEnd chain_;
  std::string end_cause_;  // why the last segment's records end where they do
};

}  // namespace

Result<std::unique_ptr<LogReport>> inspect_log(const std::string& directory, GroupId group) {
  return Inspection(directory, group).run();
}

}  // namespace ballast::storage
