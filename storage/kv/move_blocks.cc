// The life of log segments, seen from the rows: what lies in them, and how it gets out of one.
#include <map>
#include <span>
#include <utility>

#include "storage/kv/block_rows.h"
#include "storage/kv/row_keys.h"
#include "storage/kv/segment_use.h"
#include "storage/kv/state_impl.h"

namespace ballast::storage {
namespace {

// Of which the digests take 32 bytes each in memory.
constexpr uint64_t kBlocksFoundMax = 256 << 10;
constexpr size_t kBlocksOfLoad = 256;  // each is read by itself

using Moves = std::map<uint64_t, SegmentMove>;

// Fills in the moves of these segments.
Status find_in(const RowView& rows, Moves& moves) {
  const std::string prefix = kind_key(RowKind::kPlace);
  const auto places = rows.scan(prefix, prefix_end(prefix));
  for (; places->valid(); places->next()) {
    BALLAST_TRY(const auto place, parse_row<pb::PlaceRow>(places->value()));
    const auto move = moves.find(place.segment());
    if (move == moves.end()) continue;
    BALLAST_TRY(move->second.left.emplace_back(),
                Digest::from_raw(places->key().substr(prefix.size())));
  }
  return places->status();
}

Result<std::optional<SegmentUse>> segment_use(const RowView& rows, uint64_t segment) {
  BALLAST_TRY(const auto value, rows.get(segment_use_key(segment)));
  if (!value) return std::optional<SegmentUse>();
  BALLAST_TRY(const SegmentUse use, parse_segment_use(segment, *value));
  return std::optional(use);
}

// All rows of it change in one batch, so that each block has one home at any moment.
Status write_load(RowStore& rows, const Load& load, const SegmentUse& before) {
  BALLAST_TRY(const SegmentUse after, use_without(before, load.bytes, load.blocks.size()));
  std::vector<std::string> keys;  // that the changes refer to
  keys.reserve(2 * load.blocks.size());
  std::vector<RowChange> changes;
  for (const auto& [digest, bytes] : load.blocks) {
    BytesRow row = bytes_row(digest, bytes);
    changes.push_back({keys.emplace_back(std::move(row.key)), row.value});
    changes.push_back({keys.emplace_back(place_key(digest)), std::nullopt});
  }
  const std::string counter = segment_use_key(after.sequence);
  const std::string value = segment_use_value(after);
  changes.push_back({counter, std::nullopt});
  if (after.blocks > 0) changes.back().value = value;
  return rows.write(changes);
}

}  // namespace

Result<std::vector<SegmentUse>> StateMachine::segments() const {
  std::vector<SegmentUse> uses;
  const std::string prefix = kind_key(RowKind::kSegmentUse);
  const auto rows = impl_->store->scan(prefix, prefix_end(prefix));
  for (; rows->valid(); rows->next()) {
    if (rows->key().size() != prefix.size() + 8)
      return fail(Errc::kCorrupt, "the key of a segment's counter has {} bytes",
                  rows->key().size());
    BALLAST_TRY(uses.emplace_back(),
                parse_segment_use(number_behind(rows->key(), prefix.size()), rows->value()));
  }
  BALLAST_TRY_STATUS(rows->status());
  return uses;
}

// Takes blocks off the end of `move` until it has enough of them.
Result<Load> StateMachine::Impl::read_load(uint64_t segment, SegmentMove& move,
                                           uint64_t bytes_max) {
  const RowView& rows = *store;
  Load load;
  for (; !move.left.empty() && load.blocks.size() < kBlocksOfLoad; move.left.pop_back()) {
    const Digest& digest = move.left.back();
    BALLAST_TRY(const auto place, rows.row<pb::PlaceRow>(place_key(digest)));
    if (!place || place->segment() != segment) continue;  // it has gone since it was found
    BALLAST_TRY(const auto row, rows.row<pb::BlockRow>(block_key(digest)));
    if (!row)
      return fail(Errc::kCorrupt, "rows contradict each other: block {} has a place, and no row",
                  digest.brief());
    if (load.bytes > 0 && load.bytes + row->length() > bytes_max) break;
    // From the disk: what only the page cache has would be lost with the segment.
    auto bytes = read_place(*payloads, place_of(*place), digest, *row, ReadFrom::kDisk);
    if (bytes) {
      load.blocks.emplace_back(digest, *std::move(bytes));
      load.bytes += row->length();
      continue;
    }
    note_damage(digest, bytes.error());
    if (move.damaged++ == 0) move.first_damage = std::move(bytes).error().message;
  }
  return load;
}

Result<SegmentMove> StateMachine::Impl::take_move(uint64_t segment) {
  {
    const std::lock_guard lock(moves_mutex);
    auto found = moves.extract(segment);
    if (found && (!found.mapped().left.empty() || found.mapped().damaged > 0))
      return std::move(found.mapped());
  }
  Moves found{{segment, {}}};
  BALLAST_TRY_STATUS(find_in(*store, found));
  return std::move(found.begin()->second);
}

Result<uint64_t> StateMachine::Impl::move_on(uint64_t segment, uint64_t bytes_max) {
  while (true) {
    BALLAST_TRY(const auto use, segment_use(*store, segment));
    if (!use) return 0;
    BALLAST_TRY(SegmentMove move, take_move(segment));
    if (move.left.empty() && move.damaged == 0)
      return fail(Errc::kCorrupt,
                  "rows contradict each other: {} blocks lie in log segment {}, and none has its "
                  "place there",
                  use->blocks, segment);
    BALLAST_TRY(const Load load, read_load(segment, move, bytes_max));
    if (!load.blocks.empty()) BALLAST_TRY_STATUS(write_load(*store, load, *use));
    if (load.blocks.empty() && move.damaged > 0)
      return fail(Errc::kCorrupt,
                  "log segment {} must stay: {} of its blocks can't be read; the first: {}",
                  segment, move.damaged, move.first_damage);
    // What has come since it was looked through is found by another look.
    if (!move.left.empty() || move.damaged > 0) {
      const std::lock_guard lock(moves_mutex);
      moves.insert_or_assign(segment, std::move(move));
    }
    if (load.bytes > 0) return load.bytes;
  }
}

Status StateMachine::find_blocks(std::span<const uint64_t> segments) {
  {
    const std::lock_guard lock(impl_->moves_mutex);
    if (segments.empty() || impl_->moves.contains(segments.front())) return {};
    impl_->moves.clear();
  }
  Moves found;
  uint64_t blocks = 0;
  for (const uint64_t segment : segments) {
    BALLAST_TRY(const auto use, segment_use(*impl_->store, segment));
    if (!use) continue;
    blocks += use->blocks;
    if (!found.empty() && blocks > kBlocksFoundMax) break;
    found.try_emplace(segment);
  }
  BALLAST_TRY_STATUS(find_in(*impl_->store->snapshot(), found));
  const std::lock_guard lock(impl_->moves_mutex);
  impl_->moves = std::move(found);
  return {};
}

Result<uint64_t> StateMachine::move_blocks(uint64_t segment, uint64_t bytes_max) {
  auto moved = impl_->move_on(segment, bytes_max);
  if (!moved || *moved == 0) {
    const std::lock_guard lock(impl_->moves_mutex);
    impl_->moves.erase(segment);
  }
  return moved;
}

}  // namespace ballast::storage
