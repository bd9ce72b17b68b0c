// Entries from memory or disk, and their way into the state machine.

#include <spdlog/spdlog.h>

#include "proto/base/check.h"
#include "proto/base/limits.h"
#include "proto/net/worker.h"
#include "server/node/node.h"

namespace ballast::server {
namespace {

constexpr size_t kApplyEntriesMax = 256;
constexpr auto kSpaceCheckPeriod = std::chrono::seconds(1);

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
      co_await commit_signal_.wait_until(Clock::now() + kSpaceCheckPeriod);
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
    note_freed();
    freshness_.applied(applied_);
    complete_waiters(entries, *results);
    applied_signal_.notify();
    freshness_signal_.notify();
  }
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
