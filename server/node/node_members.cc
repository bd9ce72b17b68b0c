// The node's part in changes of the members, and in who leads.

#include <spdlog/spdlog.h>

#include "proto/base/check.h"
#include "server/node/node.h"

namespace ballast::server {
namespace {

std::vector<Node::Draft> drafts_of(const pb::ConfigurationEntry& entry) {
  std::vector<Node::Draft> drafts(1);
  drafts[0] = {.kind = EntryKind::kConfiguration,
               .header = Bytes::copy_of(entry.SerializeAsString())};
  return drafts;
}

}  // namespace

void Node::note_membership(std::span<const Entry> stored) {
  if (stored.empty()) return;
  bool changed = membership_.replace_from(stored.front().index);
  for (const Entry& entry : stored) {
    if (entry.kind != EntryKind::kConfiguration) continue;
    auto members = parse_configuration(entry.header);
    BALLAST_CHECK(members.has_value(), "entry {}: {}", entry.index, members.error().message);
    membership_.append(entry.index, *std::move(members));
    changed = true;
  }
  if (!changed) return;
  spdlog::info("members: {}", raft::to_string(core_.configuration()));
  pin_due_ = true;
  sender_->members_changed();
}

// The second half of a change of voters (thesis section 4.3), by whoever leads when the first one
// is committed.
void Node::leave_joint() {
  if (core_.role() != raft::Role::kLeader || !core_.configuration().joint() ||
      core_.configuration_index() > core_.commit())
    return;
  // Refused during a transfer: the next turn tries.
  static_cast<void>(propose_members(leave(membership_.newest())));
}

Status Node::propose_members(const pb::ConfigurationEntry& next) {
  const Result<Index> proposed = propose(drafts_of(next));
  return proposed ? Status{} : std::unexpected(proposed.error());
}

void Node::pin_members() {
  if (!pin_due_ || !core_.ready_to_serve() || !members_settled()) return;
  const auto next = pinned(membership_.newest(), shown_);
  if (!next || propose_members(*next)) pin_due_ = false;
}

bool Node::members_settled() const {
  return !core_.configuration().joint() && core_.configuration_index() <= core_.commit();
}

void Node::learn(NodeId member, ShownMember shown) {
  ShownMember& known = shown_[member];
  // An answer to our greeting does not say the address.
  if (shown.address.empty() && known.disk == shown.disk) shown.address = known.address;
  known = std::move(shown);
  pin_due_ = true;
  wake();
}

Result<Trust> Node::trust(const Greeting& greeting) const {
  return check_greeting(greeting, membership_.newest(), membership_.newest_index(), own_disk());
}

Status Node::may_change_members(const pb::ConfigurationEntry& target) const {
  if (!members_settled())
    return fail(Errc::kConflict, "another change of the members is under way");
  return core_.may_configure(configuration_of(enter(membership_.newest(), target)));
}

asio::awaitable<Status> Node::change_members(pb::ConfigurationEntry target,
                                             Clock::time_point deadline) {
  BALLAST_CO_TRY_STATUS(may_change_members(target));
  const pb::ConfigurationEntry next = enter(membership_.newest(), target);
  BALLAST_CO_TRY(const Written written, co_await write(drafts_of(next), pb::ACK_SYNC, deadline));
  while (!members_settled()) {
    if (stopping_ || !co_await progress_signal_.wait_until(deadline))
      co_return fail(Errc::kUnknownOutcome,
                     "the members of entry {} were entered, but not yet those after it",
                     written.token.index());
  }
  co_return Status{};
}

asio::awaitable<Status> Node::drain(Clock::time_point deadline) {
  if (core_.role() == raft::Role::kLeader) {
    const auto leader = co_await transfer_leadership(NodeId(), deadline);
    if (!leader) co_return std::unexpected(leader.error());
  }
  drained_ = true;
  core_.set_resigned(true);
  wake();
  co_return Status{};
}

void Node::undrain() { drained_ = false; }  // the next tick tells the core

}  // namespace ballast::server
