#include "server/node/node.h"

#include <spdlog/spdlog.h>

#include "proto/base/check.h"
#include "proto/base/limits.h"
#include "proto/base/planted.h"
#include "proto/net/worker.h"
#include "proto/storage.pb.h"

namespace ballast::server {
namespace {

constexpr uint64_t kTicksAtOnceMax = 20;  // after a pause of the process
constexpr auto kExpirePeriod = std::chrono::seconds(1);
constexpr uint32_t kExpireRows = 1000;

// The members where the log begins. If they changed later and that is applied, those of before are
// forgotten; nobody asks for them, since what is applied is never replaced.
Membership first_membership(pb::ConfigurationEntry founding, Index base,
                            const storage::StateMachine& state) {
  if (base == Index()) return Membership(std::move(founding));
  const auto row = state.configuration();
  BALLAST_CHECK(row.has_value(), "reading the members: {}", row.error().message);
  if (!*row) return Membership(std::move(founding));
  auto members = parse_configuration(Bytes::copy_of((*row)->entry()));
  BALLAST_CHECK(members.has_value(), "the members: {}", members.error().message);
  return Membership(*std::move(members), std::min(base, Index((*row)->index())));
}

// And then the log's configuration entries. A log that can't be read back is no log.
Membership read_membership(pb::ConfigurationEntry founding, const storage::LogStore& log,
                           const storage::StateMachine& state) {
  Membership membership = first_membership(std::move(founding), log.base().index, state);
  for (const EntryMeta& meta : log.entries()) {
    if (meta.kind != EntryKind::kConfiguration) continue;
    auto read = log.prepare_read(meta.index, meta.index);
    BALLAST_CHECK(read.has_value());
    const auto entries = (*read)->heads();
    BALLAST_CHECK(entries.has_value(), "reading the configuration of entry {}: {}", meta.index,
                  entries.error().message);
    auto members = parse_configuration(entries->front().header);
    BALLAST_CHECK(members.has_value(), "entry {}: {}", meta.index, members.error().message);
    membership.append(meta.index, *std::move(members));
  }
  return membership;
}

}  // namespace

Node::Node(asio::any_io_executor strand, net::Workers workers, NodeOptions options,
           std::unique_ptr<storage::LogStore> log, std::unique_ptr<storage::StateMachine> state)
    : on_fatal_(std::move(options.on_fatal)),
      on_snapshot_needed_(std::move(options.on_snapshot_needed)),
      fetch_block_(std::move(options.fetch_block)),
      log_keep_bytes_(options.log_keep_bytes),
      disk_(options.disk),
      joined_(options.founding.members().empty()),
      strand_(strand),
      workers_(std::move(workers)),
      log_(std::move(log)),
      state_(std::move(state)),
      rows_lost_(options.rows_lost || state_->applied().index < log_->base().index),
      membership_(read_membership(options.founding, *log_, *state_)),
      core_(options.raft, {.hard_state = log_->hard_state(),
                           .log = log_->entries(),
                           .applied = std::max(state_->applied().index, log_->base().index),
                           .configuration = membership_.first().configuration,
                           .configurations = membership_.later(),
                           .configuration_index = membership_.first().index,
                           .base = {log_->base().index, log_->base().term},
                           .base_chain = log_->base().chain}),
      cache_(options.cache_bytes),
      tick_timer_(strand),
      expire_timer_(strand),
      flush_timer_(strand),
      space_timer_(strand),
      applied_signal_(strand),
      commit_signal_(strand),
      stored_signal_(strand),
      progress_signal_(strand),
      freshness_signal_(strand),
      let_go_signal_(strand),
      commit_(state_->applied().index),
      applied_(state_->applied().index),
      freshness_(applied_),
      space_(std::move(options.space)),
      leader_since_(Clock::now()) {
  cache_.set_durable(log_->durable());
  if (!disk_.empty()) shown_[options.raft.id] = {disk_, options.address, joined_};
}

Node::~Node() = default;

void Node::start(PeerSender& sender) {
  sender_ = &sender;
  const auto spawn = [this](asio::awaitable<void> (Node::*loop)()) {
    ++loops_;
    asio::co_spawn(strand_, (this->*loop)(), [this](std::exception_ptr error) {
      BALLAST_CHECK(!error, "a loop of the node threw");
      --loops_;
      applied_signal_.notify();
    });
  };
  spawn(&Node::tick_loop);
  spawn(&Node::apply_loop);
  spawn(&Node::expire_loop);
  spawn(&Node::flush_loop);
  if (space_.watches()) {
    if (const auto space = space_.options().measure()) space_.note(*space);
    spawn(&Node::space_loop);
  }
  wake();
}

asio::awaitable<void> Node::stop() {
  stopping_ = true;
  tick_timer_.cancel();
  expire_timer_.cancel();
  flush_timer_.cancel();
  space_timer_.cancel();
  commit_signal_.notify();
  stored_signal_.notify();
  progress_signal_.notify();
  freshness_signal_.notify();
  let_go_signal_.notify();
  answer_flushes(flush_asked_, fail(Errc::kUnavailable, "the node is shutting down"));
  for (auto& [index, waiter] : waiters_)
    waiter.promise->set(fail(Errc::kUnknownOutcome, "the node is shutting down"));
  for (Restore& restore : restores_)
    restore.done->set(fail(Errc::kUnavailable, "the node is shutting down"));
  for (auto& [id, promise] : reads_) promise->set({.id = id, .index = Index{}, .refused = true});
  while (loops_ > 0) co_await applied_signal_.wait_until(Clock::time_point::max());
}

// ---- inputs -------------------------------------------------------------------------------

asio::awaitable<void> Node::tick_loop() {
  Clock::time_point next = Clock::now() + limits::kTick;
  while (!stopping_) {
    tick_timer_.expires_at(next);
    co_await tick_timer_.async_wait(kToken);
    const auto late = Clock::now() - next;
    const uint64_t due = 1 + static_cast<uint64_t>(std::max(late, late.zero()) / limits::kTick);
    // After a long pause the missed time is not made up for: the messages that wait in the
    // sockets tell better what happened meanwhile.
    for (uint64_t i = 0; i < std::min(due, kTicksAtOnceMax); ++i) tick();
    next += due * limits::kTick;
    wake();
  }
}

void Node::tick() {
  if (++ticks_ % limits::kHeartbeatTicks == 0) log_->note_durable();
  const std::chrono::microseconds waiting(log_->oldest_pending_us());
  if (waiting >= limits::kDiskDead) {
    fail_stop("waiting for the log",
              {Errc::kIo, fmt::format("a write has been under way for {} s: the disk does not "
                                      "answer; another node has taken over, or will",
                                      waiting / std::chrono::seconds(1))});
  }
  note_space();
  core_.set_resigned(drained_ || rows_lost_ || blocked_ || waiting >= limits::kDiskStalled ||
                     space_.stuck(log_->room()));
  core_.tick();
}

void Node::poll_log() {
  log_->poll();
  stored_signal_.notify();  // there may be room for more
  wake();
}

void Node::step(const raft::Message& message, std::vector<Entry> entries) {
  if (stopping_) return;
  for (Entry& entry : entries) {
    const auto key = std::make_pair(entry.index, entry.term);
    incoming_.insert_or_assign(key, std::move(entry));
  }
  core_.step(message);
  // Bytes that this Append brought and the core did not want must not stay.
  if (!entries.empty())
    process_ready();
  else
    wake();
}

void Node::peer_lost(NodeId peer) {
  if (stopping_) return;
  core_.peer_lost(peer);
  wake();
}

void Node::link_reset(NodeId peer) {
  // A follower's own connections say nothing about its leader.
  if (core_.role() == raft::Role::kLeader) peer_lost(peer);
}

asio::awaitable<void> Node::admit() {
  while (!stopping_ && cache_.pending_bytes() > limits::kReceiveBytesMax)
    co_await stored_signal_.wait_until(Clock::time_point::max());
}

uint64_t Node::bytes_after(Index match) const {
  uint64_t bytes = 0;
  for (Index index = std::max(match, core_.base().index) + 1; index <= core_.last(); ++index)
    bytes += core_.meta_at(index).bytes();
  return bytes;
}

// ---- carrying out a Ready -----------------------------------------------------------------

// Collects the inputs of one turn of the loop, so that they share a log write and messages.
void Node::wake() {
  if (wake_posted_ || stopping_) return;
  wake_posted_ = true;
  asio::post(strand_, [this] {
    wake_posted_ = false;
    if (!stopping_) process_ready();
  });
}

void Node::process_ready() {
  raft::Ready ready = core_.ready();
  if (ready.ticket != 0) store(ready);
  if (!ready.entries.empty() && core_.role() != raft::Role::kLeader) fail_lost_waiters();
  incoming_.clear();
  for (raft::Message& message : ready.messages) sender_->send(std::move(message));
  note_leadership();
  note_commit(ready.commit);
  leave_joint();
  pin_members();
  resolve_reads(ready.reads);
  if (ready.snapshot_needed && on_snapshot_needed_) on_snapshot_needed_(ready.snapshot_needed);
  progress_signal_.notify();
}

void Node::store(raft::Ready& ready) {
  std::vector<Entry> entries = take_bytes(ready.entries);
  note_membership(entries);
  cache_.append(entries);
  log_->append(ready.hard_state, std::move(entries), [this, ticket = ready.ticket] {
    core_.storage_done(ticket);
    cache_.set_durable(log_->durable());
    stored_signal_.notify();
  });
}

std::vector<Entry> Node::take_bytes(std::span<const EntryMeta> metas) {
  std::vector<Entry> entries;
  entries.reserve(metas.size());
  for (const EntryMeta& meta : metas) {
    auto found = incoming_.find({meta.index, meta.term});
    if (found != incoming_.end()) {
      entries.push_back(std::move(found->second));
    } else {
      // The core makes entries itself only when a term begins.
      BALLAST_CHECK(meta.kind == EntryKind::kNoop && meta.bytes() == 0,
                    "entry {} of term {} came without its bytes", meta.index, meta.term);
      entries.emplace_back(meta.term, meta.index, meta.kind);
    }
    BALLAST_CHECK(entries.back().meta() == meta, "entry {} is not what the core was told",
                  meta.index);
  }
  return entries;
}

void Node::note_leadership() {
  if (core_.leader() == leader_seen_) return;
  leader_seen_ = core_.leader();
  pin_due_ = true;
  leader_since_ = Clock::now();
  if (leader_seen_)
    spdlog::info("term {}: node {} leads", core_.term(), leader_seen_);
  else
    spdlog::info("term {}: no primary is known", core_.term());
}

void Node::note_commit(Index commit) {
  if (commit <= commit_) return;
  commit_ = commit;
  while (!exposed_.empty() && exposed_.front().index <= commit_) {
    exposure_bytes_ -= exposed_.front().bytes;
    exposed_.pop_front();
  }
  commit_signal_.notify();
}

void Node::fail_stop(std::string_view what, const Error& error) {
  BALLAST_CHECK(on_fatal_, "{}: {}", what, error.message);
  stopping_ = true;
  on_fatal_(error);
}

// ---- writes -----------------------------------------------------------------------------------

// Returns the index of the first entry.
Result<Index> Node::propose(std::vector<Draft> drafts) {
  BALLAST_TRY_STATUS(check_space(drafts));
  std::vector<Entry> entries;  // the core says where they stand
  std::vector<raft::Core::Proposal> proposals;
  for (Draft& draft : drafts) {
    const Entry& entry = entries.emplace_back(Term(), Index(), draft.kind, std::move(draft.header),
                                              std::move(draft.payload));
    const EntryMeta meta = entry.meta();
    raft::Core::Proposal proposal{.kind = meta.kind,
                                  .header_bytes = meta.header_bytes,
                                  .payload_bytes = meta.payload_bytes,
                                  .checksum = meta.checksum};
    if (entry.kind == EntryKind::kConfiguration) {
      BALLAST_TRY(const auto members, parse_configuration(entry.header));
      proposal.configuration = configuration_of(members);
    }
    proposals.push_back(std::move(proposal));
  }
  BALLAST_TRY(const Index first, core_.propose(proposals));
  for (size_t i = 0; i < entries.size(); ++i) {
    entries[i].term = core_.term();
    entries[i].index = first + i;
    incoming_.insert_or_assign({entries[i].index, entries[i].term}, std::move(entries[i]));
  }
  wake();
  return first;
}

asio::awaitable<Result<Node::Written>> Node::write(std::vector<Draft> drafts, pb::AckLevel ack,
                                                   Clock::time_point deadline) {
  if (stopping_) co_return fail(Errc::kUnavailable, "the node is shutting down");
  uint64_t bytes = 0;
  for (const Draft& draft : drafts) bytes += draft.header.size() + draft.payload.size();
  const size_t count = drafts.size();
  co_await segment_for(drafts, deadline);
  BALLAST_CO_TRY(const Index first, propose(std::move(drafts)));
  const Term term = core_.term();

  const Index last = first + (count - 1);
  Written written;
  written.token.set_group(1);
  written.token.set_term(term.value());
  written.token.set_index(last.value());
  if (ack == pb::ACK_ASYNC) {
    exposed_.push_back({last, bytes});
    exposure_bytes_ += bytes;
    co_return written;
  }
  BALLAST_CO_TRY(written.result, co_await wait_applied(last, term, deadline));
  written.reached = pb::ACK_SYNC;
  if (ack == pb::ACK_SYNC_ALL) {
    BALLAST_CO_TRY_STATUS(co_await wait_everywhere(last, term, deadline));
    written.reached = pb::ACK_SYNC_ALL;
  }
  co_return written;
}

asio::awaitable<Result<pb::ApplyResult>> Node::wait_applied(Index index, Term term,
                                                            Clock::time_point deadline) {
  auto promise = std::make_shared<net::Promise<ApplyOutcome>>(strand_);
  const auto position = waiters_.emplace(index, Waiter{term, promise});
  std::optional<ApplyOutcome> outcome = co_await promise->get(deadline);
  if (outcome) co_return *std::move(outcome);  // complete_waiters() or stop() dropped the waiter
  waiters_.erase(position);
  co_return fail(Errc::kUnknownOutcome,
                 "entry {} was not committed before the deadline; it may still be", index);
}

bool Node::durable_everywhere(Index index) const {
  if (BALLAST_PLANTED(kAckAllOfMajority)) return true;
  const raft::View view = core_.view();
  if (view.role != raft::Role::kLeader || view.stable < index) return false;
  return std::ranges::all_of(
      view.peers, [&](const raft::PeerView& peer) { return peer.learner || peer.match >= index; });
}

asio::awaitable<Status> Node::wait_everywhere(Index index, Term term, Clock::time_point deadline) {
  while (!durable_everywhere(index)) {
    const bool leads = core_.role() == raft::Role::kLeader && core_.term() == term;
    if (stopping_ || !leads || !co_await progress_signal_.wait_until(deadline))
      co_return fail(Errc::kAckNotReached,
                     "entry {} is durable on a majority, but not on every voter: see the status "
                     "for who lags",
                     index);
  }
  co_return Status{};
}

asio::awaitable<Result<pb::AckLevel>> Node::wait(pb::Token token, pb::AckLevel ack,
                                                 Clock::time_point deadline) {
  const Index index(token.index());
  const Term term(token.term());
  // Only a primary that has committed an entry of its own term knows what became of all others.
  if (!core_.ready_to_serve() || term > core_.term())
    co_return fail(Errc::kNotLeader, "this node can't tell: it is not the primary, or not yet");
  if (index > core_.last() || core_.term_at(index) != term)
    co_return fail(Errc::kConflict,
                   "the write at index {} of term {} was lost: another primary took over", index,
                   term);
  if (ack == pb::ACK_ASYNC) co_return ack;
  while (applied_ < index) {
    if (stopping_ || !co_await applied_signal_.wait_until(deadline))
      co_return fail(Errc::kUnknownOutcome, "entry {} was not committed before the deadline",
                     index);
    if (core_.term_at(index) != term)
      co_return fail(Errc::kConflict,
                     "the write at index {} of term {} was lost: another primary took over", index,
                     term);
  }
  if (ack == pb::ACK_SYNC_ALL)
    BALLAST_CO_TRY_STATUS(co_await wait_everywhere(index, core_.term(), deadline));
  co_return ack;
}

// Reclaims blocks and sessions whose time is over: one entry at a time, from the primary.
asio::awaitable<void> Node::expire_loop() {
  while (!stopping_) {
    expire_timer_.expires_after(kExpirePeriod);
    co_await expire_timer_.async_wait(kToken);
    if (stopping_ || !core_.ready_to_serve() || !state_->has_expired(wall_clock_ms())) continue;
    pb::CommitEntry commit;
    commit.set_time_ms(wall_clock_ms());
    commit.add_operations()->mutable_expire()->set_rows_max(kExpireRows);
    std::vector<Draft> drafts(1);
    drafts[0].header = Bytes::copy_of(commit.SerializeAsString());
    drafts[0].frees = true;
    // Whoever leads when the period is over tries again.
    static_cast<void>(
        co_await write(std::move(drafts), pb::ACK_SYNC, Clock::now() + kExpirePeriod));
  }
}

// ---- leadership ---------------------------------------------------------------------------------

asio::awaitable<Result<NodeId>> Node::transfer_leadership(NodeId to, Clock::time_point deadline) {
  BALLAST_CO_TRY_STATUS(core_.transfer_leadership(to));
  const NodeId self = core_.view().id;
  wake();
  while (core_.leader() == self || !core_.leader()) {
    const bool given_up = core_.role() == raft::Role::kLeader && !core_.view().transfer_to;
    if (stopping_ || given_up || !co_await progress_signal_.wait_until(deadline))
      co_return fail(Errc::kUnavailable,
                     "leadership did not move: the target did not take over in time");
  }
  co_return core_.leader();
}

}  // namespace ballast::server
