// Changes of the configuration, by joint consensus (thesis section 4.3).

#include <algorithm>

#include "proto/base/check.h"
#include "server/raft/impl.h"

namespace ballast::raft {

Status Core::Impl::check_configuration(const Configuration& next) const {
  // Until an entry of this term is committed, the present configuration may be one that another
  // leader has replaced without our knowledge; two changes would then share no majority (the bug of
  // single-server changes, raft-dev 2015).
  if (!ready_to_serve()) {
    return fail(Errc::kUnavailable, "the leader has not committed an entry of its term yet");
  }
  if (configurations.newest_index() > commit) {
    return fail(Errc::kConflict, "the configuration of entry {} is not committed yet",
                configurations.newest_index());
  }
  const auto checked = normalized(next);
  if (!checked) return std::unexpected(checked.error());
  if (*checked != next || !may_follow(configuration(), next)) {
    return fail(Errc::kInvalidArgument, "from {} the configuration can't become {}",
                to_string(configuration()), to_string(next));
  }
  if (!next.joint()) return {};
  for (NodeId node : next.voters) {
    if (!configuration().is_voter(node)) BALLAST_TRY_STATUS(check_new_voter(node));
  }
  const Configuration after{next.voters, {}, {}};
  const bool alive = has_majority(after, [this](NodeId node) {
    const Progress* peer = find_peer(node);
    return node == options.id ||
           (peer != nullptr && peer->connected() && peer->heard_within(options.election_ticks_min));
  });
  if (!alive) {
    return fail(Errc::kRefused, "no majority of the new voters ({}) has been heard from lately",
                fmt::join(next.voters, " "));
  }
  return {};
}

// A voter that lacks much of the log would hold up every commit that needs it (thesis 4.2.1).
Status Core::Impl::check_new_voter(NodeId node) const {
  const Progress* peer = find_peer(node);
  if (peer == nullptr || !configuration().is_learner(node)) {
    return fail(Errc::kRefused, "node {} must be a learner before it can vote", node);
  }
  if (!peer->connected() || !peer->heard_within(options.election_ticks_min)) {
    return fail(Errc::kRefused, "node {} has not been heard from lately", node);
  }
  const uint64_t entries = log.last() - peer->match();
  if (entries > options.inflight_entries_max || peer->match() < log.base().index ||
      log.bytes_between(peer->match(), log.last()) > options.inflight_bytes_max) {
    return fail(Errc::kRefused, "node {} lacks {} entries: it must catch up before it can vote",
                node, entries);
  }
  return {};
}

// The leader has appended a configuration.
void Core::Impl::configure(Index index, Configuration next) {
  configurations.append(index, std::move(next));
  std::erase_if(peers,
                [this](const Progress& peer) { return !configuration().contains(peer.id()); });
  for (NodeId node : configuration().members()) {
    // A new member's log is unknown: probed from the end, its answer says where to begin.
    if (node != options.id && find_peer(node) == nullptr) peers.emplace_back(node, log.last() + 1);
  }
  std::ranges::sort(peers, {}, &Progress::id);
  if (transfer_to != NodeId() && !configuration().is_voter(transfer_to)) transfer_to = NodeId();
  advance_commit();  // a smaller majority may have been reached already
  confirm_reads();
}

// A leader manages its own removal until that is committed (thesis section 4.2.2). Whoever has most
// of the log is told to take over, so that nobody waits for an election timeout.
void Core::Impl::leave_if_removed() {
  if (voter() || configurations.newest_index() > commit) return;
  const Progress* successor = transfer_target(NodeId());
  if (successor != nullptr) send(successor->id(), TimeoutNow{});
  become_follower(hard.term, NodeId());
}

}  // namespace ballast::raft
