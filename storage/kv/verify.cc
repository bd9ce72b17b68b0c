#include <chrono>
#include <utility>

#include "proto/base/limits.h"
#include "storage/kv/block_rows.h"
#include "storage/kv/row_keys.h"
#include "storage/kv/state_impl.h"

namespace ballast::storage {
namespace {

// What state_digest() hashes of a string: its length too, so that no two rows give the same bytes.
void hash_string(Sha256& hash, std::string_view text) {
  hash.update(as_byte_span(big_endian(text.size())));
  hash.update(as_byte_span(text));
}

}  // namespace

Result<pb::VerifyBlocksReply> StateMachine::verify_blocks(const std::optional<Digest>& after,
                                                          VerifyBudget budget) const {
  const auto deadline = std::chrono::steady_clock::now() + budget.time;
  const std::unique_ptr<RowView> view = impl_->store->snapshot();
  const std::string prefix = kind_key(RowKind::kBlock);
  pb::VerifyBlocksReply reply;
  const auto rows = view->scan(after ? block_key(*after) + '\0' : prefix, prefix_end(prefix));
  while (rows->valid()) {
    BALLAST_TRY(const Digest digest, Digest::from_raw(rows->key().substr(prefix.size())));
    BALLAST_TRY(const auto row, parse_row<pb::BlockRow>(rows->value()));
    const auto block = impl_->stored_block(*view, digest, ReadFrom::kDisk);
    const bool whole = is_whole(digest, block);
    reply.set_blocks(reply.blocks() + 1);
    reply.set_bytes(reply.bytes() + row.length());
    if (!whole) {
      reply.add_damaged(std::string(digest.text()));
      impl_->note_damage(digest, block ? Error{Errc::kCorrupt, "another SHA-256"} : block.error());
    }
    rows->next();
    const bool full = reply.damaged_size() >= static_cast<int>(limits::kDamagedReportedMax);
    const bool spent =
        reply.bytes() >= budget.bytes || std::chrono::steady_clock::now() >= deadline;
    if (rows->valid() && (full || spent)) {
      reply.set_next(std::string(digest.text()));
      break;
    }
  }
  BALLAST_TRY_STATUS(rows->status());
  return reply;
}

Status StateMachine::verify_rows() const {
  Status verified = impl_->store->verify();
  if (!verified && verified.error().code == Errc::kCorrupt)
    impl_->note_damage(std::nullopt, verified.error());
  return verified;
}

Result<pb::StateDigestReply> StateMachine::state_digest() const {
  const std::unique_ptr<RowView> view = impl_->store->snapshot();
  Sha256 hash;
  const auto rows = view->scan("", kind_key(kFirstOfThisNode));
  for (; rows->valid(); rows->next()) {
    hash_string(hash, rows->key());
    hash_string(hash, rows->value());
  }
  BALLAST_TRY_STATUS(rows->status());
  BALLAST_TRY(const auto applied, view->row<pb::AppliedRow>(kind_key(RowKind::kApplied)));
  pb::StateDigestReply reply;
  reply.set_applied_index(applied ? applied->index() : 0);
  reply.set_digest(std::string(hash.finish().text()));
  return reply;
}

}  // namespace ballast::storage
