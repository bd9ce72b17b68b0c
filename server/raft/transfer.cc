// Handing leadership over (thesis section 3.10), on request or because this node must not lead.

#include <utility>

#include "server/raft/impl.h"

namespace ballast::raft {

Status Core::Impl::transfer_leadership(NodeId to) {
  if (role != Role::kLeader) return not_leader();
  if (to == options.id) return fail(Errc::kInvalidArgument, "node {} is the leader", to);
  if (to != NodeId() && !configuration().is_voter(to)) {
    return fail(Errc::kInvalidArgument, "node {} is not a voter", to);
  }
  if (transfer_to != NodeId()) {
    return fail(Errc::kUnavailable, "leadership is being handed to node {}", transfer_to);
  }
  const Progress* target = transfer_target(to);
  if (target == nullptr) {
    if (to != NodeId() && find_peer(to)->resigned) {
      return fail(Errc::kRefused, "node {} is drained, or its disk is slow", to);
    }
    return fail(Errc::kUnavailable, "no node that could take over has been heard from lately");
  }
  transfer_to = target->id();
  transfer_elapsed = 0;
  continue_transfer();
  return {};
}

// `to`, or with 0 the voter that has most of the log, of those with space on their disks if there
// are any; null if nobody can.
const Progress* Core::Impl::transfer_target(NodeId to) const {
  const Progress* target = nullptr;
  for (const Progress& peer : peers) {
    if (to != NodeId() && peer.id() != to) continue;
    if (!configuration().is_voter(peer.id()) || !peer.connected() || peer.resigned ||
        !peer.heard_within(options.election_ticks_min)) {
      continue;
    }
    const auto rank = [](const Progress& one) { return std::pair(!one.full, one.match()); };
    if (target == nullptr || rank(peer) > rank(*target)) target = &peer;
  }
  return target;
}

bool Core::Impl::majority_has_space() const {
  if (role != Role::kLeader) return true;
  return has_majority(configuration(), [this](NodeId node) {
    if (node == options.id) return !full;
    const Progress* peer = find_peer(node);
    return peer != nullptr && !peer->full;
  });
}

// The target wins only with all entries, so it gets them first (thesis section 3.10, step 2).
void Core::Impl::continue_transfer() {
  if (transfer_to == NodeId()) return;
  if (find_peer(transfer_to)->match() == log.last()) send(transfer_to, TimeoutNow{});
}

void Core::Impl::handle(const Message&, const TimeoutNow&) {
  const bool may = voter() && !resigned;
  if (may && (role == Role::kFollower || role == Role::kPreCandidate)) campaign(true);
}

void Core::Impl::set_resigned(bool value) {
  if (resigned == value) return;
  resigned = value;
  if (!resigned || role != Role::kLeader || transfer_to != NodeId()) return;
  if (!transfer_leadership(NodeId())) become_follower(hard.term, NodeId());
}

}  // namespace ballast::raft
