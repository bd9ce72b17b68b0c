#include <algorithm>
#include <limits>
#include <optional>

#include "proto/base/check.h"
#include "proto/base/limits.h"
#include "storage/kv/apply.h"
#include "storage/kv/block_rows.h"
#include "storage/kv/row_keys.h"
#include "storage/kv/segment_use.h"

namespace ballast::storage {
namespace {

Status gather_block(ApplyContext& context, const pb::BlockRef& reference, int64_t change,
                    BlockUses& uses) {
  if (change > 0 && ++context.added_uses > limits::kBlocksPerCommitMax)
    return fail(Errc::kInvalidArgument, "the commit names more than {} blocks: split it",
                limits::kBlocksPerCommitMax);
  const auto digest = Digest::from_raw(reference.digest());
  if (!digest)
    return fail(Errc::kInvalidArgument, "a block reference has a digest of {} bytes instead of {}",
                reference.digest().size(), Digest::kSize);
  uses.push_back({*digest, reference.length(), reference.crc32c(), change});
  return {};
}

// The message that a stored block holds. kInvalidArgument if it holds none; nothing if it isn't
// stored.
template <class Message>
Result<std::optional<Message>> stored_message(ApplyContext& context,
                                              const pb::BlockRef& reference) {
  BALLAST_TRY(const Digest digest, Digest::from_raw(reference.digest()));
  auto stored = stored_block(context.rows, context.payloads, digest);
  if (!stored) {
    context.unreadable = digest;
    return std::unexpected(std::move(stored).error());
  }
  const auto& block = *stored;
  if (!block) return std::optional<Message>();
  Message message;
  if (!message.ParseFromArray(block->bytes.data(), static_cast<int>(block->bytes.size())))
    return fail(Errc::kInvalidArgument, "block {} is not a {}", digest.brief(),
                Message::descriptor()->name());
  return std::optional<Message>(std::move(message));
}

// The blocks of a tensor alone, without those of its base.
Status gather_layer(ApplyContext& context, const pb::Tensor& tensor, int64_t change,
                    BlockUses& uses) {
  if (tensor.blocks_size() > 0 && tensor.has_block_list())
    return fail(Errc::kInvalidArgument, "tensor '{}' has both blocks and a block list",
                tensor.name());
  for (const pb::BlockRef& block : tensor.blocks())
    BALLAST_TRY_STATUS(gather_block(context, block, change, uses));
  if (!tensor.has_block_list()) return {};
  BALLAST_TRY_STATUS(gather_block(context, tensor.block_list(), change, uses));
  BALLAST_TRY(const auto list, stored_message<pb::BlockList>(context, tensor.block_list()));
  if (!list) return {};
  for (const pb::BlockRef& block : list->blocks())
    BALLAST_TRY_STATUS(gather_block(context, block, change, uses));
  return {};
}

// One block's change, all its uses summed up. True if the block is there to be changed.
Result<bool> change_references(ApplyContext& context, std::span<const BlockUse> uses) {
  const Digest& digest = uses.front().digest;
  BALLAST_TRY(const auto found, context.rows.row<pb::BlockRow>(block_key(digest)));
  if (!found) return false;
  pb::BlockRow row = *found;
  int64_t change = 0;
  for (const BlockUse& use : uses) {
    if (use.length != row.length() || use.crc32c != row.crc32c())
      return fail(Errc::kInvalidArgument,
                  "block {} has {} bytes and CRC32C {:08x}; the reference says {} and {:08x}",
                  digest.brief(), row.length(), row.crc32c(), use.length, use.crc32c);
    change += use.change;
  }
  if (change == 0) return true;
  const auto before = static_cast<int64_t>(row.references());
  if (before + change < 0)
    return fail(Errc::kCorrupt, "block {} has {} references, and {} of them go", digest.brief(),
                before, -change);
  row.set_references(static_cast<uint64_t>(before + change));
  if (row.references() == 0 && row.lease_until_ms() <= context.time_ms) {
    BALLAST_TRY_STATUS(reclaim_block(context, digest, row));
    return true;
  }
  // The lease row exists exactly while nothing names the block.
  if (before == 0) context.rows.erase(lease_key(row.lease_until_ms(), digest));
  if (row.references() == 0) context.rows.put(lease_key(row.lease_until_ms(), digest), "");
  context.rows.put_row(block_key(digest), row);
  return true;
}

}  // namespace

Status stage_block(ApplyContext& context, const Committed& entry, const pb::BlockEntry& staged) {
  const pb::BlockRef& reference = staged.block();
  BALLAST_TRY(const Digest digest, Digest::from_raw(reference.digest()));
  const uint64_t lease =
      std::min(staged.lease_ms(), std::numeric_limits<uint64_t>::max() - context.time_ms);
  const uint64_t until = context.time_ms + lease;

  BALLAST_TRY(const auto stored, context.rows.row<pb::BlockRow>(block_key(digest)));
  pb::BlockRow row;
  if (stored) {
    row = *stored;
    if (until <= row.lease_until_ms()) return {};
    if (row.references() == 0) context.rows.erase(lease_key(row.lease_until_ms(), digest));
  } else {
    if (entry.payload_bytes != reference.length() || entry.payload_crc != reference.crc32c())
      return fail(Errc::kCorrupt, "the payload of entry {} is not block {}", entry.index,
                  digest.brief());
    row.set_length(reference.length());
    row.set_crc32c(reference.crc32c());
    context.rows.put_row(place_key(digest), place_row(entry.place));
    BALLAST_TRY_STATUS(add_use(context.rows, entry.place.segment, reference.length()));
    ++context.totals.blocks;
    context.totals.block_bytes += reference.length();
  }
  row.set_lease_until_ms(until);
  if (row.references() == 0) context.rows.put(lease_key(until, digest), "");
  context.rows.put_row(block_key(digest), row);
  return {};
}

Status reclaim_block(ApplyContext& context, const Digest& digest, const pb::BlockRow& row) {
  BALLAST_CHECK(context.totals.blocks > 0 && context.totals.block_bytes >= row.length());
  context.rows.erase(block_key(digest));
  BALLAST_TRY(const auto place, context.rows.row<pb::PlaceRow>(place_key(digest)));
  context.rows.erase(place ? place_key(digest) : bytes_key(digest));
  if (place) BALLAST_TRY_STATUS(drop_use(context.rows, place->segment(), row.length()));
  context.rows.erase(lease_key(row.lease_until_ms(), digest));
  --context.totals.blocks;
  context.totals.block_bytes -= row.length();
  return {};
}

Status gather_tensor(ApplyContext& context, const pb::Tensor& tensor, int64_t change,
                     BlockUses& uses) {
  const pb::Tensor* layer = &tensor;
  for (size_t depth = 0;; ++depth) {
    BALLAST_TRY_STATUS(gather_layer(context, *layer, change, uses));
    if (!layer->has_base()) return {};
    if (depth == limits::kBaseDepthMax)
      return fail(
          Errc::kInvalidArgument,
          "tensor '{}' is a difference to a difference, more than {} deep: store it plainly",
          tensor.name(), limits::kBaseDepthMax);
    layer = &layer->base();
  }
}

Status gather_version(ApplyContext& context, const pb::BlockRef& reference,
                      const std::string& model, int64_t change, BlockUses& uses) {
  BALLAST_TRY_STATUS(gather_block(context, reference, change, uses));
  BALLAST_TRY(const auto manifest, stored_message<pb::Manifest>(context, reference));
  if (!manifest) return {};
  if (manifest->model() != model)
    return fail(Errc::kInvalidArgument, "the manifest is of model '{}', not of '{}'",
                manifest->model(), model);
  uint64_t tensors = 0;
  for (const pb::BlockRef& reference_of_part : manifest->parts()) {
    BALLAST_TRY_STATUS(gather_block(context, reference_of_part, change, uses));
    BALLAST_TRY(const auto part, stored_message<pb::ManifestPart>(context, reference_of_part));
    if (!part) continue;
    tensors += static_cast<uint64_t>(part->tensors_size());
    if (tensors > limits::kTensorsPerVersionMax)
      return fail(Errc::kInvalidArgument, "the version has more than {} tensors",
                  limits::kTensorsPerVersionMax);
    for (const pb::Tensor& tensor : part->tensors())
      BALLAST_TRY_STATUS(gather_tensor(context, tensor, change, uses));
  }
  return {};
}

Status apply_uses(ApplyContext& context, BlockUses uses) {
  std::ranges::sort(uses, {}, &BlockUse::digest);
  size_t missing = 0;
  for (auto first = uses.begin(); first != uses.end();) {
    const auto last = std::find_if(
        first, uses.end(), [&](const BlockUse& use) { return use.digest != first->digest; });
    BALLAST_TRY(const bool there, change_references(context, {first, last}));
    if (!there && ++missing <= kMissingReportedMax) context.missing.push_back(first->digest);
    first = last;
  }
  if (missing > 0)
    return fail(Errc::kMissingBlocks, "{} blocks are not stored; upload them and commit again",
                missing);
  return {};
}

}  // namespace ballast::storage
