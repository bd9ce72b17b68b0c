// A group of cores in memory: disks that complete when told, a network that delivers when told,
// and the invariants after every input. Deterministic; for scenarios and randomized tests.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "server/raft/core.h"
#include "server/raft/invariants.h"

namespace ballast::raft::testing {

// What a node keeps over a crash.
struct Disk {
  HardState hard;
  Snapshot base;  // the log begins behind it
  std::vector<EntryMeta> log;
  Index applied;

  Index last() const { return base.at.index + log.size(); }
  // Null if the log does not hold it.
  const EntryMeta* find(Index index) const {
    if (index <= base.at.index || index > last()) return nullptr;
    return &log[index - base.at.index - 1];
  }
};

class Cluster {
 public:
  // Nodes 1..count, all running, with `pattern` as options but for id and seed. The first
  // `founders` of them (0: all) make the group; the others wait to be added.
  Cluster(uint64_t count, Options pattern, uint64_t seed, uint64_t founders = 0);

  // Inputs. REQUIRES: the node is running. Each one is followed by ready() and the invariants.
  void tick(NodeId node);
  void campaign(NodeId node);
  Result<Index> propose(NodeId node, size_t count, uint32_t payload_bytes);
  Result<uint64_t> read_index(NodeId node);
  Status transfer(NodeId from, NodeId to);
  void lost(NodeId node, NodeId peer);
  // Begins a change to these voters and learners, or leaves a joint configuration.
  Result<Index> change(NodeId node, const Configuration& target);
  Result<Index> leave(NodeId node);
  void stall(NodeId node, bool stalled);
  // Drops the log up to `upto`, which the node has applied.
  void compact(NodeId node, Index upto);
  // Brings the state of `from`, as it has applied it, to the node.
  void install(NodeId node, NodeId from);
  // To a node that is down: nothing.
  void deliver(const Message& message);
  // Completes the oldest `writes` writes of the node's disk.
  void store(NodeId node, size_t writes);
  // Writes complete at once (the default), or by store().
  void set_store_auto(NodeId node, bool automatic);

  // Loses what the disk did not hold; of the writes under way the oldest `survive` are completed.
  void crash(NodeId node, size_t survive = 0);
  void restart(NodeId node);

  uint64_t size() const { return members_.size(); }
  bool running(NodeId node) const { return member(node).core.has_value(); }
  const Core& core(NodeId node) const { return *member(node).core; }
  const Disk& disk(NodeId node) const { return member(node).disk; }
  size_t writes(NodeId node) const { return member(node).writes.size(); }
  const GroupInvariants& invariants() const { return invariants_; }

  // Sent and not yet delivered, oldest first. The caller takes messages out.
  std::deque<Message> network;
  // Asked for each message as it is sent; false drops it. Null: all pass.
  std::function<bool(const Message&)> passes;
  // Told what happens, one line each. Null: nobody listens.
  std::function<void(const std::string&)> on_event;
  std::function<void(NodeId, const ReadState&)> on_read;
  bool show_messages = false;

  Violations violations;  // all that was ever broken

 private:
  struct Write {
    uint64_t ticket;
    std::optional<HardState> hard;
    std::vector<EntryMeta> entries;
  };
  struct Member {
    std::optional<Core> core;
    Disk disk;
    std::deque<Write> writes;
    bool store_auto = true;
    View seen;  // as of the last report
  };

  Member& member(NodeId node) { return members_.at(node.value() - 1); }
  const Member& member(NodeId node) const { return members_.at(node.value() - 1); }
  void start(NodeId node);
  void after_input(NodeId node);
  void take_ready(NodeId node, Member& member);
  void complete_write(Member& member);
  void check(NodeId node, Member& member);
  void check_durable(Index from, Index until);
  void check_matches(const View& leader);
  Result<Index> propose_configuration(NodeId node, const Configuration& next);
  std::vector<ConfigurationAt> configurations_of(const Disk& disk) const;
  void report(const Member& before_and_now, const View& now);
  void say(const std::string& line) const {
    if (on_event) on_event(line);
  }

  Options pattern_;
  Configuration founders_;
  // What the configuration entries hold, for the disks; by index and term.
  std::map<std::pair<Index, Term>, Configuration> held_;
  uint64_t seed_;
  uint64_t starts_ = 0;
  uint32_t proposed_ = 0;  // entries, to give each another checksum
  std::vector<Member> members_;
  GroupInvariants invariants_;
};

// "1->2 Append term=3 prev=4/2 commit=4 [5/2 6-8/3]"
std::string to_string(const Message& message);
// The first word of what to_string says after the nodes.
std::string kind_of(const Message& message);
// "1/1 2-4/2": index or range, and term
std::string to_string(std::span<const EntryMeta> entries);

}  // namespace ballast::raft::testing
