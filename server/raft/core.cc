#include "server/raft/core.h"

#include <algorithm>

#include "proto/base/check.h"
#include "proto/base/planted.h"
#include "server/raft/impl.h"

namespace ballast::raft {

std::string_view role_name(Role role) {
  switch (role) {
    case Role::kFollower: return "follower";
    case Role::kPreCandidate: return "pre_candidate";
    case Role::kCandidate: return "candidate";
    case Role::kLeader: return "leader";
  }
  return "?";
}

Core::Impl::Impl(Options given, InitialState initial)
    : options(given),
      prng(options.seed),
      log(initial.log, initial.base, initial.base_chain),
      configurations({initial.configuration_index, std::move(initial.configuration)},
                     std::move(initial.configurations)),
      hard(initial.hard_state),
      commit(initial.applied),
      // A node that restarts within a term could take the answer to a question of its former life
      // for one of its own, if the numbers began at 1 again: another seed, other numbers.
      next_read_id((prng.next() << 32) + 1) {
  BALLAST_CHECK(options.id != NodeId());
  BALLAST_CHECK(0 < options.heartbeat_ticks &&
                options.heartbeat_ticks < options.election_ticks_min &&
                options.election_ticks_min < options.election_ticks_max);
  BALLAST_CHECK(log.last_term() <= hard.term, "log of term {}, hard state of term {}",
                log.last_term(), hard.term);
  BALLAST_CHECK(log.base().index <= initial.applied && initial.applied <= log.last(),
                "applied {} is not in the log ({}, {}]", initial.applied, log.base().index,
                log.last());
  reset_election_timer();
  // Nobody else could be the leader of a group of one.
  if (configuration().all_voters() == std::vector{options.id}) election_timeout = 1;
}

void Core::Impl::step(const Message& message) {
  // Who may speak to whom is the transport's to decide: a sender that is no member here may be one
  // in a configuration that this node does not have yet.
  if (message.to != options.id || message.from == options.id) return;
  if (message.term > hard.term) {
    if (!enter_newer_term(message)) return;
  } else if (message.term < hard.term) {
    answer_older_term(message);
    return;
  }
  if (Progress* peer = find_peer(message.from); peer != nullptr) peer->heard();
  std::visit([&](const auto& body) { handle(message, body); }, message.body);
}

void Core::Impl::send(NodeId to, decltype(Message::body) body, uint64_t also) {
  send_with_term(to, hard.term, std::move(body), also);
}

void Core::Impl::send_with_term(NodeId to, Term with, decltype(Message::body) body, uint64_t also) {
  uint64_t ticket = std::max(also, hard_dirty ? next_ticket : hard_ticket);
  if (BALLAST_PLANTED(kVoteNotDurable) && std::holds_alternative<VoteReply>(body)) ticket = 0;
  Message message{options.id, to, with, std::move(body)};
  if (ticket <= completed) {
    outgoing.push_back(std::move(message));
  } else {
    held.push_back({ticket, hard.term, std::move(message)});
  }
}

void Core::Impl::release_held() {
  std::vector<HeldMessage> still_held;
  for (HeldMessage& one : held) {
    // What was promised in an older term concerns a log that may have been overwritten since.
    if (one.term != hard.term) continue;
    if (one.ticket <= completed) {
      outgoing.push_back(std::move(one.message));
    } else {
      still_held.push_back(std::move(one));
    }
  }
  held = std::move(still_held);
}

Ready Core::Impl::ready() {
  if (role == Role::kLeader) {
    start_read_round();
    replicate();
  }
  Ready ready;
  if (hard_dirty || log.has_unsubmitted()) {
    ready.ticket = next_ticket;
    ready.entries = log.submit(next_ticket);
    if (hard_dirty) {
      ready.hard_state = hard;
      hard_dirty = false;
      hard_ticket = next_ticket;
    }
    ++next_ticket;
  }
  ready.messages = std::exchange(outgoing, {});
  ready.reads = std::exchange(read_states, {});
  // An entry may be committed by the others before it is durable here. It is not applied before:
  // the state machine must never be ahead of the log that it refers to.
  ready.commit = std::min(commit, log.stable());
  ready.snapshot_needed = std::exchange(snapshot_needed, Index());
  return ready;
}

void Core::Impl::storage_done(uint64_t ticket) {
  BALLAST_CHECK(ticket < next_ticket, "ticket {} was never given", ticket);
  if (ticket <= completed) return;
  completed = ticket;
  log.stored(ticket);
  release_held();
  // The own vote and the own match count like the others': when they are durable.
  if (role == Role::kCandidate && !votes.contains(options.id) && hard_state_durable()) {
    record_vote(options.id, true);
  }
  if (role == Role::kLeader) advance_commit();
}

View Core::Impl::view() const {
  View view;
  view.id = options.id;
  view.role = role;
  view.term = hard.term;
  view.vote = hard.vote;
  view.leader = leader;
  view.commit = commit;
  view.last = log.last();
  view.stable = log.stable();
  view.transfer_to = transfer_to;
  view.uncommitted_bytes = uncommitted_bytes;
  view.resigned = resigned;
  view.configuration = configuration();
  view.configuration_index = configurations.newest_index();
  for (const Progress& peer : peers) {
    view.peers.push_back({peer.id(), peer.match(), peer.next(), peer.probing(), peer.snapshot(),
                          peer.heard_within(options.election_ticks_min),
                          configuration().is_learner(peer.id()), peer.resigned, peer.full,
                          peer.inflight().entries(), peer.inflight().bytes()});
  }
  return view;
}

Core::Core(Options options, InitialState initial)
    : impl_(std::make_unique<Impl>(options, std::move(initial))) {}
Core::~Core() = default;
Core::Core(Core&&) noexcept = default;
Core& Core::operator=(Core&&) noexcept = default;

void Core::tick() { impl_->tick(); }
void Core::step(const Message& message) { impl_->step(message); }
Result<Index> Core::propose(std::span<const Proposal> proposals) {
  return impl_->propose(proposals);
}
Result<uint64_t> Core::read_index() { return impl_->read_index(); }
Status Core::transfer_leadership(NodeId to) { return impl_->transfer_leadership(to); }
void Core::campaign() { impl_->campaign_pre_vote(); }
void Core::peer_lost(NodeId peer) { impl_->peer_lost(peer); }
void Core::compact(Index upto) { impl_->compact(upto); }
void Core::snapshot_installed(const Snapshot& snapshot) { impl_->snapshot_installed(snapshot); }
void Core::set_resigned(bool resigned) { impl_->set_resigned(resigned); }
void Core::set_full(bool full) { impl_->full = full; }
bool Core::majority_has_space() const { return impl_->majority_has_space(); }
NodeId Core::successor_with_space() const {
  const Progress* target = impl_->transfer_target(NodeId());
  return target == nullptr || target->full ? NodeId() : target->id();
}

Status Core::may_configure(const Configuration& next) const {
  if (impl_->role != Role::kLeader) return impl_->not_leader();
  return impl_->check_configuration(next);
}
Ready Core::ready() { return impl_->ready(); }
void Core::storage_done(uint64_t ticket) { impl_->storage_done(ticket); }
Term Core::term_at(Index index) const { return impl_->log.term_at(index); }
EntryMeta Core::meta_at(Index index) const { return impl_->log.meta_at(index); }
uint32_t Core::chain_at(Index index) const { return impl_->log.chain_at(index); }
Term Core::term() const { return impl_->hard.term; }
Role Core::role() const { return impl_->role; }
NodeId Core::leader() const { return impl_->leader; }
Index Core::commit() const { return impl_->commit; }
Index Core::last() const { return impl_->log.last(); }
Position Core::base() const { return impl_->log.base(); }
bool Core::ready_to_serve() const { return impl_->ready_to_serve(); }
const Configuration& Core::configuration() const { return impl_->configuration(); }
Index Core::configuration_index() const { return impl_->configurations.newest_index(); }
View Core::view() const { return impl_->view(); }

}  // namespace ballast::raft
