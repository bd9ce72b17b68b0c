#include "server/raft/invariants.h"

#include <algorithm>

#include "server/raft/configuration.h"

namespace ballast::raft {
namespace {

template <class... Args>
void expect(Violations& out, bool holds, fmt::format_string<Args...> format, Args&&... args) {
  if (!holds) out.push_back(fmt::format(format, std::forward<Args>(args)...));
}

void check_leader(const Core& core, const View& view, Violations& out) {
  expect(out, view.leader == view.id && view.vote == view.id,
         "leader {} names leader {} and vote {}", view.id, view.leader, view.vote);
  std::map<NodeId, Index> durable{{view.id, view.stable}};
  for (const PeerView& peer : view.peers) {
    durable[peer.id] = peer.match;
    expect(out, view.configuration.contains(peer.id), "leader {}: node {} is no member", view.id,
           peer.id);
    expect(out, peer.match < peer.next && peer.next <= view.last + 1,
           "leader {}: node {} has match {}, next {}, last {}", view.id, peer.id, peer.match,
           peer.next, view.last);
    expect(out, !peer.probing || peer.inflight_entries == 0,
           "leader {}: node {} is probed with {} entries in flight", view.id, peer.id,
           peer.inflight_entries);
    expect(out, peer.inflight_entries != 0 || peer.inflight_bytes == 0,
           "leader {}: node {} has {} bytes of no entries in flight", view.id, peer.id,
           peer.inflight_bytes);
  }
  // A commit of an older term was taken over, perhaps from beyond the known matches.
  const bool of_own_term = core.term_at(view.commit) == view.term;
  // Before the configuration itself is committed, the commit may be one by the voters before it.
  const bool by_these_voters = of_own_term && view.configuration_index <= view.commit;
  const auto holds = [&](NodeId node) { return durable[node] >= view.commit; };
  expect(out, !by_these_voters || has_majority(view.configuration, holds),
         "leader {}: commit {} is not durable on a majority of {}", view.id, view.commit,
         to_string(view.configuration));
  expect(out, core.ready_to_serve() == of_own_term, "leader {}: ready_to_serve is wrong", view.id);
}

}  // namespace

Violations check_core(const Core& core) {
  Violations out;
  const View view = core.view();
  expect(out, view.commit <= view.last, "node {}: commit {} > last {}", view.id, view.commit,
         view.last);
  expect(out, view.stable <= view.last, "node {}: stable {} > last {}", view.id, view.stable,
         view.last);
  expect(out, core.term_at(view.last) <= view.term, "node {}: last entry of term {} in term {}",
         view.id, core.term_at(view.last), view.term);
  switch (view.role) {
    case Role::kFollower:
      expect(out, view.leader != view.id, "follower {} follows itself", view.id);
      break;
    case Role::kCandidate:
      expect(out, view.vote == view.id, "candidate {} votes for {}", view.id, view.vote);
      [[fallthrough]];
    case Role::kPreCandidate:
      expect(out, view.leader == NodeId(), "{} {} has leader {}", role_name(view.role), view.id,
             view.leader);
      break;
    case Role::kLeader: check_leader(core, view, out); break;
  }
  if (view.role != Role::kLeader) {
    expect(out, view.peers.empty() && view.transfer_to == NodeId() && view.uncommitted_bytes == 0,
           "node {} keeps a leader's state as {}", view.id, role_name(view.role));
  }
  return out;
}

Violations check_progress(const View& before, const View& after) {
  Violations out;
  const NodeId id = after.id;
  expect(out, after.term >= before.term, "node {}: term fell from {} to {}", id, before.term,
         after.term);
  expect(out, after.commit >= before.commit, "node {}: commit fell from {} to {}", id,
         before.commit, after.commit);
  if (after.term != before.term) return out;
  expect(out, before.vote == NodeId() || after.vote == before.vote,
         "node {}: vote in term {} changed from {} to {}", id, after.term, before.vote, after.vote);
  expect(out,
         before.leader == NodeId() || after.leader == NodeId() || before.leader == after.leader,
         "node {}: leader of term {} changed from {} to {}", id, after.term, before.leader,
         after.leader);
  expect(out,
         after.role != Role::kLeader || before.role == Role::kLeader ||
             before.role == Role::kCandidate,
         "node {} became leader of term {} as {}", id, after.term, role_name(before.role));
  if (before.role != Role::kLeader || after.role != Role::kLeader) return out;
  expect(out, after.last >= before.last, "leader {} shortened its log from {} to {}", id,
         before.last, after.last);
  expect(out, after.stable >= before.stable, "leader {}: stable fell from {} to {}", id,
         before.stable, after.stable);
  for (const PeerView& peer : after.peers) {
    const auto known = std::ranges::find(before.peers, peer.id, &PeerView::id);
    if (known == before.peers.end()) continue;
    expect(out, peer.match >= known->match, "leader {}: match of node {} fell from {} to {}", id,
           peer.id, known->match, peer.match);
  }
  return out;
}

Violations check_log_order(const Core& core) {
  Violations out;
  Term before;
  for (Index index = core.base().index + 1; index <= core.last(); ++index) {
    const Term term = core.term_at(index);
    expect(out, term >= before && term > Term(), "term {} at index {} behind term {}", term, index,
           before);
    before = term;
  }
  return out;
}

Violations check_log_matching(const Core& a, const Core& b) {
  Violations out;
  Index index = std::min(a.last(), b.last());
  while (index > Index() && a.term_at(index) != b.term_at(index)) index = index - 1;
  const Index begin = std::max(a.base().index, b.base().index);
  if (index >= begin && a.chain_at(index) == b.chain_at(index)) return out;
  for (; index > begin; index = index - 1) {
    if (a.meta_at(index) == b.meta_at(index)) continue;
    out.push_back(fmt::format("nodes {} and {} differ at index {} below an equal entry",
                              a.view().id, b.view().id, index));
  }
  return out;
}

Violations GroupInvariants::observe(const Core& changed, std::span<const Core* const> running) {
  Violations out = check_core(changed);
  const auto add = [&out](Violations more) { out.insert(out.end(), more.begin(), more.end()); };
  const View view = changed.view();
  // Walking the logs is the dear part, and most inputs leave them alone.
  bool log_changed = true;
  if (const auto found = before_.find(view.id); found != before_.end()) {
    const View& before = found->second;
    add(check_progress(before, view));
    const bool led = before.role == Role::kLeader && view.role == Role::kLeader;
    expect(out,
           !led || before.term != view.term || before.commit == view.commit ||
               changed.term_at(view.commit) == view.term,
           "leader {} committed {} of term {} in term {}", view.id, view.commit,
           changed.term_at(view.commit), view.term);
    log_changed = before.last != view.last || before.stable != view.stable ||
                  before.term != view.term || before.commit != view.commit;
  }
  check_one_leader(view, out);
  if (log_changed) {
    add(check_log_order(changed));
    for (const Core* other : running) {
      if (other != &changed) add(check_log_matching(changed, *other));
    }
  }
  check_committed(changed, view, running, out);
  if (view.role == Role::kLeader) check_complete(changed, 0, out);
  before_[view.id] = view;
  return out;
}

void GroupInvariants::forget(NodeId node, const HardState& durable) {
  checked_.erase(node);
  before_.erase(node);
  View disk;
  disk.id = node;
  disk.term = durable.term;
  disk.vote = durable.vote;
  before_[node] = disk;
}

void GroupInvariants::check_one_leader(const View& view, Violations& out) {
  if (view.role != Role::kLeader) return;
  const NodeId known = leaders_.try_emplace(view.term, view.id).first->second;
  expect(out, known == view.id, "term {} has the leaders {} and {}", view.term, known, view.id);
}

void GroupInvariants::check_committed(const Core& core, const View& view,
                                      std::span<const Core* const> running, Violations& out) {
  Index& checked = checked_[view.id];
  const size_t known_before = committed_.size();
  for (Index index = checked + 1; index <= view.commit; ++index) {
    if (index <= core.base().index) continue;  // it came with a snapshot
    if (index > committed()) committed_.push_back({core.meta_at(index), view.term});
    expect(out, core.meta_at(index) == committed_at(index),
           "node {}: committed entry {} is of term {}, elsewhere of term {}", view.id, index,
           core.term_at(index), committed_at(index).term);
  }
  checked = std::max(checked, view.commit);
  if (committed_.size() == known_before) return;
  for (const Core* other : running) {
    if (other->role() == Role::kLeader) check_complete(*other, known_before, out);
  }
}

void GroupInvariants::check_complete(const Core& leader, size_t from, Violations& out) const {
  for (size_t i = from; i < committed_.size(); ++i) {
    if (committed_[i].in >= leader.term()) continue;
    const EntryMeta& entry = committed_[i].entry;
    expect(out, entry.index < leader.base().index || leader.term_at(entry.index) == entry.term,
           "leader {} of term {} lacks entry {} of term {}, committed in term {}", leader.view().id,
           leader.term(), entry.index, entry.term, committed_[i].in);
  }
}

}  // namespace ballast::raft
