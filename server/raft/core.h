// The Raft core: one node's part in one group, as a deterministic function of its inputs.
//
// It does no I/O, reads no clock and starts no thread; time is the number of tick() calls and
// chance comes from the seed. It never sees a byte of an entry, only EntryMeta. Its driver
// (server/node) feeds it inputs, takes a Ready after each of them and carries it out:
//
//   core.step(message);              // or tick, propose, read_index, storage_done, ...
//   Ready ready = core.ready();
//   1. store ready.hard_state and ready.entries in the log, durably, in the order of the Readys;
//      when that is done, call core.storage_done(ready.ticket);
//   2. send ready.messages, at once, without waiting for 1;
//   3. apply entries up to ready.commit, in order;
//   4. answer the reads in ready.reads when applied >= their index.
//
// What must not be said before something is durable (votes, acknowledgements, the own vote and the
// own match index) is kept inside until storage_done() tells that it is, and dropped if the term
// has moved on meanwhile: a completion says nothing about a log that was overwritten (the ABA race
// of asynchronous appends).
//
// With PreVote (thesis 9.6), CheckQuorum (thesis 6.2), commit only by entries of the own term
// (thesis 3.6.2), ReadIndex (thesis 6.4), leadership transfer (thesis 3.10), pipelined replication
// bounded in entries and bytes (probe / replicate, Progress), membership by joint consensus (thesis
// 4.3) with learners, snapshots for those who lag too far (thesis chapter 5), and stepping down
// when the own disk stalls.
//
// Not thread-safe. A broken invariant stops the process (BALLAST_CHECK).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "proto/base/entry.h"
#include "proto/base/limits.h"
#include "proto/base/result.h"
#include "server/raft/configuration.h"
#include "server/raft/message.h"

namespace ballast::raft {

enum class Role : uint8_t { kFollower, kPreCandidate, kCandidate, kLeader };
std::string_view role_name(Role role);

struct Options {
  NodeId id;
  // Of the election timeouts and of where read ids begin: give each node, and each start of a
  // node, another one.
  uint64_t seed = 0;
  int heartbeat_ticks = limits::kHeartbeatTicks;
  int election_ticks_min = limits::kElectionTicksMin;  // the timeout is uniform in [min, max)
  int election_ticks_max = limits::kElectionTicksMax;
  size_t inflight_entries_max = limits::kInflightEntriesMax;  // per follower
  size_t inflight_bytes_max = limits::kInflightBytesMax;      // per follower, one entry at least
  size_t append_bytes_max = limits::kBlockBytesMax;  // payload of one Append, one entry at least
  size_t append_header_bytes_max = limits::kEntryHeaderBytesMax;  // headers of one Append
  size_t append_entries_max = 64;                                 // entries of one Append
  size_t uncommitted_bytes_max = limits::kUncommittedBytesMax;
};

// What the disk holds when the node starts.
struct InitialState {
  HardState hard_state;
  std::vector<EntryMeta> log;  // behind `base`, without gaps
  Index applied;               // committed for certain, because it was applied
  // In force at the base, and the index of its entry. Empty at a node that is to join: it does not
  // vote nor campaign until the log of a leader gives it a configuration.
  Configuration configuration;
  std::vector<ConfigurationAt> configurations;  // of all entries of that kind in the log, in order
  Index configuration_index;                    // of `configuration`; 0: of no entry
  Position base;                                // where the log begins: what came before is applied
  uint32_t base_chain = 0;                      // Log::chain_at(base.index)
};

// The state of a group at a place of its log, as another node's driver has brought it here.
struct Snapshot {
  Position at;
  uint32_t chain = 0;           // Core::chain_at(at.index)
  Configuration configuration;  // in force there
  Index configuration_index;
};

struct ReadState {
  uint64_t id = 0;       // what read_index() returned
  Index index;           // serve when this much is applied
  bool refused = false;  // the leader is gone or not ready: try again or elsewhere
};

struct Ready {
  std::optional<HardState> hard_state;  // to be stored before `entries`
  std::vector<EntryMeta> entries;       // to be stored; replaces everything from its first index on
  uint64_t ticket = 0;                  // 0: nothing to store
  std::vector<Message> messages;
  Index commit;  // never falls, never beyond what is durable on the own disk
  std::vector<ReadState> reads;
  // Not 0: this node needs a snapshot at this index or a later one, since the leader's log does not
  // reach back to it. The driver fetches it and calls snapshot_installed(). Named again and again
  // until then.
  Index snapshot_needed;
};

// What an operator wants to know; also for the invariants.
struct PeerView {
  NodeId id;
  Index match;
  Index next;
  bool probing = false;
  Index snapshot;         // waits for a snapshot at this index; 0: for none
  bool active = false;    // heard from within the last election timeout
  bool learner = false;   // has no vote
  bool resigned = false;  // would not take over
  bool full = false;      // its disk has no space
  size_t inflight_entries = 0;
  size_t inflight_bytes = 0;
};
struct View {
  NodeId id;
  Role role = Role::kFollower;
  Term term;
  NodeId vote;
  NodeId leader;  // 0: unknown
  Index commit;
  Index last;
  Index stable;        // durable on the own disk
  NodeId transfer_to;  // 0: no transfer under way
  uint64_t uncommitted_bytes = 0;
  bool resigned = false;
  Configuration configuration;  // in force: the newest of the log, committed or not
  Index configuration_index;    // of its entry; 0: the one that the node started with
  std::vector<PeerView> peers;  // at the leader, without itself
};

class Core {
 public:
  // REQUIRES: initial.log is contiguous from index 1 with terms that never fall and do not exceed
  // the hard state's; applied <= the log's last index.
  Core(Options options, InitialState initial);
  ~Core();
  Core(Core&&) noexcept;
  Core& operator=(Core&&) noexcept;

  // 10 ms have passed.
  void tick();

  // A message has arrived. Messages may be lost, late, twice and in any order, but not altered.
  void step(const Message& message);

  struct Proposal {
    EntryKind kind = EntryKind::kNoop;
    uint32_t header_bytes = 0;
    uint32_t payload_bytes = 0;
    uint32_t checksum = 0;                       // entry_checksum()
    std::optional<Configuration> configuration;  // of an entry of kind kConfiguration
  };
  // Appends entries to the leader's log, all or none. Returns the index of the first; the term is
  // the present one. Errors: kNotLeader; kUnavailable while leadership is handed over;
  // kOverloaded if more than uncommitted_bytes_max would wait for their commit.
  //
  // A configuration is proposed alone and takes effect at once. Errors: kInvalidArgument if it may
  // not follow the present one (may_follow), kUnavailable before the first commit of the term (the
  // present one might yet go back), kConflict while another one is not committed, kRefused if a new
  // voter is not a learner that has nearly all of the log, or if no majority of the new voters was
  // heard from lately. When a joint one is committed, the leader's driver proposes to leave it.
  Result<Index> propose(std::span<const Proposal> proposals);

  // Asks for an index that a linearizable read must have applied. Returns an id that comes back in
  // a Ready, once, unless this node forgets it in a crash; callers need a deadline, since a
  // follower's question may be lost. Errors: kUnavailable if no leader is known.
  Result<uint64_t> read_index();

  // Hands leadership to `to`, or with 0 to the follower that is furthest. Proposals are refused
  // until it is done or an election timeout has passed. Errors: kNotLeader, kInvalidArgument
  // (unknown or the leader itself), kRefused (`to` has resigned), kUnavailable (one is under way,
  // or nobody who might take over is active).
  Status transfer_leadership(NodeId to);

  // Starts an election now, as an election timeout would. For tests.
  void campaign();

  // The connection to a peer broke. A leader probes it again. A follower whose leader it was
  // forgets that leader and starts a pre-vote after a short random wait: safe, because a quorum
  // must agree that it has no leader.
  void peer_lost(NodeId peer);

  // This node must not lead (true), or may again (false): its operator drains it, or the oldest
  // write of its log has been waiting for too long; heartbeats alone would keep a leader whose disk
  // is dead in office (hashicorp/raft 612). A leader hands over, and steps down if nobody takes
  // over within an election timeout. A follower does not campaign, and leaders do not hand over to
  // it.
  void set_resigned(bool resigned);

  // This node's disk has no space for more writes: those who lead hear of it. The core refuses
  // nothing by itself, since deletes and what it needs for itself may still fit.
  void set_full(bool full);
  // At a leader: as far as it has heard, a majority has space. At others true.
  bool majority_has_space() const;
  // At a leader: whom it could hand over to that has space; 0: nobody.
  NodeId successor_with_space() const;

  // Whether propose() would take this configuration now; its errors.
  Status may_configure(const Configuration& next) const;

  // What has to be done because of the inputs so far. Empty if nothing.
  Ready ready();

  // The Ready with this ticket, and all before it, are durable.
  void storage_done(uint64_t ticket);

  Term term_at(Index index) const;       // 0 if there is no such entry, or not any more
  EntryMeta meta_at(Index index) const;  // REQUIRES: base < index <= last
  uint32_t chain_at(Index index) const;  // REQUIRES: base <= index <= last
  Term term() const;
  Role role() const;
  NodeId leader() const;
  // What a quorum holds, as far as this node knows. Ready::commit may be lower: an entry may be
  // committed by the others before it is durable here.
  Index commit() const;
  Index last() const;
  // Where the log begins. The first entry that is here stands behind it.
  Position base() const;

  // The log's entries up to `upto` were applied, durably, and the driver has dropped them.
  // REQUIRES: upto <= commit, and durable here.
  void compact(Index upto);
  // The state machine holds the snapshot, durably, in the place of everything before. A log that
  // does not contain the snapshot's place is dropped as a whole: the driver has dropped it already.
  // Ignored if this node has committed as much.
  void snapshot_installed(const Snapshot& snapshot);

  // True at a leader that has committed an entry of its term: it may serve reads and knows all
  // that was acknowledged.
  bool ready_to_serve() const;
  // In force: the newest of the log, committed or not, and the index of its entry.
  const Configuration& configuration() const;
  Index configuration_index() const;
  View view() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ballast::raft
