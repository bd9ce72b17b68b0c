#include "server/snapshot/open_snapshots.h"

#include "proto/storage.pb.h"
#include "storage/kv/row_keys.h"

namespace ballast::server {
namespace {

constexpr size_t kOpenMax = 8;  // RocksDB keeps old rows for each
constexpr auto kIdleMax = std::chrono::minutes(1);

}  // namespace

Result<pb::OpenSnapshotReply> OpenSnapshots::open(const storage::StateMachine& state, Index index) {
  close_idle();
  if (open_.size() >= kOpenMax)
    return fail(Errc::kUnavailable, "{} snapshots are being read from this node already",
                open_.size());
  std::shared_ptr<const storage::RowView> rows = state.rows();
  BALLAST_TRY(const auto applied,
              rows->row<pb::AppliedRow>(storage::kind_key(storage::RowKind::kApplied)));
  if (!applied || applied->index() < index.value())
    return fail(Errc::kUnavailable, "this node has applied {} entries, the snapshot must show {}",
                applied ? applied->index() : 0, index);
  open_[++last_id_] = {std::move(rows), Clock::now()};
  pb::OpenSnapshotReply reply;
  reply.set_id(last_id_);
  reply.set_index(applied->index());
  reply.set_term(applied->term());
  reply.set_blocks(applied->blocks());
  reply.set_block_bytes(applied->block_bytes());
  return reply;
}

Result<std::shared_ptr<const storage::RowView>> OpenSnapshots::find(uint64_t id) {
  close_idle();
  const auto found = open_.find(id);
  if (found == open_.end())
    return fail(Errc::kNotFound, "snapshot {} is not open: begin anew with another one", id);
  found->second.used = Clock::now();
  return found->second.rows;
}

void OpenSnapshots::close_idle() {
  const auto now = Clock::now();
  std::erase_if(open_, [&](const auto& each) { return now - each.second.used > kIdleMax; });
}

}  // namespace ballast::server
