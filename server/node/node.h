// A node: drives one Raft core, its log and its state machine.
//
// Everything here runs on one executor (the group's strand). The log's completions arrive by
// poll_log() on the same strand (log_events.h calls it); RocksDB and reads of old entries run on a
// worker pool and report back. One Ready after the other is carried out as server/raft/core.h
// demands.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <unordered_map>
#include <vector>

#include "proto/net/asio.h"
#include "proto/net/event.h"
#include "proto/net/worker.h"
#include "proto/service.pb.h"
#include "server/node/entry_cache.h"
#include "server/node/freshness.h"
#include "server/node/log_garbage.h"
#include "server/node/membership.h"
#include "server/node/space_watch.h"
#include "server/node/transport_interface.h"
#include "server/raft/core.h"
#include "storage/kv/state_machine.h"
#include "storage/log/log_store.h"

namespace ballast::server {

struct NodeOptions {
  raft::Options raft;
  // In force before the first entry of the log. Empty at a node that joined later.
  pb::ConfigurationEntry founding;
  std::string disk;     // the disk_uuid, 16 bytes
  std::string address;  // where others reach this node; empty: as the configuration says
  size_t cache_bytes = 64ull << 20;
  // See Node::rows_lost().
  bool rows_lost = false;
  // Of the log that stays readable for those who lag, at least. What was applied before may be
  // forgotten: then they catch up from a snapshot. 0: nothing is ever forgotten.
  uint64_t log_keep_bytes = 0;
  // The primary's log does not reach back to where this node's ends, or an entry can't be applied
  // here: a snapshot of this index or a later one is to be installed. Called again and again until
  // then, on the strand.
  std::function<void(Index)> on_snapshot_needed;
  // A block's bytes from another member. Null: there is none.
  std::function<asio::awaitable<Result<Bytes>>(Digest)> fetch_block;
  SpaceOptions space;
  // Called when this node can't go on: its log can't be read back, or an entry can't be applied.
  // What it still does afterwards must not matter. Null: the process stops.
  std::function<void(const Error&)> on_fatal;
};

class Node {
 public:
  // An entry that somebody wants in the log; the node gives it term and index. A configuration goes
  // alone; if it is joint, the node leaves it by itself once it is committed.
  struct Draft {
    EntryKind kind = EntryKind::kCommit;
    Bytes header;
    Bytes payload;
    bool frees = false;  // nothing but deletes: a full disk still takes it
  };
  struct Written {
    pb::Token token;
    pb::AckLevel reached = pb::ACK_ASYNC;
    pb::ApplyResult result;  // of the last draft; empty for an async ack
  };

  Node(asio::any_io_executor strand, net::Workers workers, NodeOptions options,
       std::unique_ptr<storage::LogStore> log, std::unique_ptr<storage::StateMachine> state);
  ~Node();

  // Begins to tick. `sender` outlives the node's last turn on the strand.
  void start(PeerSender& sender);
  // Stops ticking and taking writes, finishes what is being applied, fails everyone who waits.
  asio::awaitable<void> stop();

  // The log has completions: they run now.
  void poll_log();

  // ---- from the transport ----
  // `entries` are those of an Append, with their bytes; else empty.
  void step(const raft::Message& message, std::vector<Entry> entries);
  // The peer's connection to this node broke: if it is the leader, it may be dead.
  void peer_lost(NodeId peer);
  // This node's connection to the peer broke or is new: what was on its way is lost.
  void link_reset(NodeId peer);
  // The bytes of entries that the core wants sent; empty if they were overwritten meanwhile.
  asio::awaitable<std::vector<Entry>> entries_for(std::vector<EntryMeta> metas);
  // So many bytes were read for another node, which nobody waits for: now and then the log's writes
  // go first. Waits until none is under way, but not for long.
  asio::awaitable<void> give_way(uint64_t bytes);
  // Waits while more received bytes than the node's budget are not durable yet.
  asio::awaitable<void> admit();
  // Waits while the log has no place for the entries of an Append. False if `gone` says meanwhile
  // that nobody needs them any more.
  asio::awaitable<bool> room_for(std::span<const Entry> entries, std::function<bool()> gone);

  // A member has shown its disk and address; the primary sees to it that the configuration says so.
  void learn(NodeId member, ShownMember shown);
  // Whether, and how far, whoever greets so may be believed now; see check_greeting().
  Result<Trust> trust(const Greeting& greeting) const;
  OwnDisk own_disk() const { return {disk_, joined_}; }

  // ---- from the service ----
  // Proposes the drafts as consecutive entries and waits for the ack level. Errors: those of
  // Core::propose; kNoSpace if this node, or too many others, could not store them; kUnavailable if
  // another primary overwrote them (nothing happened); kUnknownOutcome at the deadline;
  // kAckNotReached for sync_all if only a majority has them.
  asio::awaitable<Result<Written>> write(std::vector<Draft> drafts, pb::AckLevel ack,
                                         Clock::time_point deadline);
  // Waits until the write of a token has reached the level. Errors as write().
  asio::awaitable<Result<pb::AckLevel>> wait(pb::Token token, pb::AckLevel ack,
                                             Clock::time_point deadline);
  // Returns when the state shows everything acknowledged before the call (ReadIndex).
  asio::awaitable<Status> linearize(Clock::time_point deadline);
  // Returns when the state shows everything that was acknowledged earlier than `bound` before the
  // call: at once while it is known to, else as linearize(). Errors: kTooStale if it can't be known
  // here, now or by the deadline.
  asio::awaitable<Status> freshen(std::chrono::microseconds bound, Clock::time_point deadline);
  // Changes the members to `target`, by way of a joint configuration if the voters change, and
  // returns when that is committed. Errors: those of Core::propose and of write().
  asio::awaitable<Status> change_members(pb::ConfigurationEntry target, Clock::time_point deadline);
  // Whether change_members() would begin now.
  Status may_change_members(const pb::ConfigurationEntry& target) const;
  // The newest configuration is committed, and not joint.
  bool members_settled() const;

  // Hands leadership over if this node has it, and does not take it until undrain(). Errors: those
  // of transfer_leadership(); the node is not drained then.
  asio::awaitable<Status> drain(Clock::time_point deadline);
  void undrain();
  bool drained() const { return drained_; }
  // The disk has no space for clients' writes; what is known of it.
  bool full() const { return full_; }
  const storage::Space& space() const { return space_.space(); }
  // Returns the new leader when leadership has moved.
  asio::awaitable<Result<NodeId>> transfer_leadership(NodeId to, Clock::time_point deadline);

  // Flushes the rows and lets go of every log segment that this node can do without, as it does by
  // itself from time to time. True if there was more to do than time. Errors: those of a flush;
  // kNoSpace, kUnavailable.
  asio::awaitable<Result<bool>> collect_garbage(Clock::time_point until);
  // What there is to let go of. Errors: kCorrupt, kIo.
  asio::awaitable<Result<Stock>> take_stock() const;

  const raft::Core& core() const { return core_; }
  const Membership& membership() const { return membership_; }
  const storage::LogStore& log() const { return *log_; }
  const storage::StateMachine& state() const { return *state_; }
  // Of the entries behind `match`: what a follower still has to receive.
  uint64_t bytes_after(Index match) const;
  // Whether this node has the entries behind `index`, and will not forget them for a while.
  bool log_goes_on_from(Index index) const;
  // Puts the bytes of a damaged block back. Errors: those of StateMachine::restore_block();
  // kUnavailable if the node stops.
  asio::awaitable<Status> restore_block(Digest digest, Bytes bytes);
  // The rows were damaged and given up, or what the log has forgotten is not in them. Until a
  // snapshot has taken their place this node stores the log and votes, but knows of nothing and
  // does not lead.
  bool rows_lost() const { return rows_lost_; }
  // Keeps log segments that no block lies in any more while somebody counts on them.
  void hold_segments(bool hold) { segments_held_ = hold; }
  uint64_t exposure_bytes() const { return exposure_bytes_; }
  Clock::time_point leader_since() const { return leader_since_; }
  // How often this node asked a quorum for the index of a read.
  uint64_t read_probes() const { return read_probes_; }
  // How many reads freshen() let pass.
  uint64_t bounded_reads() const { return bounded_reads_; }

 private:
  using ApplyOutcome = Result<pb::ApplyResult>;
  struct Waiter {
    Term term;
    std::shared_ptr<net::Promise<ApplyOutcome>> promise;
  };
  using FlushAsked = std::shared_ptr<net::Promise<Status>>;
  struct Exposed {
    Index index;
    uint64_t bytes = 0;
  };
  struct Restore {
    Digest digest;
    Bytes bytes;
    std::shared_ptr<net::Promise<Status>> done;
  };

  asio::awaitable<void> tick_loop();
  void tick();
  void wake();
  void process_ready();
  void store(raft::Ready& ready);
  void note_membership(std::span<const Entry> stored);
  void leave_joint();
  void pin_members();
  Status propose_members(const pb::ConfigurationEntry& next);
  std::vector<Entry> take_bytes(std::span<const EntryMeta> metas);
  // Asks for the index of a read: resolve_reads() takes the answer for the id that this returns.
  Result<uint64_t> probe();
  void resolve_reads(std::span<const raft::ReadState> reads);
  std::unexpected<Error> too_stale(std::chrono::microseconds bound, std::string_view why) const;
  void note_leadership();
  void note_commit(Index commit);
  Result<Index> propose(std::vector<Draft> drafts);
  asio::awaitable<void> apply_loop();
  asio::awaitable<std::vector<storage::Committed>> next_batch();
  template <class Read>
  asio::awaitable<std::vector<Read>> read_log(Index first, Index last,
                                              Result<std::vector<Read>> (storage::LogRead::*how)());
  template <class Read, class Cached>
  asio::awaitable<std::vector<Read>> collect(std::vector<EntryMeta> metas, Cached cached,
                                             Result<std::vector<Read>> (storage::LogRead::*how)());
  asio::awaitable<bool> mend_log(std::shared_ptr<storage::LogRead> read);
  asio::awaitable<Status> mend_payload(storage::Committed head);
  asio::awaitable<bool> get_over(const Error& error, Index last);
  asio::awaitable<void> restore_next();
  asio::awaitable<bool> bring(Digest digest);
  asio::awaitable<void> wait_for_rows(Index index);
  void fail_stop(std::string_view what, const Error& error);
  void fail_lost_waiters();
  void complete_waiters(std::span<const storage::Committed> entries,
                        std::span<const pb::ApplyResult> results);
  asio::awaitable<Result<pb::ApplyResult>> wait_applied(Index index, Term term,
                                                        Clock::time_point deadline);
  asio::awaitable<Status> wait_everywhere(Index index, Term term, Clock::time_point deadline);
  bool durable_everywhere(Index index) const;
  asio::awaitable<void> expire_loop();
  asio::awaitable<void> flush_loop();
  asio::awaitable<Status> flush_rows();
  static void answer_flushes(const std::vector<FlushAsked>& asked, const Status& status);
  asio::awaitable<bool> may_flush();
  void flush_soon();
  asio::awaitable<bool> can_make_room();
  void note_freed();
  std::vector<HomeFate> fates_now(const Stock& stock) const;
  std::vector<uint64_t> free_segments(const Stock& stock);
  asio::awaitable<Status> empty_next(std::vector<uint64_t> segments);
  void trim_spares(const Stock& stock);
  void trim_spares(uint64_t bytes);
  asio::awaitable<void> move_blocks();
  Index forgettable(Index flushed) const;
  void forget_log(Index flushed);
  asio::awaitable<void> space_loop();
  void note_space();
  Status check_space(std::span<const Draft> drafts) const;
  asio::awaitable<void> segment_for(std::span<const Draft> drafts, Clock::time_point deadline);
  std::unexpected<Error> no_majority_with_space() const;
  bool has_room(std::span<const Entry> entries) const;

  std::function<void(const Error&)> on_fatal_;
  std::function<void(Index)> on_snapshot_needed_;
  std::function<asio::awaitable<Result<Bytes>>(Digest)> fetch_block_;
  const uint64_t log_keep_bytes_;
  const std::string disk_;
  const bool joined_;
  asio::any_io_executor strand_;
  net::Workers workers_;
  std::unique_ptr<storage::LogStore> log_;
  std::unique_ptr<storage::StateMachine> state_;
  const bool rows_lost_;
  Membership membership_;
  raft::Core core_;
  EntryCache cache_;
  PeerSender* sender_ = nullptr;

  // Bytes of entries that the core was given and has not named in a Ready yet.
  std::map<std::pair<Index, Term>, Entry> incoming_;
  std::multimap<Index, Waiter> waiters_;
  std::unordered_map<uint64_t, std::shared_ptr<net::Promise<raft::ReadState>>> reads_;
  std::deque<Restore> restores_;  // for the loop that applies: the rows have one writer
  bool blocked_ = false;          // the next entry can't be applied
  std::optional<Digest> mended_;  // what it needed and could not read, and was brought
  Index singly_until_;            // entries are applied one by one up to here
  std::deque<Exposed> exposed_;
  uint64_t exposure_bytes_ = 0;

  Timer tick_timer_;
  Timer expire_timer_;
  Timer flush_timer_;
  Timer space_timer_;
  net::Signal applied_signal_;    // applied_ moved, or the node stops
  net::Signal commit_signal_;     // commit_ moved, or the node stops
  net::Signal stored_signal_;     // bytes became durable
  net::Signal progress_signal_;   // a follower's match or the leadership may have moved
  net::Signal freshness_signal_;  // freshness_ may have changed, or the node stops
  net::Signal let_go_signal_;     // forgetting_ or emptying_ is over, or the node stops
  Index commit_;
  Index applied_;
  uint64_t unflushed_bytes_ = 0;         // of the log, applied since the rows were flushed
  std::vector<FlushAsked> flush_asked_;  // who waits for the flush that begins next
  Freshness freshness_;
  uint64_t read_probes_ = 0;
  uint64_t bounded_reads_ = 0;
  NodeId leader_seen_;
  std::map<NodeId, ShownMember> shown_;
  bool pin_due_ = false;  // something that pin_members() depends on has changed
  bool drained_ = false;
  bool forgetting_ = false;  // the log's new beginning is being written
  bool segments_held_ = false;
  std::optional<uint64_t> emptying_;     // the segment whose last blocks move out
  bool emptied_ = false;                 // a flush frees one, and looks for the next
  bool flush_soon_ = false;              // or a look at least whether one is due
  std::pair<Index, Index> looked_at_;    // applied, and where the log began
  uint64_t live_at_look_ = 0;            // bytes of blocks
  uint64_t moved_bytes_ = 0;             // out of segments, since the start
  std::set<uint64_t> unreadable_homes_;  // segments with blocks that can't be moved
  uint64_t read_for_others_ = 0;         // bytes, since give_way() waited
  SpaceWatch space_;
  bool full_ = false;
  bool no_space_for_rows_ = false;  // the state machine has said so
  int starved_ = 0;                 // Appends that wait for room in the log
  Clock::time_point full_handover_at_;
  Clock::time_point leader_since_;
  uint64_t ticks_ = 0;
  bool wake_posted_ = false;
  bool stopping_ = false;
  int loops_ = 0;  // coroutines that stop() waits for
};

}  // namespace ballast::server
