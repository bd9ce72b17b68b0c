// One core, with the test in the place of its disk and of the other nodes.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/raft/core.h"
#include "server/raft/invariants.h"
#include "tests/raft/cluster.h"

namespace ballast::raft::testing {

inline constexpr int kElectionMin = 10;
inline constexpr int kElectionMax = 20;

// Voters 1 to `nodes`.
inline Configuration voters(uint64_t nodes) {
  Configuration configuration;
  for (uint64_t id = 1; id <= nodes; ++id) configuration.voters.push_back(NodeId(id));
  return configuration;
}

class LoneCore {
 public:
  // Node 1 of `nodes`, with a log of these terms, in `term` (0: the last entry's).
  explicit LoneCore(uint64_t nodes, const std::vector<uint64_t>& terms = {}, uint64_t term = 0,
                    uint64_t vote = 0, Options options = {})
      : core(with(options), state(nodes, terms, term, vote)) {}

  // All that is ready, completing every write at once. The reads are kept.
  std::vector<Message> flush() {
    std::vector<Message> sent;
    for (;;) {
      Ready ready = take();
      sent.insert(sent.end(), ready.messages.begin(), ready.messages.end());
      if (ready.ticket == 0) break;
      core.storage_done(ready.ticket);
    }
    return sent;
  }
  Ready take() {
    Ready ready = core.ready();
    reads.insert(reads.end(), ready.reads.begin(), ready.reads.end());
    for (const std::string& broken : check_core(core)) ADD_FAILURE() << broken;
    return ready;
  }
  // What node `from` sends in `term`; then everything that follows from it.
  std::vector<Message> hear(uint64_t from, uint64_t term, decltype(Message::body) body) {
    receive(from, term, std::move(body));
    return flush();
  }
  // The same without what follows. The log of whoever sends an Append is this one's up to where the
  // Append begins.
  void receive(uint64_t from, uint64_t term, decltype(Message::body) body) {
    if (auto* append = std::get_if<Append>(&body)) {
      const Index previous = append->previous_index;
      const bool held = core.base().index <= previous && previous <= core.last();
      if (held) append->previous_chain = core.chain_at(previous);
    }
    core.step({NodeId(from), NodeId(1), Term(term), std::move(body)});
  }
  std::vector<Message> tick(int count) {
    std::vector<Message> sent;
    for (int i = 0; i < count; ++i) {
      core.tick();
      for (Message& message : flush()) sent.push_back(std::move(message));
    }
    return sent;
  }
  // Makes it the leader of the term after its present one, by the votes of nodes 2, 3, ...
  std::vector<Message> lead() {
    core.campaign();
    flush();
    const uint64_t term = core.term().value() + 1;
    for (uint64_t from = 2; core.role() == Role::kPreCandidate; ++from) {
      hear(from, term, VoteReply{.pre_vote = true, .granted = true});
    }
    std::vector<Message> sent;
    for (uint64_t from = 2; core.role() == Role::kCandidate; ++from) {
      sent = hear(from, term, VoteReply{.pre_vote = false, .granted = true});
    }
    return sent;
  }
  // A leader whose first entry is committed by node 2.
  void lead_and_commit() {
    lead();
    acknowledge(2, core.last().value());
  }
  std::vector<Message> acknowledge(uint64_t from, uint64_t index) {
    return hear(from, core.term().value(), AppendReply{.rejected = false, .index = Index(index)});
  }
  Result<Index> propose(uint32_t payload_bytes, size_t count = 1) {
    const std::vector<Core::Proposal> proposals(count,
                                                {EntryKind::kBlock, 0, payload_bytes, 0, {}});
    return core.propose(proposals);
  }

  Core core;
  std::vector<ReadState> reads;

 private:
  static Options with(Options options) {
    options.id = NodeId(1);
    options.seed = 7;
    options.heartbeat_ticks = 2;
    options.election_ticks_min = kElectionMin;
    options.election_ticks_max = kElectionMax;
    return options;
  }
  static InitialState state(uint64_t nodes, const std::vector<uint64_t>& terms, uint64_t term,
                            uint64_t vote) {
    InitialState initial;
    initial.configuration = voters(nodes);
    for (uint64_t one : terms) {
      initial.log.push_back({Term(one), Index(initial.log.size() + 1), EntryKind::kBlock, 0, 0});
    }
    if (term == 0 && !terms.empty()) term = terms.back();
    initial.hard_state = {Term(term), NodeId(vote)};
    return initial;
  }
};

// Entries behind `previous`, one per term given.
inline Append append_of(uint64_t previous, uint64_t previous_term,
                        const std::vector<uint64_t>& terms, uint64_t commit = 0) {
  Append append{Index(previous), Term(previous_term), 0, Index(commit), {}, {}};
  for (uint64_t term : terms) {
    append.entries.push_back(
        {Term(term), Index(previous + append.entries.size() + 1), EntryKind::kBlock, 0, 0});
  }
  return append;
}

inline std::string texts(const std::vector<Message>& messages) {
  std::string all;
  for (const Message& message : messages) all += to_string(message) + "\n";
  return all;
}

}  // namespace ballast::raft::testing
