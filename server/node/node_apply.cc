// Entries from memory or disk, and their way into the state machine.

#include <spdlog/spdlog.h>

#include "proto/base/check.h"
#include "proto/base/limits.h"
#include "proto/net/worker.h"
#include "server/node/log_garbage.h"
#include "server/node/node.h"

namespace ballast::server {
namespace {

constexpr size_t kApplyEntriesMax = 256;
constexpr uint64_t kMoveBytes = 8 * limits::kMiB;
constexpr auto kFlushCheckPeriod = std::chrono::seconds(1);
constexpr auto kFlushPeriod = std::chrono::seconds(30);
constexpr uint64_t kFlushBytes = 256 * limits::kMiB;
constexpr uint64_t kLagKeepFactor = 4;  // of what is kept in any case, for a follower that lags

}  // namespace

// ---- entries ------------------------------------------------------------------------------------

template <class Read>
asio::awaitable<std::vector<Read>> Node::read_log(
    Index first, Index last, Result<std::vector<Read>> (storage::LogRead::*how)()) {
  auto plan = log_->prepare_read(first, last);
  if (!plan) co_return std::vector<Read>{};
  std::shared_ptr<storage::LogRead> read = *std::move(plan);
  const auto carry_out = [read, how] { return (*read.*how)(); };
  auto entries = co_await net::on_worker(workers_.urgent, carry_out);
  if (!entries && co_await mend_log(read))
    entries = co_await net::on_worker(workers_.urgent, carry_out);
  // A log that can't be read back is no log: never pretend that there is nothing (design.md 5).
  if (!entries) {
    fail_stop("reading the log", entries.error());
    co_return std::vector<Read>{};
  }
  co_return *std::move(entries);
}

// What `cached` makes of the entries that are in memory, and `how` reads of the others.
template <class Read, class Cached>
asio::awaitable<std::vector<Read>> Node::collect(
    std::vector<EntryMeta> metas, Cached cached,
    Result<std::vector<Read>> (storage::LogRead::*how)()) {
  std::vector<Read> entries;
  entries.reserve(metas.size());
  for (size_t i = 0; i < metas.size();) {
    if (const Entry* entry = cache_.find(metas[i].index)) {
      entries.push_back(cached(*entry));
      ++i;
      continue;
    }
    size_t end = i + 1;
    while (end < metas.size() && cache_.find(metas[end].index) == nullptr) ++end;
    std::vector<Read> read = co_await read_log(metas[i].index, metas[end - 1].index, how);
    if (read.size() != end - i) co_return std::vector<Read>{};
    std::move(read.begin(), read.end(), std::back_inserter(entries));
    i = end;
  }
  for (size_t i = 0; i < metas.size(); ++i) {
    if (entries[i].meta() != metas[i]) co_return std::vector<Read>{};
  }
  co_return entries;
}

asio::awaitable<std::vector<Entry>> Node::entries_for(std::vector<EntryMeta> metas) {
  co_return co_await collect(
      std::move(metas), [](const Entry& entry) { return entry; }, &storage::LogRead::entries);
}

// ---- applying -----------------------------------------------------------------------------------

asio::awaitable<std::vector<storage::Committed>> Node::next_batch() {
  std::vector<EntryMeta> metas;
  size_t bytes = 0;
  const size_t entries_max = applied_ < singly_until_ ? 1 : kApplyEntriesMax;
  for (Index index = applied_ + 1; index <= commit_ && metas.size() < entries_max; ++index) {
    const EntryMeta meta = core_.meta_at(index);
    bytes += meta.bytes();
    if (!metas.empty() && bytes > limits::kApplyBatchBytesMax) break;
    metas.push_back(meta);
  }
  const auto cached = [this](const Entry& entry) {
    const bool nowhere = entry.payload.empty();
    return storage::committed(entry, nowhere ? storage::Place() : log_->place_of(entry.index));
  };
  auto batch = co_await collect(std::move(metas), cached, &storage::LogRead::heads);
  BALLAST_CHECK(!batch.empty() || stopping_,
                "committed entry {} is neither in memory nor in the log", applied_ + 1);
  co_return batch;
}

asio::awaitable<void> Node::apply_loop() {
  while (!stopping_) {
    if (!restores_.empty()) co_await restore_next();
    if (rows_lost_) {
      co_await wait_for_rows(log_->base().index);
      continue;
    }
    if (emptying_) co_await move_blocks();
    if (applied_ >= commit_) {
      if (!emptying_ && restores_.empty())
        co_await commit_signal_.wait_until(Clock::time_point::max());
      continue;
    }
    const std::vector<storage::Committed> entries = co_await next_batch();
    if (entries.empty()) break;  // stopping
    const auto results =
        co_await net::on_worker(workers_.urgent, [&] { return state_->apply(entries); });
    if (!results && results.error().code == Errc::kNoSpace) {
      if (!std::exchange(no_space_for_rows_, true))
        spdlog::warn("{}; it will be tried again", results.error().message);
      co_await commit_signal_.wait_until(Clock::now() + kFlushCheckPeriod);
      continue;
    }
    no_space_for_rows_ = false;
    // Nothing may be skipped.
    if (!results) {
      if (!co_await get_over(results.error(), entries.back().index)) break;
      continue;
    }
    blocked_ = false;
    mended_.reset();
    applied_ = entries.back().index;
    for (const storage::Committed& entry : entries) unflushed_bytes_ += entry.bytes();
    freshness_.applied(applied_);
    complete_waiters(entries, *results);
    applied_signal_.notify();
    freshness_signal_.notify();
  }
}

// Rows are small, so RocksDB by itself would flush them seldom; and what it had not flushed when
// the process was killed is applied again at the next start, before anything is served.
asio::awaitable<void> Node::flush_loop() {
  // Segments go when the rows are flushed: who keeps little of the log wants them to go early.
  const uint64_t enough =
      log_keep_bytes_ == 0 ? kFlushBytes : std::min(kFlushBytes, log_keep_bytes_);
  Clock::time_point flushed_at = Clock::now();
  // Of the homes that the last life left, some were spare, or about to be.
  bool first = !log_->homes().empty();
  while (!stopping_) {
    if (flush_asked_.empty()) {
      flush_timer_.expires_after(kFlushCheckPeriod);
      co_await flush_timer_.async_wait(kToken);
    }
    const bool late = Clock::now() - flushed_at >= kFlushPeriod;
    const bool due = unflushed_bytes_ >= enough || (unflushed_bytes_ > 0 && late) || emptied_;
    if (stopping_ || (!due && !first && flush_asked_.empty())) continue;
    // Who asks from here on wants one that begins later.
    const std::vector<FlushAsked> asked = std::exchange(flush_asked_, {});
    // RocksDB would take nothing more after a flush that found no space. What waits is in the log.
    // The last look at the disk may be a second old.
    if (space_.watches()) {
      if (const auto space = co_await net::on_worker(workers_.urgent, space_.options().measure))
        space_.note(*space);
      if (!space_.may_flush()) {
        answer_flushes(asked, fail(Errc::kNoSpace, "{}", space_.complaint()));
        continue;
      }
    }
    const uint64_t bytes = std::exchange(unflushed_bytes_, 0);
    emptied_ = false;
    flushed_at = Clock::now();
    const Status flushed = co_await flush_rows();
    answer_flushes(asked, flushed);
    if (flushed) {
      first = false;
      continue;
    }
    spdlog::warn("{}; it will be tried again", flushed.error().message);
    unflushed_bytes_ += bytes;
  }
}

// And then lets go of what the rows don't need any more.
asio::awaitable<Status> Node::flush_rows() {
  const Index applied = applied_;
  using Used = std::vector<storage::StateMachine::SegmentUse>;
  BALLAST_CO_TRY(const Used used,
                 co_await net::on_worker(workers_.background, [this]() -> Result<Used> {
                   // Counted first: what is unused now is unused durably after the flush, and stays
                   // so, since only entries that are still to be applied bring new places, in
                   // segments behind.
                   BALLAST_TRY(Used counted, state_->segments());
                   BALLAST_TRY_STATUS(state_->flush());
                   return counted;
                 }));
  if (stopping_) co_return Status{};
  free_segments(used);
  forget_log(applied);
  co_return Status{};
}

// A segment that is no part of the log any more is spare when no block lies in it. While half of
// it is live it stays; below that its blocks move into the database.
void Node::free_segments(std::span<const storage::StateMachine::SegmentUse> used) {
  if (segments_held_ || rows_lost_) return;
  for (const storage::LogStore::Home& home : log_->homes()) {
    const HomeFate fate = fate_of(home, used);
    if (fate == HomeFate::kRetires) {
      log_->retire_home(home.segment);
    } else if (fate == HomeFate::kEmpties && !emptying_ && !full_ &&
               !unreadable_homes_.contains(home.segment)) {
      emptying_ = home.segment;
      commit_signal_.notify();
    }
  }
  trim_spares(spare_budget(used));
}

void Node::trim_spares(uint64_t bytes) {
  if (const Status trimmed = log_->trim_spares(bytes); !trimmed)
    spdlog::warn("{}", trimmed.error().message);
}

// Spare segments are kept for what is written next while the log takes no more than twice what is
// live in it, and one at least. On a full disk others need the space.
uint64_t Node::spare_budget(std::span<const storage::StateMachine::SegmentUse> used) const {
  if (full_) return 0;
  uint64_t live = 0;
  for (const auto& use : used) live += use.bytes;
  const uint64_t others = log_->disk_bytes() - log_->spare_bytes();
  return std::max(space_.options().segment_bytes, 2 * live - std::min(2 * live, others));
}

// One step, between two batches of entries: the rows have one writer.
asio::awaitable<void> Node::move_blocks() {
  const uint64_t segment = *emptying_;
  const auto moved = co_await net::on_worker(
      workers_.urgent, [&] { return state_->move_blocks(segment, kMoveBytes); });
  if (!moved && moved.error().code == Errc::kIo) {
    fail_stop("moving blocks out of a log segment", moved.error());
    co_return;
  }
  if (!moved && moved.error().code != Errc::kNoSpace) {
    spdlog::error("log segment {} must stay: {}", segment, moved.error().message);
    unreadable_homes_.insert(segment);
  }
  if (moved && *moved > 0) {
    unflushed_bytes_ += *moved;
    moved_bytes_ += *moved;
    co_return;
  }
  emptying_.reset();
  emptied_ = moved.has_value();
  let_go_signal_.notify();
}

// The last entry up to `flushed` that nobody needs: there are enough behind it, and no follower is
// about to ask for it, unless it lags by far.
Index Node::forgettable(Index flushed) const {
  const raft::View view = core_.view();
  Index upto = flushed;
  for (const raft::PeerView& peer : view.peers) {
    if (peer.active && bytes_after(peer.match) < kLagKeepFactor * log_keep_bytes_)
      upto = std::min(upto, peer.match);
  }
  uint64_t bytes = 0;
  for (Index index = core_.last(); index > core_.base().index; index = index - 1) {
    bytes += core_.meta_at(index).bytes();
    if (bytes >= log_keep_bytes_) return std::min(upto, index - 1);
  }
  return core_.base().index;
}

bool Node::log_goes_on_from(Index index) const {
  if (index < core_.base().index || index > core_.commit()) return false;
  return log_keep_bytes_ == 0 || bytes_after(index) <= log_keep_bytes_ / 2;
}

void Node::forget_log(Index flushed) {
  if (log_keep_bytes_ == 0 || forgetting_ || stopping_) return;
  const Index upto = log_->may_begin_behind(forgettable(flushed));
  if (upto <= log_->base().index) return;
  // Its rows name the members from then on.
  const auto members = state_->configuration();
  if (!members || (!*members && membership_.newest_index() != Index())) return;
  forgetting_ = true;
  log_->begin_behind({upto, core_.term_at(upto), core_.chain_at(upto)}, [this, upto] {
    forgetting_ = false;
    let_go_signal_.notify();
    core_.compact(upto);
    spdlog::info("the log begins behind entry {} now", upto);
  });
}

// Another primary's entries replaced some of ours: those can't be committed any more, since its
// log, which is up to date, does not have them. Nobody needs to wait for the index to be applied.
void Node::fail_lost_waiters() {
  for (auto waiter = waiters_.begin(); waiter != waiters_.end();) {
    if (core_.term_at(waiter->first) == waiter->second.term) {
      ++waiter;
      continue;
    }
    waiter->second.promise->set(
        fail(Errc::kUnavailable, "another primary took over before this write was replicated"));
    waiter = waiters_.erase(waiter);
  }
}

void Node::complete_waiters(std::span<const storage::Committed> entries,
                            std::span<const pb::ApplyResult> results) {
  for (size_t i = 0; i < entries.size(); ++i) {
    const auto [begin, end] = waiters_.equal_range(entries[i].index);
    for (auto waiter = begin; waiter != end; ++waiter) {
      if (waiter->second.term == entries[i].term)
        waiter->second.promise->set(results[i]);
      else
        waiter->second.promise->set(
            fail(Errc::kUnavailable, "another primary took over before this write was replicated"));
    }
    waiters_.erase(begin, end);
  }
}

}  // namespace ballast::server
