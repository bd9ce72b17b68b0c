// The state behind Core. Its functions stand in four files, by part: election.cc (time, terms,
// votes), replication.cc (the leader's log), follower.cc (the follower's log), membership.cc
// (changes of the configuration), snapshot.cc (where the log begins), reads.cc (ReadIndex),
// transfer.cc (handing over), and core.cc (the way in and out).
#pragma once

#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "proto/base/planted.h"
#include "server/raft/configuration.h"
#include "server/raft/core.h"
#include "server/raft/log.h"
#include "server/raft/prng.h"
#include "server/raft/progress.h"
#include "server/raft/read_only.h"

namespace ballast::raft {

struct Core::Impl {
  Impl(Options given, InitialState initial);

  // core.cc: in and out
  void step(const Message& message);
  Ready ready();
  void storage_done(uint64_t ticket);
  View view() const;
  const Configuration& configuration() const {
    if (BALLAST_PLANTED(kConfigurationAtCommit)) return configurations.in_force_at(commit);
    return configurations.newest();
  }
  bool voter() const { return configuration().is_voter(options.id); }
  // Sends when the present term and vote, and the ticket `also`, are durable. Nothing of a term
  // leaves this node before a crash could no longer take the term back.
  void send(NodeId to, decltype(Message::body) body, uint64_t also = 0);
  void send_with_term(NodeId to, Term with, decltype(Message::body) body, uint64_t also);
  void release_held();
  bool hard_state_durable() const { return !hard_dirty && hard_ticket <= completed; }

  // election.cc
  void tick();
  void tick_leader();
  bool enter_newer_term(const Message& message);
  void answer_older_term(const Message& message);
  void become_follower(Term new_term, NodeId new_leader);
  void become_leader();
  void campaign_pre_vote();
  void campaign(bool transfer);
  void handle(const Message& message, const VoteRequest& request);
  void handle(const Message& message, const VoteReply& reply);
  void record_vote(NodeId from, bool granted);
  void set_term_and_vote(Term new_term, NodeId new_vote);
  void reset_election_timer();
  void retry_soon();
  bool hears_from_leader() const;
  bool heard_by_majority() const;
  void peer_lost(NodeId peer);

  // replication.cc
  std::unexpected<Error> not_leader() const;
  Result<Index> propose(std::span<const Proposal> proposals);
  void append_own(const Proposal& proposal);
  void handle(const Message& message, const AppendReply& reply);
  void handle(const Message& message, const HeartbeatReply& reply);
  Progress* find_peer(NodeId node);
  const Progress* find_peer(NodeId node) const;
  void replicate();
  void replicate_to(Progress& peer);
  bool send_append(Progress& peer, bool empty);
  std::vector<EntryMeta> entries_for(const Progress& peer) const;
  void send_heartbeat(Progress& peer);
  void advance_commit();
  void commit_to(Index index);

  // snapshot.cc
  void compact(Index upto);
  void handle(const Message& message, const InstallSnapshot& install);
  void snapshot_installed(const Snapshot& snapshot);

  // membership.cc
  Status check_configuration(const Configuration& next) const;
  Status check_new_voter(NodeId node) const;
  void configure(Index index, Configuration next);
  void leave_if_removed();

  // follower.cc
  void handle(const Message& message, const Append& append);
  void handle(const Message& message, const Heartbeat& heartbeat);
  void follow(NodeId from);
  void check_same_history(const Append& append) const;
  void append_received(const Append& append, Term leader_term);

  // reads.cc
  Result<uint64_t> read_index();
  bool ready_to_serve() const { return role == Role::kLeader && log.term_at(commit) == hard.term; }
  void start_read_round();
  void confirm_reads();
  void refuse_reads();
  void expire_forwarded_reads();
  void handle(const Message& message, const ReadIndexRequest& request);
  void handle(const Message& message, const ReadIndexReply& reply);

  // transfer.cc
  Status transfer_leadership(NodeId to);
  const Progress* transfer_target(NodeId to) const;
  void continue_transfer();
  void set_resigned(bool value);
  bool majority_has_space() const;
  void handle(const Message& message, const TimeoutNow& timeout_now);

  Options options;
  Prng prng;
  Log log;
  ConfigurationHistory configurations;
  HardState hard;
  Role role = Role::kFollower;
  NodeId leader;
  NodeId leader_of_term;  // who led in the present term, even if it was forgotten since
  Index commit;

  // Storage. Tickets are given by ready() and come back by storage_done().
  bool hard_dirty = false;   // changed since the last ready()
  uint64_t hard_ticket = 0;  // of the write that holds the present term and vote
  uint64_t next_ticket = 1;
  uint64_t completed = 0;

  // Time, in ticks
  uint64_t now = 0;
  int election_elapsed = 0;  // since a leader was heard, a vote given or an election begun
  int election_timeout = 0;
  int quick_retries = 0;  // left, since the leader's connection broke
  int heartbeat_elapsed = 0;
  int transfer_elapsed = 0;

  std::map<NodeId, bool> votes;  // of the election under way
  std::vector<Progress> peers;   // of all members but this one; at the leader only
  uint64_t uncommitted_bytes = 0;
  NodeId transfer_to;
  bool resigned = false;
  bool full = false;

  ReadOnly reads;
  uint64_t next_read_id;
  struct ForwardedRead {
    uint64_t id;
    uint64_t sent_at;
  };
  std::deque<ForwardedRead> forwarded_reads;

  // Output
  struct HeldMessage {
    uint64_t ticket;  // goes out when this is durable,
    Term term;        // unless the term has moved on
    Message message;
  };
  std::vector<HeldMessage> held;
  std::vector<Message> outgoing;
  std::vector<ReadState> read_states;
  Index snapshot_needed;
};

}  // namespace ballast::raft
