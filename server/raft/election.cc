// Time, terms and votes (thesis chapter 3.4, sections 6.2 and 9.6).

#include <algorithm>

#include "proto/base/check.h"
#include "proto/base/planted.h"
#include "server/raft/impl.h"

namespace ballast::raft {
namespace {

constexpr int kQuickRetriesMax = 8;
constexpr int kQuickWaitMin = 2;  // ticks
constexpr uint64_t kQuickWaitSpread = 14;

}  // namespace

void Core::Impl::tick() {
  ++now;
  expire_forwarded_reads();
  if (role == Role::kLeader) {
    tick_leader();
    return;
  }
  ++election_elapsed;
  if (election_elapsed >= election_timeout) campaign_pre_vote();
}

void Core::Impl::tick_leader() {
  for (Progress& peer : peers) peer.tick();
  bool in_office = true;
  if (transfer_to != NodeId() && ++transfer_elapsed >= options.election_ticks_max) {
    transfer_to = NodeId();
    in_office = !resigned;  // nobody took over, and this node must not go on
  }
  // CheckQuorum (thesis section 6.2): a leader that the others can't answer must not keep its
  // clients waiting, nor keep its followers from electing another one.
  if (!in_office || !heard_by_majority()) {
    become_follower(hard.term, NodeId());
    return;
  }
  if (++heartbeat_elapsed < options.heartbeat_ticks) return;
  heartbeat_elapsed = 0;
  for (Progress& peer : peers) {
    peer.heartbeat_sent();
    send_heartbeat(peer);
  }
  continue_transfer();  // the word to take over may have got lost
}

bool Core::Impl::heard_by_majority() const {
  return has_majority(configuration(), [this](NodeId node) {
    const Progress* peer = find_peer(node);
    return node == options.id ||
           (peer != nullptr && peer->silence_ticks() < options.election_ticks_min);
  });
}

void Core::Impl::reset_election_timer() {
  election_elapsed = 0;
  const auto spread =
      static_cast<uint64_t>(options.election_ticks_max - options.election_ticks_min);
  election_timeout = options.election_ticks_min + static_cast<int>(prng.below(spread));
}

// Whoever hears from a leader has no reason to elect another one, whatever a node says that was
// cut off (thesis section 6.2, end). A leader hears itself; CheckQuorum ends that when it must.
bool Core::Impl::hears_from_leader() const {
  if (role == Role::kLeader) return true;
  return leader != NodeId() && election_elapsed < options.election_ticks_min;
}

void Core::Impl::set_term_and_vote(Term new_term, NodeId new_vote) {
  BALLAST_CHECK(new_term >= hard.term);
  // A vote is given once in a term; taking it back in the same term elects two leaders (CCF 8091).
  BALLAST_CHECK(new_term > hard.term || hard.vote == NodeId() || hard.vote == new_vote);
  if (HardState{new_term, new_vote} == hard) return;
  if (new_term > hard.term) leader_of_term = NodeId();
  hard = {new_term, new_vote};
  hard_dirty = true;
}

// Takes over the term of a message from the future. Returns false if the message is dealt with.
bool Core::Impl::enter_newer_term(const Message& message) {
  if (const auto* request = std::get_if<VoteRequest>(&message.body)) {
    if (hears_from_leader() && !request->transfer) {
      // A candidate that is refused here is not answered: our older term would mean nothing to it.
      if (request->pre_vote) send(message.from, VoteReply{.pre_vote = true, .granted = false});
      return false;
    }
    if (!request->pre_vote) become_follower(message.term, NodeId());
    return true;
  }
  // A granted pre-vote speaks of the term that we would campaign in, not of one that exists.
  const auto* reply = std::get_if<VoteReply>(&message.body);
  if (reply != nullptr && reply->pre_vote && reply->granted) return true;
  become_follower(message.term, NodeId());
  return true;
}

void Core::Impl::answer_older_term(const Message& message) {
  // A leader of an older term, and a pre-candidate of one, must hear of the newer term, or:
  // 1. this node was cut off, and its term rose when it was a candidate;
  // 2. it comes back; the leader's messages are of an older term, so it doesn't follow;
  // 3. its own vote requests are refused, since the others hear from the leader;
  // 4. so it would stay outside for good. The answer makes the leader step down, and the next one
  //    has a newer term than this node.
  if (const auto* append = std::get_if<Append>(&message.body)) {
    send(message.from, AppendReply{.rejected = true, .index = append->previous_index});
  } else if (const auto* heartbeat = std::get_if<Heartbeat>(&message.body)) {
    send(message.from, HeartbeatReply{heartbeat->round, resigned, full});
  } else if (const auto* request = std::get_if<VoteRequest>(&message.body)) {
    if (request->pre_vote) send(message.from, VoteReply{.pre_vote = true, .granted = false});
  }
}

void Core::Impl::become_follower(Term new_term, NodeId new_leader) {
  refuse_reads();
  if (new_term > hard.term) set_term_and_vote(new_term, NodeId());
  if (BALLAST_PLANTED(kVoteClearedInTerm) && role == Role::kCandidate) hard.vote = NodeId();
  role = Role::kFollower;
  leader = new_leader;
  votes.clear();
  peers.clear();
  uncommitted_bytes = 0;
  transfer_to = NodeId();
  if (leader != NodeId()) quick_retries = 0;
  reset_election_timer();
}

// After the leader's connections broke, the followers campaign at nearly the same moment and may
// take each other's votes. Waiting for a whole election timeout then would cost more than the
// leader's death did. With PreVote a hasty retry disturbs nobody; still their number is bounded,
// for a node that is only cut off from the leader would go on asking.
void Core::Impl::retry_soon() {
  if (quick_retries == 0 || leader != NodeId() || role == Role::kLeader) return;
  --quick_retries;
  const int wait = kQuickWaitMin + static_cast<int>(prng.below(kQuickWaitSpread));
  election_timeout = std::min(election_timeout, election_elapsed + wait);
}

void Core::Impl::campaign_pre_vote() {
  if (role == Role::kLeader) return;
  if (!voter() || resigned) {  // could not win, or not lead
    reset_election_timer();
    return;
  }
  if (BALLAST_PLANTED(kNoPreVote)) return campaign(false);
  become_follower(hard.term, NodeId());
  role = Role::kPreCandidate;
  for (NodeId node : configuration().all_voters()) {
    if (node == options.id) continue;
    // Held until the present term is durable, like all messages, but not a promise of any kind.
    send_with_term(node, hard.term + 1,
                   VoteRequest{.pre_vote = true,
                               .transfer = false,
                               .last_index = log.last(),
                               .last_term = log.last_term()},
                   0);
  }
  record_vote(options.id, true);
}

void Core::Impl::campaign(bool transfer) {
  BALLAST_CHECK(voter() && role != Role::kLeader);
  become_follower(hard.term, NodeId());
  role = Role::kCandidate;
  set_term_and_vote(hard.term + 1, options.id);
  // The requests wait until the new term, and thereby every entry before it, is durable:
  // 1. a candidate with entries up to 10, of which 9 and 10 are not durable yet, asks for votes;
  // 2. it is granted one, and the answer is late; it crashes and comes back with entries up to 8,
  //    in the term before;
  // 3. it campaigns again, in the same term, and the late answer elects it without entry 9, which
  //    may be committed.
  for (NodeId node : configuration().all_voters()) {
    if (node == options.id) continue;
    send(node, VoteRequest{.pre_vote = false,
                           .transfer = transfer,
                           .last_index = log.last(),
                           .last_term = log.last_term()});
  }
}

void Core::Impl::handle(const Message& message, const VoteRequest& request) {
  const bool up_to_date =  // thesis section 3.6.1
      BALLAST_PLANTED(kNoUpToDateCheck) || request.last_term > log.last_term() ||
      (request.last_term == log.last_term() && request.last_index >= log.last());
  const bool free = hard.vote == message.from || (hard.vote == NodeId() && leader == NodeId()) ||
                    (request.pre_vote && message.term > hard.term);
  // Also one that has not learned of its membership yet: it may be the voter that is missing.
  const bool granted = free && up_to_date && (request.transfer || !hears_from_leader());
  if (!granted) {
    send(message.from, VoteReply{.pre_vote = request.pre_vote, .granted = false});
    if (!request.pre_vote) retry_soon();  // that candidate may not win, and somebody must
    return;
  }
  if (request.pre_vote) {
    // Nothing is promised and no timer restarts: a candidate that can't win must not keep the one
    // that can from trying.
    send_with_term(message.from, message.term, VoteReply{.pre_vote = true, .granted = true}, 0);
    return;
  }
  set_term_and_vote(hard.term, message.from);
  reset_election_timer();
  send(message.from, VoteReply{.pre_vote = false, .granted = true});
}

void Core::Impl::handle(const Message& message, const VoteReply& reply) {
  if (reply.pre_vote) {
    if (role != Role::kPreCandidate) return;
    if (reply.granted && message.term != hard.term + 1) return;  // for an election long past
  } else if (role != Role::kCandidate) {
    return;
  }
  record_vote(message.from, reply.granted);
  if (!reply.granted) retry_soon();
}

void Core::Impl::record_vote(NodeId from, bool granted) {
  votes.emplace(from, granted);  // the first answer counts, a duplicate doesn't
  switch (vote_result(configuration(), votes)) {
    case VoteResult::kPending: return;
    case VoteResult::kLost: become_follower(hard.term, NodeId()); return;
    case VoteResult::kWon:
      if (role == Role::kPreCandidate) {
        campaign(false);
      } else {
        become_leader();
      }
  }
}

void Core::Impl::become_leader() {
  BALLAST_CHECK(role == Role::kCandidate && hard.vote == options.id);
  BALLAST_CHECK(leader_of_term == NodeId(), "term {} has the leaders {} and {}", hard.term,
                leader_of_term, options.id);
  role = Role::kLeader;
  leader = options.id;
  leader_of_term = options.id;
  votes.clear();
  heartbeat_elapsed = 0;
  for (NodeId node : configuration().members()) {
    if (node != options.id) peers.emplace_back(node, log.last() + 1);
  }
  uncommitted_bytes = log.bytes_between(commit, log.last());
  // Entries of older terms are committed by an entry of this one only (thesis section 3.6.2), and
  // reads wait for it (section 6.4).
  append_own({.kind = EntryKind::kNoop});
}

void Core::Impl::peer_lost(NodeId peer) {
  if (Progress* progress = find_peer(peer); progress != nullptr) {
    progress->lost();
    if (transfer_to == peer) transfer_to = NodeId();
    return;
  }
  if (role != Role::kFollower || leader != peer) return;
  // As good as an election timeout, since a pre-vote asks the others whether they have lost the
  // leader as well; the random wait keeps the followers from splitting the vote.
  become_follower(hard.term, NodeId());
  election_timeout = 1 + static_cast<int>(prng.below(5));
  quick_retries = kQuickRetriesMax;
}

}  // namespace ballast::raft
