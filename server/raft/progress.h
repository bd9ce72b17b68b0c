// What a leader knows about one follower, and how much it may send to it.
//
// A follower is probed (the leader doesn't know where the logs agree: one Append at a time, the
// next one after its answer or after a heartbeat's), replicated to (the leader sends ahead of the
// answers, `next` runs in front of `match`, bounded by the inflight window), or waited for, because
// it needs a snapshot: nothing is sent to it but the word that it does.
//
//            acknowledged                      rejected, or connection lost
//   probe ------------------> replicate ------------------------------------> probe
//     |                           ^
//     | next is not in the log    | acknowledged up to the snapshot or further
//     +-------> snapshot ---------+          (connection lost: probe)
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

#include "proto/base/strong_int.h"

namespace ballast::raft {

// Entries that were sent and not yet acknowledged, in the order of their indexes.
class Inflight {
 public:
  void add(Index last, size_t entries, uint64_t bytes);
  // All entries up to `index` were acknowledged. An Append that is covered in part stays.
  void free_up_to(Index index);
  void clear();

  bool empty() const { return appends_.empty(); }
  size_t entries() const { return entries_; }
  uint64_t bytes() const { return bytes_; }

 private:
  struct SentAppend {
    Index last;
    size_t entries;
    uint64_t bytes;
  };
  std::deque<SentAppend> appends_;
  size_t entries_ = 0;
  uint64_t bytes_ = 0;
};

class Progress {
 public:
  Progress(NodeId id, Index next) : id_(id), next_(next) {}

  NodeId id() const { return id_; }
  Index match() const { return match_; }  // durable there, and the same as here
  Index next() const { return next_; }    // the first entry of the next Append
  bool probing() const { return probing_; }
  // What the follower needs a snapshot of, at least; 0 if it needs none.
  Index snapshot() const { return snapshot_; }
  const Inflight& inflight() const { return inflight_; }

  // False while a probe waits for its answer.
  bool may_send() const { return snapshot_ == Index() && (!probing_ || !probe_sent_); }
  // True for a probe that is repeated: it goes without entries, since the first one may merely be
  // slow, and megabytes must not go out again with each heartbeat.
  bool send_empty() const { return probing_ && probe_empty_; }
  // An Append with `entries` entries from next() on was sent.
  void sent(size_t entries, uint64_t bytes);
  // It needs a snapshot at this index or a later one.
  void needs_snapshot(Index at);
  // The follower holds everything up to `index`. Returns whether match() rose.
  bool acknowledged(Index index);
  // The follower refused an Append behind `previous`; `guess` is where the logs may agree.
  // Returns false if the answer is stale and was ignored.
  bool rejected(Index previous, Index guess);
  // The follower answered a heartbeat. Returns true if nothing has moved since the heartbeat
  // before, so that an Append may have got lost.
  bool heartbeat_answered(Index last);
  void heartbeat_sent();
  // The connection broke: what was in flight is lost.
  void lost();

  // Any message of the present term counts as hearing from the follower.
  void heard();
  void tick() { ++silence_ticks_; }
  int silence_ticks() const { return silence_ticks_; }  // since it was heard, or the election
  bool heard_within(int ticks) const { return heard_ && silence_ticks_ < ticks; }
  bool connected() const { return !lost_; }

  // The newest commit index and ReadIndex round that went to, or came back from, the follower.
  Index commit_sent;
  uint64_t round_answered = 0;
  bool resigned = false;  // it said that it would not take over
  bool full = false;      // it said that its disk has no space

 private:
  void become_probe();

  NodeId id_;
  Index match_;
  Index next_;
  Index snapshot_;
  bool probing_ = true;
  bool probe_sent_ = false;
  bool probe_empty_ = false;
  Inflight inflight_;
  Index match_at_heartbeat_;
  bool stalled_ = false;
  bool heard_ = false;
  bool lost_ = false;
  int silence_ticks_ = 0;
};

}  // namespace ballast::raft
