// Groups under random faults: messages lost, doubled and out of order, disks that complete late,
// crashes that lose what was not stored, partitions. The invariants hold after every step
// (tests/raft/cluster.cc), reads are linearizable, and once the faults end, the group converges.
//
// BALLAST_RAFT_SEEDS=N runs N seeds per size, BALLAST_RAFT_SEED=S runs the seed S alone.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <set>

#include "server/raft/prng.h"
#include "server/raft/quorum.h"
#include "tests/raft/cluster.h"

namespace ballast::raft::testing {
namespace {

Options random_options(Prng& chance) {
  Options options;
  options.heartbeat_ticks = 2;
  options.election_ticks_min = 10;
  options.election_ticks_max = 20;
  options.inflight_entries_max = 1 + chance.below(8);
  options.inflight_bytes_max = 200 + chance.below(2000);
  options.append_entries_max = 1 + chance.below(6);
  options.append_bytes_max = 100 + chance.below(1000);
  options.uncommitted_bytes_max = 2000;
  return options;
}

class Storm {
 public:
  Storm(uint64_t nodes, uint64_t seed)
      : chance_(seed), cluster_(nodes, random_options(chance_), seed) {
    loss_ = chance_.below(20);
    duplication_ = chance_.below(15);
    // Each seed has another mix: slow disks in one, restless elections in another.
    fault_ = 1 + chance_.below(12);
    storing_ = 2 + chance_.below(16);
    ticking_ = 4 + chance_.below(25);
    reordering_ = 1 + chance_.below(24);
    cluster_.passes = [this](const Message& message) { return passes(message); };
    cluster_.on_read = [this](NodeId node, const ReadState& read) { read_done(node, read); };
    for (uint64_t id = 1; id <= nodes; ++id) {
      cluster_.set_store_auto(NodeId(id), chance_.below(4) == 0);
    }
  }

  // Returns what was wrong, or an empty string.
  std::string run() {
    for (int step = 0; step < 2500; ++step) {
      act();
      if (!cluster_.violations.empty()) return cluster_.violations.front();
    }
    return calm();
  }

 private:
  struct Asked {
    NodeId node;
    Index committed;  // everything up to here was acknowledged somewhere when the read began
  };

  NodeId any() { return NodeId(1 + chance_.below(cluster_.size())); }

  bool passes(const Message& message) {
    if (cut_.contains({message.from, message.to})) return false;
    return calm_ || chance_.below(100) >= loss_;
  }

  void act() {
    const uint64_t dice = chance_.below(60 + ticking_ + storing_ + fault_);
    const NodeId node = any();
    if (dice < 50) {
      deliver_one();
    } else if (dice < 56) {
      propose(leader_or_any());
    } else if (dice < 60) {
      read(node);
    } else if (dice < 60 + ticking_) {
      if (cluster_.running(node)) cluster_.tick(node);
    } else if (dice < 60 + ticking_ + storing_) {
      if (cluster_.running(node)) cluster_.store(node, 1 + chance_.below(2));
    } else {
      fault(node);
    }
  }

  void propose(NodeId node) {
    if (!cluster_.running(node)) return;
    (void)cluster_.propose(node, 1 + chance_.below(3), static_cast<uint32_t>(chance_.below(400)));
  }

  NodeId leader_or_any() {
    for (uint64_t id = 1; id <= cluster_.size(); ++id) {
      const NodeId node(id);
      if (cluster_.running(node) && cluster_.core(node).role() == Role::kLeader) return node;
    }
    return any();
  }

  void deliver_one() {
    auto& network = cluster_.network;
    if (network.empty()) return;
    const uint64_t window = std::min<uint64_t>(network.size(), 1 + chance_.below(reordering_));
    const auto at = network.begin() + static_cast<std::ptrdiff_t>(chance_.below(window));
    const Message message = *at;
    if (chance_.below(100) >= duplication_) network.erase(at);
    // Messages that are never chosen must not grow without bound.
    if (network.size() > 400) network.pop_front();
    cluster_.deliver(message);
  }

  void fault(NodeId node) {
    if (!cluster_.running(node)) {
      if (chance_.below(2) == 0) restart(node);
      return;
    }
    switch (chance_.below(9)) {
      case 0:
      case 1: cluster_.crash(node, chance_.below(cluster_.writes(node) + 1)); break;
      case 2: cut_.insert({any(), any()}); break;
      case 3:
      case 4: cut_.clear(); break;
      case 5:
      case 6: {
        // Everybody loses the connection to one node, as when its process dies.
        for (uint64_t id = 1; id <= cluster_.size(); ++id) {
          if (NodeId(id) != node && cluster_.running(NodeId(id))) cluster_.lost(NodeId(id), node);
        }
        break;
      }
      case 7: cluster_.campaign(node); break;
      default: (void)cluster_.transfer(node, NodeId(chance_.below(4)));
    }
  }

  void restart(NodeId node) {
    std::erase_if(asked_, [&](const auto& one) { return one.second.node == node; });
    cluster_.restart(node);
  }

  void read(NodeId node) {
    if (!cluster_.running(node)) return;
    // The reply may come within the call, so the question is noted before it is asked.
    const Index committed = cluster_.invariants().committed();
    now_asking_ = Asked{node, committed};
    Result<uint64_t> id = cluster_.read_index(node);
    now_asking_.reset();
    if (id && !answered_.contains({node, *id})) asked_[{node, *id}] = Asked{node, committed};
  }

  void read_done(NodeId node, const ReadState& read) {
    if (!answered_.insert({node, read.id}).second) {
      cluster_.violations.push_back(fmt::format("read {} came back twice", read.id));
    }
    const auto found = asked_.find({node, read.id});
    const Index committed = found != asked_.end() ? found->second.committed
                            : now_asking_         ? now_asking_->committed
                                                  : Index();
    if (!read.refused && read.index < committed) {
      cluster_.violations.push_back(fmt::format("stale read at node {}: index {}, committed {}",
                                                node, read.index, committed));
    }
    if (!read.refused) ++reads_served_;
    if (found != asked_.end()) asked_.erase(found);
  }

  bool converged() {
    const Index target = cluster_.invariants().committed();
    for (uint64_t id = 1; id <= cluster_.size(); ++id) {
      const Core& core = cluster_.core(NodeId(id));
      if (core.commit() != target || core.last() != target) return false;
    }
    return true;
  }

  // No more faults: within some election timeouts a leader is there, commits, and all have it.
  std::string calm() {
    calm_ = true;
    cut_.clear();
    for (uint64_t id = 1; id <= cluster_.size(); ++id) {
      if (!cluster_.running(NodeId(id))) restart(NodeId(id));
      cluster_.set_store_auto(NodeId(id), true);
    }
    bool proposed = false;
    for (int round = 0; round < 400; ++round) {
      for (uint64_t id = 1; id <= cluster_.size(); ++id) cluster_.tick(NodeId(id));
      for (int i = 0; i < 2000 && !cluster_.network.empty(); ++i) {
        const Message message = cluster_.network.front();
        cluster_.network.pop_front();
        cluster_.deliver(message);
        if (!cluster_.violations.empty()) return cluster_.violations.front();
      }
      const NodeId leader = leader_or_any();
      if (!proposed && round > 100) {
        proposed = cluster_.propose(leader, 1, 10).has_value();
        last_read_ = cluster_.read_index(leader).value_or(0);
      }
      if (proposed && round > 120 && converged()) {
        if (!answered_.contains({leader, last_read_})) return "a read is never answered";
        return cluster_.violations.empty() ? "" : cluster_.violations.front();
      }
    }
    return "no convergence after the faults ended";
  }

  Prng chance_;
  Cluster cluster_;
  uint64_t loss_ = 0;         // per cent of the messages
  uint64_t duplication_ = 0;  // per cent of the deliveries
  uint64_t fault_ = 0;        // these are weights of what happens next
  uint64_t storing_ = 0;
  uint64_t ticking_ = 0;
  uint64_t reordering_ = 0;  // how far behind the oldest message a delivery may reach
  bool calm_ = false;
  std::set<std::pair<NodeId, NodeId>> cut_;
  std::map<std::pair<NodeId, uint64_t>, Asked> asked_;
  std::set<std::pair<NodeId, uint64_t>> answered_;
  std::optional<Asked> now_asking_;
  uint64_t last_read_ = 0;

 public:
  uint64_t reads_served_ = 0;
  uint64_t committed() const { return cluster_.invariants().committed().value(); }
};

uint64_t number_from(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

void run_seeds(uint64_t nodes) {
  const uint64_t only = number_from("BALLAST_RAFT_SEED", 0);
  const uint64_t seeds = number_from("BALLAST_RAFT_SEEDS", 200);
  uint64_t committed = 0;
  uint64_t reads = 0;
  for (uint64_t seed = only != 0 ? only : 1; seed <= (only != 0 ? only : seeds); ++seed) {
    Storm storm(nodes, seed);
    const std::string wrong = storm.run();
    EXPECT_EQ(wrong, "") << nodes << " nodes: BALLAST_RAFT_SEED=" << seed;
    if (!wrong.empty()) return;
    committed += storm.committed();
    reads += storm.reads_served_;
  }
  // A storm in which nothing happens proves nothing.
  EXPECT_GT(committed, 10 * (only != 0 ? 1 : seeds));
  EXPECT_GT(reads, only != 0 ? 0 : seeds);
}

TEST(RaftRandom, three_nodes) { run_seeds(3); }
TEST(RaftRandom, five_nodes) { run_seeds(5); }
TEST(RaftRandom, two_nodes) { run_seeds(2); }
TEST(RaftRandom, one_node) { run_seeds(1); }

}  // namespace
}  // namespace ballast::raft::testing
