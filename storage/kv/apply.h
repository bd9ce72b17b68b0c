// Applying log entries to rows: deterministic, one function per operation.
//
// Two sorts of failure: a refusal is part of the replicated result (kInvalidArgument, kNotFound,
// kConflict, kMissingBlocks, kOverloaded), equal on every replica, with a message that says nothing
// of this node. Anything else (kCorrupt, kIo) is this node's own trouble and stops it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "proto/base/digest.h"
#include "proto/base/result.h"
#include "proto/storage.pb.h"
#include "storage/blocks/committed.h"
#include "storage/blocks/payloads.h"
#include "storage/kv/row_batch.h"

namespace ballast::storage {

inline constexpr uint32_t kRowFormat = 3;
// The oldest that is still read: it has no counters of segments.
inline constexpr uint32_t kRowFormatMin = 2;
inline constexpr uint64_t kRowsPerOperationMax = 10'000;
// Where a delete of a prefix stops before, since keys of many blocks take memory.
inline constexpr uint64_t kUsesPerOperationMax = 200'000;
inline constexpr size_t kMissingReportedMax = 64;

bool is_refusal(Errc code);

// Kept beside the rows; a commit that fails puts them back.
struct Totals {
  uint64_t blocks = 0;
  uint64_t block_bytes = 0;
  uint64_t sessions = 0;
  bool operator==(const Totals&) const = default;
};

struct ApplyContext {
  RowBatch& rows;
  const Payloads& payloads;
  Totals totals;
  uint64_t index = 0;    // of the entry
  uint64_t time_ms = 0;  // of the log: never goes back
  // No lease and no session-time row stands before these. Only hints for where scans begin: the
  // database would else walk over the tombstones of all that has expired.
  uint64_t lease_floor_ms = 0;
  uint64_t session_floor_ms = 0;
  std::vector<Digest> missing;  // with kMissingBlocks
  // With an error that is no refusal: the block that was to be read, if that is what failed.
  std::optional<Digest> unreadable;
  uint64_t added_uses = 0;  // block references that the commit has added so far
};

// Applies one entry and settles or discards what it wrote. Errors are not refusals: stop.
Result<pb::ApplyResult> apply_entry(ApplyContext& context, const Committed& entry);

// The operations (operations.cc).
Status check_precondition(const ApplyContext& context, const pb::Precondition& precondition);
Result<pb::OperationResult> apply_operation(ApplyContext& context, const pb::Operation& operation);

// Ends at most rows_max sessions that have been idle for so long; returns how many.
Result<uint64_t> expire_sessions(ApplyContext& context, std::chrono::milliseconds idle,
                                 uint64_t rows_max);

// Blocks (block_uses.cc). Notes where the block of an entry lies, or extends its lease.
Status stage_block(ApplyContext& context, const Committed& entry, const pb::BlockEntry& staged);
// Removes a block that nothing names, and its lease. REQUIRES: row is the digest's.
Status reclaim_block(ApplyContext& context, const Digest& digest, const pb::BlockRow& row);

// What a commit does to reference counts, gathered before any of it is done.
struct BlockUse {
  Digest digest;
  uint32_t length = 0;
  uint32_t crc32c = 0;
  int64_t change = 0;
};
using BlockUses = std::vector<BlockUse>;

// Adds the blocks that a tensor names, those in its block list and those of its base too, so that
// a difference can be read as long as it is there. A list that isn't stored is among the uses all
// the same, so that apply_uses() reports it. Refuses more than limits::kBlocksPerCommitMax
// additions in a commit, before they take memory, and bases deeper than limits::kBaseDepthMax.
Status gather_tensor(ApplyContext& context, const pb::Tensor& tensor, int64_t change,
                     BlockUses& uses);
// The same for a version: its manifest, the parts, and their tensors. `model` is what the manifest
// must say.
Status gather_version(ApplyContext& context, const pb::BlockRef& manifest, const std::string& model,
                      int64_t change, BlockUses& uses);
// Changes the counts; reclaims blocks that nothing names and whose lease is over. Error
// kMissingBlocks, with context.missing filled, if a block that is to be named isn't stored.
Status apply_uses(ApplyContext& context, BlockUses uses);

}  // namespace ballast::storage
