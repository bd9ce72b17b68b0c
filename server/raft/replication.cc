// The leader's side of the log (thesis section 3.5, chapter 10.2 on pipelining).

#include <algorithm>
#include <utility>

#include "proto/base/check.h"
#include "proto/base/planted.h"
#include "server/raft/impl.h"

namespace ballast::raft {

std::unexpected<Error> Core::Impl::not_leader() const {
  if (leader == NodeId()) {
    return fail(Errc::kNotLeader, "node {} is not the leader, and knows of none", options.id);
  }
  return fail(Errc::kNotLeader, "node {} is not the leader, node {} is", options.id, leader);
}

Result<Index> Core::Impl::propose(std::span<const Proposal> proposals) {
  if (role != Role::kLeader) return not_leader();
  if (transfer_to != NodeId()) {
    return fail(Errc::kUnavailable, "leadership is being handed to node {}", transfer_to);
  }
  if (proposals.empty()) return fail(Errc::kInvalidArgument, "nothing is proposed");
  uint64_t bytes = 0;
  for (const Proposal& proposal : proposals) {
    bytes += uint64_t{proposal.header_bytes} + proposal.payload_bytes;
  }
  // A batch above the bound passes alone, else it could never pass.
  if (uncommitted_bytes > 0 && uncommitted_bytes + bytes > options.uncommitted_bytes_max) {
    return fail(Errc::kOverloaded, "{} bytes wait for a quorum, {} more are too many",
                uncommitted_bytes, bytes);
  }
  for (const Proposal& proposal : proposals) {
    BALLAST_CHECK((proposal.kind == EntryKind::kConfiguration) ==
                  proposal.configuration.has_value());
    if (!proposal.configuration) continue;
    if (proposals.size() > 1) {
      return fail(Errc::kInvalidArgument, "a configuration is proposed with other entries");
    }
    BALLAST_TRY_STATUS(check_configuration(*proposal.configuration));
  }
  const Index first = log.last() + 1;
  for (const Proposal& proposal : proposals) append_own(proposal);
  return first;
}

void Core::Impl::append_own(const Proposal& proposal) {
  const EntryMeta entry{hard.term,
                        log.last() + 1,
                        proposal.kind,
                        proposal.header_bytes,
                        proposal.payload_bytes,
                        proposal.checksum};
  log.append(entry);
  uncommitted_bytes += entry.bytes();
  if (proposal.configuration) configure(entry.index, *proposal.configuration);
}

const Progress* Core::Impl::find_peer(NodeId node) const {
  const auto found = std::ranges::find(peers, node, &Progress::id);
  return found == peers.end() ? nullptr : &*found;
}
Progress* Core::Impl::find_peer(NodeId node) {
  return const_cast<Progress*>(std::as_const(*this).find_peer(node));
}

void Core::Impl::replicate() {
  for (Progress& peer : peers) replicate_to(peer);
}

void Core::Impl::replicate_to(Progress& peer) {
  while (peer.may_send()) {
    if (!send_append(peer, peer.send_empty())) break;
  }
  // The follower may not wait a heartbeat long for the commit that its readers wait for. It goes
  // in a heartbeat, which can't be refused, unlike an empty Append that overtakes payloads.
  if (std::min(peer.match(), commit) > peer.commit_sent) send_heartbeat(peer);
}

// Returns false if there was nothing to send or no room for it.
bool Core::Impl::send_append(Progress& peer, bool empty) {
  if (peer.next() <= log.base().index) {
    peer.needs_snapshot(log.base().index);
    send(peer.id(), InstallSnapshot{log.base()});
    return true;
  }
  Append append;
  append.previous_index = peer.next() - 1;
  append.previous_term = log.term_at(append.previous_index);
  append.previous_chain = log.chain_at(append.previous_index);
  append.commit = commit;
  if (!empty) append.entries = entries_for(peer);
  if (append.entries.empty() && !empty && !peer.probing()) return false;
  uint64_t bytes = 0;
  for (const EntryMeta& entry : append.entries) {
    bytes += entry.bytes();
    if (entry.kind == EntryKind::kConfiguration) {
      append.configurations.push_back({entry.index, configurations.at(entry.index)});
    }
  }
  const Index covered = append.previous_index + append.entries.size();
  peer.commit_sent = std::max(peer.commit_sent, std::min(commit, covered));
  peer.sent(append.entries.size(), bytes);
  send(peer.id(), std::move(append));
  return true;
}

// What fits one Append and the follower's window. The first entry fits an empty window always.
std::vector<EntryMeta> Core::Impl::entries_for(const Progress& peer) const {
  std::vector<EntryMeta> entries;
  const Inflight& inflight = peer.inflight();
  if (inflight.entries() >= options.inflight_entries_max) return entries;
  const size_t count_max =
      std::min(options.append_entries_max, options.inflight_entries_max - inflight.entries());
  uint64_t payload = 0;
  uint64_t header = 0;
  for (Index index = peer.next(); index <= log.last() && entries.size() < count_max; ++index) {
    const EntryMeta entry = log.meta_at(index);
    payload += entry.payload_bytes;
    header += entry.header_bytes;
    const bool fits_append =
        payload <= options.append_bytes_max && header <= options.append_header_bytes_max;
    const bool fits_window = inflight.bytes() + payload + header <= options.inflight_bytes_max;
    if (!entries.empty() && !fits_append) break;
    if (!fits_window && !(entries.empty() && inflight.empty())) break;
    entries.push_back(entry);
  }
  return entries;
}

void Core::Impl::send_heartbeat(Progress& peer) {
  // Not beyond match: what lies behind it may differ at the follower (thesis figure 3.1, commit =
  // min(leaderCommit, last new entry), and a heartbeat has no new entry).
  const Index known = BALLAST_PLANTED(kCommitBeyondMatch) ? commit : std::min(peer.match(), commit);
  peer.commit_sent = std::max(peer.commit_sent, known);
  send(peer.id(), Heartbeat{known, reads.round()});
}

void Core::Impl::handle(const Message& message, const AppendReply& reply) {
  Progress* peer = find_peer(message.from);
  if (peer == nullptr) return;
  if (reply.rejected) {
    // The follower's guess is of its log; where it has an older term there, ours may agree further
    // down only (thesis section 3.5: one step per term instead of one per entry).
    Index guess = reply.hint_index;
    if (reply.hint_term != Term()) guess = log.last_not_above(guess, reply.hint_term);
    peer->rejected(reply.index, guess);
    return;
  }
  BALLAST_CHECK(reply.index <= log.last(), "node {} acknowledged {}, the log ends at {}",
                message.from, reply.index, log.last());
  if (peer->acknowledged(reply.index)) advance_commit();
  if (message.from == transfer_to) continue_transfer();
}

void Core::Impl::handle(const Message& message, const HeartbeatReply& reply) {
  Progress* peer = find_peer(message.from);
  if (peer == nullptr) return;
  if (peer->snapshot() != Index()) send(peer->id(), InstallSnapshot{log.base()});
  // If the last Append got lost and nothing follows it, nobody would notice: an empty one behind
  // the end of what was sent is refused by a follower that lacks something.
  if (peer->heartbeat_answered(log.last())) send_append(*peer, true);
  peer->round_answered = std::max(peer->round_answered, reply.round);
  peer->resigned = reply.resigned;
  peer->full = reply.full;
  confirm_reads();
}

void Core::Impl::advance_commit() {
  const Index reached(majority_reached(configuration(), [this](NodeId node) -> uint64_t {
    if (node == options.id) {
      return (BALLAST_PLANTED(kOwnMatchBeforeDurable) ? log.last() : log.stable()).value();
    }
    const Progress* peer = find_peer(node);
    return peer == nullptr ? 0 : peer->match().value();
  }));
  // Thesis figure 3.7 (figure 8 of the paper): an entry of an older term may be on a majority and
  // still be overwritten, so it is committed with the first entry of this term, never by count.
  const bool of_own_term =
      log.term_at(reached) == hard.term || BALLAST_PLANTED(kCommitOfOlderTermByCount);
  if (reached <= commit || !of_own_term) return;
  commit_to(reached);
  leave_if_removed();
}

void Core::Impl::commit_to(Index index) {
  if (index <= commit) return;
  BALLAST_CHECK(
      index <= log.last(),
      "entry {} is committed and acknowledged, but the log ends at {}: was the disk wiped?", index,
      log.last());
  if (role == Role::kLeader) uncommitted_bytes -= log.bytes_between(commit, index);
  commit = index;
}

}  // namespace ballast::raft
