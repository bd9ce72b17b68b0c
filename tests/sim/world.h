// A cluster in one thread: nodes, network, clients and faults, all from one seed.
//
// First a storm, in which everything that the faults name goes wrong; then the faults end, everyone
// comes back, and the cluster must converge and have kept every promise. The same seed gives the
// same run: hash() says so.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "server/raft/invariants.h"
#include "tests/sim/client.h"
#include "tests/sim/counts.h"
#include "tests/sim/faults.h"
#include "tests/sim/history.h"
#include "tests/sim/node.h"
#include "tests/sim/scheduler.h"

namespace ballast::sim {

// How long the disk of one that is stranded with its primary hangs: until others have elected
// another.
inline constexpr uint64_t kStrandUs = 4'000 * kMs;

class World {
 public:
  // `directory` is the run's own; it is removed at the end.
  World(std::string directory, uint64_t seed, const Faults& faults, bool verbose);
  ~World();

  // Returns what went wrong, nothing if all was well.
  std::vector<std::string> run();
  uint64_t hash() const { return hash_; }
  Counts counts() const;

  // ---- for the clients ----
  Scheduler& scheduler() { return scheduler_; }
  History& history() { return history_; }
  SimNode& node(NodeId id) { return *nodes_[id.value() - 1]; }
  uint64_t nodes() const { return nodes_.size(); }
  bool wants_more_requests();
  uint64_t client_delay_us() { return 50 + chance_network_.below(2'000); }
  // A node acknowledges a write, at this moment.
  void on_ack(SimNode& node, const server::Node::Written& written);
  // A node shows a key whose block has this digest.
  void check_block(SimNode& node, const std::string& digest);
  // Reads a key at this node, now: at the moments at which a careless node answers wrongly.
  void probe(SimNode& node);

 private:
  struct Fetch;
  struct Replica {
    uint64_t observed_applied = 0;
    bool led = false;
    Term term;
    Term told_term;                       // that a leader has told it to campaign in
    std::map<NodeId, uint64_t> asked_us;  // when a message could last pass to each of the others
    std::map<NodeId, uint64_t> heard_us;  // and from them
    bool doomed = false;                  // crashes in the middle of its next log write
    bool damaged = false;                 // its disk holds what was not written there
    std::shared_ptr<Fetch> fetch;         // the snapshot that it is being brought
  };

  void start_node(NodeId id);
  void start_later(NodeId id);
  void take_refusal(SimNode& one, const Error& error);
  void crash_node(NodeId id, bool restart);
  void transmit(Frame frame);
  void deliver_later(const Frame& frame);
  bool cut(NodeId from, NodeId to) const { return cut_.contains({from, to}); }
  void need_snapshot(NodeId id, Index index);
  void fetch_later(const std::shared_ptr<Fetch>& fetch);
  void fetch_more(const std::shared_ptr<Fetch>& fetch);
  Result<bool> begin_fetch(Fetch& fetch);
  Result<bool> fetch_blocks(Fetch& fetch);
  void install(Fetch& fetch);
  SimNode* some_source(NodeId to, Index applied);
  void after_run(SimNode& node);
  void check_durable_majority(SimNode& node, Index index, Term term, bool everywhere);
  void check_state(SimNode& node);
  void note_committed(const SimNode& node, uint64_t applied);
  void check_bounds(const raft::View& view);
  void check_promise(SimNode& node, const raft::Message& message);
  void check_isolation();
  void watch_leadership(SimNode& node);

  // Faults: each plans its next occurrence.
  void plan_faults();
  void plan(uint64_t mean_ms, void (World::*happen)());
  void crash_one();
  void pause_one();
  void partition();
  void strand_primary();
  void cut_off(const std::set<NodeId>& side);
  void transfer();
  void flush_one();
  void rot_one();
  void misplace_one();
  void damage_one(bool (SimDisk::*damage)(), uint64_t Counts::* count, std::string_view what);
  void wipe_one();
  void hang_one();
  void fill_one();
  void replace_disk(SimNode& one);
  void change_membership();
  bool may_damage(const SimNode& one);
  bool has_intact_majority(const pb::ConfigurationEntry& members);
  SimNode* leader();
  std::optional<pb::ConfigurationEntry> next_configuration(const pb::ConfigurationEntry& now);

  void pass(uint64_t until_us);
  void calm_down();
  void show_damage(SimNode& one);
  bool converged();
  void check_end();
  void check_blocks(SimNode& one);
  void check_segments(SimNode& one);
  void wrong(std::string what);
  void mix(uint64_t value);
  void say(const std::string& what);
  std::string describe(const SimNode& one) const;
  raft::Prng fork() { return raft::Prng(chance_.next()); }

  const std::string directory_;
  const Faults faults_;
  const bool verbose_;
  raft::Prng chance_;
  raft::Prng chance_network_;
  raft::Prng chance_faults_;
  Scheduler scheduler_;
  pb::ConfigurationEntry founders_;
  std::vector<std::unique_ptr<SimNode>> nodes_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::unique_ptr<Client> prober_;
  std::set<std::pair<NodeId, NodeId>> cut_;
  raft::GroupInvariants invariants_;
  std::map<uint64_t, std::string> digests_;  // of the state, by applied index
  std::map<NodeId, Replica> replicas_;
  std::map<NodeId, std::vector<std::vector<DurableEntry>>> lost_disks_;
  std::vector<Entry> committed_;  // from entry 1 on, with their headers
  History history_;
  Counts counts_;
  uint64_t requests_ = 0;
  uint64_t starts_ = 0;
  bool calm_ = false;
  uint64_t hash_ = 14695981039346656037u;
  std::vector<std::string> wrong_;
};

}  // namespace ballast::sim
