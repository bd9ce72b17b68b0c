#include "storage/kv/segment_use.h"

#include <map>
#include <utility>

#include "proto/base/digest.h"
#include "proto/base/planted.h"
#include "storage/kv/apply.h"
#include "storage/kv/row_keys.h"

namespace ballast::storage {
namespace {

constexpr size_t kValueBytes = 16;

Result<SegmentUse> use_of(const RowBatch& rows, uint64_t segment) {
  BALLAST_TRY(const auto value, rows.get(segment_use_key(segment)));
  if (!value) return SegmentUse{.sequence = segment};
  return parse_segment_use(segment, *value);
}

}  // namespace

std::string segment_use_value(const SegmentUse& use) {
  return big_endian(use.bytes) + big_endian(use.blocks);
}

Result<SegmentUse> parse_segment_use(uint64_t sequence, std::string_view value) {
  if (value.size() != kValueBytes)
    return fail(Errc::kCorrupt, "the counter of log segment {} has {} bytes instead of {}",
                sequence, value.size(), kValueBytes);
  return SegmentUse{sequence, number_behind(value, 0), number_behind(value, 8)};
}

Result<SegmentUse> use_without(SegmentUse use, uint64_t bytes, uint64_t blocks) {
  if (use.bytes < bytes || use.blocks < blocks)
    return fail(Errc::kCorrupt,
                "rows contradict each other: log segment {} has {} live blocks with {} bytes, and "
                "{} with {} leave it",
                use.sequence, use.blocks, use.bytes, blocks, bytes);
  use.bytes -= bytes;
  use.blocks -= blocks;
  return use;
}

Status add_use(RowBatch& rows, uint64_t segment, uint64_t bytes) {
  BALLAST_TRY(SegmentUse use, use_of(rows, segment));
  if (BALLAST_PLANTED(kUseNotCounted) && use.blocks > 0) return {};
  use.bytes += bytes;
  ++use.blocks;
  rows.put(segment_use_key(segment), segment_use_value(use));
  return {};
}

Status drop_use(RowBatch& rows, uint64_t segment, uint64_t bytes) {
  BALLAST_TRY(const SegmentUse before, use_of(rows, segment));
  BALLAST_TRY(const SegmentUse use, use_without(before, bytes, 1));
  if (use.blocks == 0) {
    rows.erase(segment_use_key(segment));
  } else {
    rows.put(segment_use_key(segment), segment_use_value(use));
  }
  return {};
}

Result<std::vector<SegmentUse>> count_uses(const RowView& rows) {
  std::map<uint64_t, SegmentUse> uses;
  const std::string prefix = kind_key(RowKind::kPlace);
  const auto places = rows.scan(prefix, prefix_end(prefix));
  for (; places->valid(); places->next()) {
    BALLAST_TRY(const Digest digest, Digest::from_raw(places->key().substr(prefix.size())));
    BALLAST_TRY(const auto place, parse_row<pb::PlaceRow>(places->value()));
    BALLAST_TRY(const auto block, rows.row<pb::BlockRow>(block_key(digest)));
    if (!block)
      return fail(Errc::kCorrupt, "rows contradict each other: block {} has a place, and no row",
                  digest.brief());
    SegmentUse& use = uses[place.segment()];
    use.bytes += block->length();
    ++use.blocks;
  }
  BALLAST_TRY_STATUS(places->status());
  std::vector<SegmentUse> sorted;
  for (auto& [sequence, use] : uses) {
    use.sequence = sequence;
    sorted.push_back(use);
  }
  return sorted;
}

Status check_row_format(uint32_t format) {
  if (format >= kRowFormatMin && format <= kRowFormat) return {};
  return fail(Errc::kRefused,
              "the rows have format {}; this program knows formats {} to {}: use the version of "
              "ballastd that wrote them",
              format, kRowFormatMin, kRowFormat);
}

Status take_over_rows(RowStore& rows, pb::AppliedRow applied) {
  BALLAST_TRY(const auto uses, count_uses(rows));
  RowBatch batch(rows);
  for (const SegmentUse& use : uses)
    batch.put(segment_use_key(use.sequence), segment_use_value(use));
  applied.set_format(kRowFormat);
  batch.put_row(kind_key(RowKind::kApplied), applied);
  batch.settle();
  return rows.write(batch.changes());
}

}  // namespace ballast::storage
