// ReadIndex (thesis section 6.4): linearizable reads without a log entry.
//
// The leader notes its commit index, asks a quorum whether it is still the leader, and then knows
// that the index was the newest when it asked. All requests that wait are asked for in one round.
// A round's number is never used again, so that a late answer to an old round can't confirm a
// younger one (etcd issue 20418: reused contexts gave stale reads).
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "proto/base/strong_int.h"

namespace ballast::raft {

class ReadOnly {
 public:
  struct Request {
    NodeId from;  // the node that asked; this one for its own reads
    uint64_t id = 0;
  };
  struct Confirmed {
    Request request;
    Index index;
  };

  // The request waits for the next round.
  void add(Request request) { waiting_.push_back(request); }
  bool waiting() const { return !waiting_.empty(); }

  // Takes all waiting requests into a new round. REQUIRES: the leader has committed an entry of its
  // term (else `commit` may be older than what an earlier leader acknowledged).
  void start_round(Index commit);
  // The newest round; 0 before the first.
  uint64_t round() const { return round_; }

  // A majority has answered `round` or a later one: the requests of all rounds up to it, in order.
  std::vector<Confirmed> confirm(uint64_t round);
  // Everything that is not confirmed, waiting or in a round, in order; nothing remains.
  std::vector<Request> clear();

 private:
  struct Round {
    uint64_t number;
    Index index;
    std::vector<Request> requests;
  };
  uint64_t round_ = 0;
  std::vector<Request> waiting_;
  std::deque<Round> rounds_;
};

}  // namespace ballast::raft
