// Counters of what is live in each log segment: rows of kind kSegmentUse, changed in the same batch
// as the places that they count. One that comes to zero blocks is erased.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proto/base/result.h"
#include "proto/storage.pb.h"
#include "storage/kv/row_batch.h"
#include "storage/kv/row_store.h"
#include "storage/kv/state_machine.h"

namespace ballast::storage {

using SegmentUse = StateMachine::SegmentUse;

// The value of such a row, and the use in a row. Error kCorrupt if it can't be one.
std::string segment_use_value(const SegmentUse& use);
Result<SegmentUse> parse_segment_use(uint64_t sequence, std::string_view value);

// `use` without these. Error kCorrupt if they are more than it has.
Result<SegmentUse> use_without(SegmentUse use, uint64_t bytes, uint64_t blocks);

// A block of `bytes` bytes has found its place in this segment, or leaves it.
Status add_use(RowBatch& rows, uint64_t segment, uint64_t bytes);
Status drop_use(RowBatch& rows, uint64_t segment, uint64_t bytes);

// Counts anew, by the places of all blocks: what the counters should say.
Result<std::vector<SegmentUse>> count_uses(const RowView& rows);

// Error kRefused for rows of a format that this version does not know.
Status check_row_format(uint32_t format);
// Makes rows of format kRowFormatMin ones of kRowFormat, in one batch: counts the segments.
Status take_over_rows(RowStore& rows, pb::AppliedRow applied);

}  // namespace ballast::storage
