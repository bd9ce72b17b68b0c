// What nothing needs any more, as the rows have it.
#include <algorithm>
#include <chrono>

#include "proto/base/limits.h"
#include "storage/kv/row_keys.h"
#include "storage/kv/state_impl.h"

namespace ballast::storage {
namespace {

constexpr size_t kKindBytes = 1;
constexpr size_t kLeaseNameBytes = sizeof(uint64_t) + Digest::kSize;  // behind the kind

// One whose lease ends at `until_ms`; they come in that order.
void count_block(pb::GarbageReply& reply, uint64_t bytes, uint64_t until_ms, uint64_t now_ms) {
  reply.set_blocks(reply.blocks() + 1);
  reply.set_bytes(reply.bytes() + bytes);
  if (until_ms <= now_ms) {
    reply.set_due_blocks(reply.due_blocks() + 1);
    reply.set_due_bytes(reply.due_bytes() + bytes);
    return;
  }
  if (reply.next_lease_ms() == 0) reply.set_next_lease_ms(until_ms - now_ms);
  reply.set_last_lease_ms(until_ms - now_ms);
}

// At most limits::kSessionsMax rows.
Result<uint64_t> count_due_sessions(const RowView& view, uint64_t floor_ms, uint64_t now_ms) {
  const auto idle_ms = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(limits::kSessionLease).count());
  uint64_t sessions = 0;
  if (now_ms < idle_ms || floor_ms > now_ms - idle_ms) return sessions;
  const auto rows = view.scan(time_key(RowKind::kSessionTime, floor_ms),
                              prefix_end(time_key(RowKind::kSessionTime, now_ms - idle_ms)));
  for (; rows->valid(); rows->next()) ++sessions;
  BALLAST_TRY_STATUS(rows->status());
  return sessions;
}

// Where the rows behind `after` begin. Below the floor there are none, but perhaps the tombstones
// of very many.
Result<std::string> lease_rows_behind(std::string_view after, uint64_t floor_ms) {
  const std::string first = time_key(RowKind::kLease, floor_ms);
  if (after.empty()) return first;
  if (after.size() != kLeaseNameBytes)
    return fail(Errc::kInvalidArgument, "garbage behind a name of {} bytes; it has {}",
                after.size(), kLeaseNameBytes);
  return std::max(first, kind_key(RowKind::kLease).append(after) + '\0');
}

}  // namespace

Result<pb::GarbageReply> StateMachine::garbage(std::string_view after, uint64_t now_ms,
                                               std::chrono::milliseconds budget) const {
  const auto deadline = std::chrono::steady_clock::now() + budget;
  const std::unique_ptr<RowView> view = impl_->store->snapshot();
  now_ms = std::max(now_ms, impl_->applied().time_ms);
  BALLAST_TRY(const std::string first, lease_rows_behind(after, impl_->lease_floor_ms.load()));
  pb::GarbageReply reply;
  const auto rows = view->scan(first, prefix_end(kind_key(RowKind::kLease)));
  while (rows->valid()) {
    const std::string name(rows->key().substr(kKindBytes));
    if (name.size() != kLeaseNameBytes)
      return fail(Errc::kCorrupt, "the key of a block's lease has {} bytes", rows->key().size());
    BALLAST_TRY(const Digest digest, Digest::from_raw(name.substr(sizeof(uint64_t))));
    BALLAST_TRY(const auto block, view->row<pb::BlockRow>(block_key(digest)));
    if (!block)
      return fail(Errc::kCorrupt, "rows contradict each other: block {} has a lease, and no row",
                  digest.brief());
    count_block(reply, block->length(), number_behind(name, 0), now_ms);
    rows->next();
    if (rows->valid() && std::chrono::steady_clock::now() >= deadline) {
      reply.set_next(name);
      return reply;
    }
  }
  BALLAST_TRY_STATUS(rows->status());
  BALLAST_TRY(const uint64_t sessions,
              count_due_sessions(*view, impl_->session_floor_ms.load(), now_ms));
  reply.set_due_sessions(sessions);
  return reply;
}

}  // namespace ballast::storage
