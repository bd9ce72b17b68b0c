// ReadIndex (thesis section 6.4) and leadership transfer (section 3.10).

#include <algorithm>

#include "server/raft/impl.h"
#include "server/raft/quorum.h"

namespace ballast::raft {

Result<uint64_t> Core::Impl::read_index() {
  if (leader == NodeId()) return fail(Errc::kUnavailable, "no leader is known");
  const uint64_t id = next_read_id++;
  if (role == Role::kLeader) {
    reads.add({options.id, id});
  } else {
    forwarded_reads.push_back({id, now});
    send(leader, ReadIndexRequest{id});
  }
  return id;
}

// At ready(), so that all reads that came together share a round.
void Core::Impl::start_read_round() {
  // Before the first commit of the term the commit index may be older than what the leader before
  // has acknowledged (etcd issue 7331): the reads wait.
  if (!reads.waiting() || !ready_to_serve()) return;
  reads.start_round(commit);
  for (Progress& peer : peers) send_heartbeat(peer);
  confirm_reads();
}

void Core::Impl::confirm_reads() {
  std::vector<uint64_t> answered{reads.round()};
  for (const Progress& peer : peers) answered.push_back(peer.round_answered);
  for (const auto& [request, index] : reads.confirm(majority_reached(answered))) {
    if (request.from == options.id) {
      read_states.push_back({request.id, index, false});
    } else {
      send(request.from, ReadIndexReply{request.id, index, false});
    }
  }
}

// The leader is lost, or no longer this node: whoever asked must ask again.
void Core::Impl::refuse_reads() {
  for (const ReadOnly::Request& request : reads.clear()) {
    if (request.from == options.id) {
      read_states.push_back({request.id, Index(), true});
    } else {
      send(request.from, ReadIndexReply{request.id, Index(), true});
    }
  }
  for (const ForwardedRead& read : forwarded_reads) read_states.push_back({read.id, Index(), true});
  forwarded_reads.clear();
}

// A question or its answer may have got lost; without an end, this list would have none either.
void Core::Impl::expire_forwarded_reads() {
  const auto patience = static_cast<uint64_t>(options.election_ticks_max);
  while (!forwarded_reads.empty() && now - forwarded_reads.front().sent_at >= patience) {
    read_states.push_back({forwarded_reads.front().id, Index(), true});
    forwarded_reads.pop_front();
  }
}

void Core::Impl::handle(const Message& message, const ReadIndexRequest& request) {
  if (role == Role::kLeader) {
    reads.add({message.from, request.id});
  } else {
    send(message.from, ReadIndexReply{request.id, Index(), true});
  }
}

void Core::Impl::handle(const Message&, const ReadIndexReply& reply) {
  const auto read = std::ranges::find(forwarded_reads, reply.id, &ForwardedRead::id);
  if (read == forwarded_reads.end()) return;  // refused since, or a duplicate
  forwarded_reads.erase(read);
  read_states.push_back({reply.id, reply.index, reply.refused});
}

Status Core::Impl::transfer_leadership(NodeId to) {
  if (role != Role::kLeader) return not_leader();
  if (to == options.id) return fail(Errc::kInvalidArgument, "node {} is the leader", to);
  if (to != NodeId() && find_peer(to) == nullptr) {
    return fail(Errc::kInvalidArgument, "node {} is not a voter", to);
  }
  if (transfer_to != NodeId()) {
    return fail(Errc::kUnavailable, "leadership is being handed to node {}", transfer_to);
  }
  const Progress* target = nullptr;
  for (const Progress& peer : peers) {
    if (to != NodeId() && peer.id() != to) continue;
    if (!peer.connected() || !peer.heard_within(options.election_ticks_min)) continue;
    if (target == nullptr || peer.match() > target->match()) target = &peer;
  }
  if (target == nullptr) {
    return fail(Errc::kUnavailable, "no node that could take over has been heard from lately");
  }
  transfer_to = target->id();
  transfer_elapsed = 0;
  continue_transfer();
  return {};
}

// The target wins only with all entries, so it gets them first (thesis section 3.10, step 2).
void Core::Impl::continue_transfer() {
  if (transfer_to == NodeId()) return;
  if (find_peer(transfer_to)->match() == log.last()) send(transfer_to, TimeoutNow{});
}

void Core::Impl::handle(const Message&, const TimeoutNow&) {
  if (voter() && (role == Role::kFollower || role == Role::kPreCandidate)) campaign(true);
}

}  // namespace ballast::raft
