#include "storage/log/make_log.h"

#include <fcntl.h>

#include <algorithm>
#include <utility>

#include "proto/base/planted.h"
#include "proto/files/files.h"
#include "storage/log/hard_state_file.h"
#include "storage/log/record.h"

namespace ballast::storage {
namespace {

Result<SegmentPtr> make_segment_now(const LogOptions& options, const SegmentMaker& make_segment,
                                    uint64_t sequence) {
  if (make_segment) return make_segment(sequence);
  return create_segment(options.directory, sequence, options.segment_bytes, SegmentFill::kZeros,
                        [] { return true; });
}

Status make_log(const LogOptions& options, const SegmentMaker& make_segment) {
  if (!path_exists(options.directory + "/" + segment_name(1))) {
    BALLAST_TRY(const auto segment, make_segment_now(options, make_segment, 1));
  }
  MutableBytes slots(2 * kHardStateSlotBytes);
  const HardStateRecord record{.group = options.group, .sequence = 1};
  encode_hard_state(record, {}, slots.span().first(kHardStateSlotBytes));
  encode_hard_state(record, {}, slots.span().last(kHardStateSlotBytes));
  return create_durably(options.directory, kHardStateName, slots.span());
}

}  // namespace

Status make_log_if_new(const LogOptions& options, const SegmentMaker& make_segment) {
  BALLAST_TRY(const auto names, list_directory(options.directory));
  for (const std::string& name : names)
    if (name.ends_with(".tmp")) BALLAST_TRY_STATUS(remove_file(options.directory + "/" + name));
  if (std::ranges::find(names, kHardStateName) != names.end()) return {};
  bool used = false;
  for (const std::string& name : names) {
    const auto sequence = parse_segment_name(name);
    if (!sequence || has_arrived(*sequence)) continue;
    BALLAST_TRY(const UniqueFd file, open_file(options.directory + "/" + name, O_RDONLY));
    MutableBytes block(kSegmentHeaderBytes);
    BALLAST_TRY_STATUS(read_fully(file, block.span(), 0));
    used = used || *sequence > 1 ||
           std::ranges::any_of(block.span(), [](std::byte b) { return b != std::byte{0}; });
  }
  if (used)
    return fail(Errc::kCorrupt,
                "log directory '{}' has segments but no '{}'; without its vote this node must not "
                "go on: remove its data directory and let it join as a new node",
                options.directory, kHardStateName);
  return make_log(options, make_segment);
}

bool holds(const RecoveredLog& log, const LogBase& at) {
  const LogBase& base = log.hard_state.start.base;
  if (at.index <= base.index || BALLAST_PLANTED(kSnapshotsPlaceNotChecked)) return true;
  const size_t place = at.index - base.index - 1;
  return place < log.locators.size() && log.locators[place].term == at.term;
}

// The records' chain goes on, so that no old record is ever taken for one behind the new start.
Status restart_behind(const LogBase& base, const LogOptions& options,
                      const SegmentMaker& make_segment, const UniqueFd& hard_state_file,
                      RecoveredLog& log) {
  if (!log.prepared) {
    const uint64_t next = log.segments.empty() ? log.hard_state.start.segment
                                               : log.segments.back().file->sequence + 1;
    BALLAST_TRY(log.prepared, make_segment_now(options, make_segment, next));
  }
  HardStateRecord& record = log.hard_state;
  record.start = {log.prepared->sequence, base, log.chain};
  record.durable_serial = log.chain.next_serial;
  // A founder that began with a backup has never been in a term. It has not voted in that of the
  // base either: others have, in another cluster.
  if (record.state.term < base.term) record.state = {.term = base.term};
  ++record.sequence;
  MutableBytes slot(kHardStateSlotBytes);
  encode_hard_state(record, log.last_head.span(), slot.span());
  for (const uint64_t copy : {0, 1}) {
    BALLAST_TRY_STATUS(write_fully(hard_state_file, slot.span(), copy * kHardStateSlotBytes));
    BALLAST_TRY_STATUS(sync_file(hard_state_file));
  }
  for (LogSegment& segment : log.segments) log.homes.push_back(std::move(segment.file));
  log.segments.clear();
  log.locators.clear();
  log.write_offset = 0;
  return {};
}

}  // namespace ballast::storage
