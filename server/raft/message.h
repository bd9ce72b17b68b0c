// The messages of Raft, as the core sees them: plain values without payload bytes.
//
// References: D. Ongaro, "Consensus: Bridging Theory and Practice" (2014), called the thesis below.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "proto/base/entry.h"
#include "proto/base/strong_int.h"
#include "server/raft/configuration.h"

namespace ballast::raft {

// Thesis section 3.4; with pre_vote, section 9.6.
struct VoteRequest {
  bool pre_vote = false;
  bool transfer = false;  // sent after TimeoutNow: voters ignore that they hear from a leader
  Index last_index;
  Term last_term;
  bool operator==(const VoteRequest&) const = default;
};
struct VoteReply {
  bool pre_vote = false;
  bool granted = false;
  bool operator==(const VoteReply&) const = default;
};

// Thesis section 3.5. Entry i stands at previous_index + 1 + i.
struct Append {
  Index previous_index;
  Term previous_term;
  uint32_t previous_chain = 0;  // Log::chain_at(previous_index)
  Index commit;
  std::vector<EntryMeta> entries;
  std::vector<ConfigurationAt> configurations;  // what the entries of that kind hold
  bool operator==(const Append&) const = default;
};
struct AppendReply {
  bool rejected = false;
  Index index;       // everything up to here is durable and matches; if rejected: previous_index
  Index hint_index;  // if rejected: the follower's best guess where the logs still agree,
  Term hint_term;    // and the term of its entry there
  bool operator==(const AppendReply&) const = default;
};

// Heartbeats carry the number of the newest ReadIndex round (thesis section 6.4). A round's number
// is never used again in its term, so that a late reply can't confirm a younger read.
struct Heartbeat {
  Index commit;
  uint64_t round = 0;
  bool operator==(const Heartbeat&) const = default;
};
struct HeartbeatReply {
  uint64_t round = 0;
  bool resigned = false;  // the follower would not take over
  bool full = false;      // its disk has no space for more writes
  bool operator==(const HeartbeatReply&) const = default;
};

// The follower lacks entries that the leader no longer has: it needs the state at `at` or later,
// from whomever (thesis section 5.1). Repeated with each heartbeat until the follower has it.
struct InstallSnapshot {
  Position at;
  bool operator==(const InstallSnapshot&) const = default;
};

// A follower asks the leader for a read index; `id` is the follower's own.
struct ReadIndexRequest {
  uint64_t id = 0;
  bool operator==(const ReadIndexRequest&) const = default;
};
struct ReadIndexReply {
  uint64_t id = 0;
  Index index;
  bool refused = false;
  bool operator==(const ReadIndexReply&) const = default;
};

// Thesis section 3.10: the target starts an election at once.
struct TimeoutNow {
  bool operator==(const TimeoutNow&) const = default;
};

struct Message {
  NodeId from;
  NodeId to;
  Term term;  // of a pre-vote: the term that the candidate would campaign in
  std::variant<VoteRequest, VoteReply, Append, AppendReply, Heartbeat, HeartbeatReply,
               InstallSnapshot, ReadIndexRequest, ReadIndexReply, TimeoutNow>
      body;
  bool operator==(const Message&) const = default;
};

}  // namespace ballast::raft
