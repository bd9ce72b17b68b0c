// ReadIndex (thesis section 6.4).

#include <algorithm>

#include "proto/base/planted.h"
#include "server/raft/impl.h"

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
  if (!reads.waiting()) return;
  if (!ready_to_serve() && !BALLAST_PLANTED(kReadBeforeFirstCommit)) return;
  reads.start_round(commit);
  for (Progress& peer : peers) send_heartbeat(peer);
  confirm_reads();
}

void Core::Impl::confirm_reads() {
  const uint64_t answered = majority_reached(configuration(), [this](NodeId node) -> uint64_t {
    if (node == options.id) return reads.round();
    const Progress* peer = find_peer(node);
    return peer == nullptr ? 0 : peer->round_answered;
  });
  const uint64_t confirmed = BALLAST_PLANTED(kReadWithoutQuorum) ? reads.round() : answered;
  for (const auto& [request, index] : reads.confirm(confirmed)) {
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

}  // namespace ballast::raft
