// Letting go of space: rows are flushed, and then what they don't need of the log may go.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <tuple>

#include "proto/base/limits.h"
#include "proto/net/worker.h"
#include "server/node/log_garbage.h"
#include "server/node/node.h"

namespace ballast::server {
namespace {

constexpr uint64_t kMoveBytes = 8 * limits::kMiB;
constexpr auto kFlushCheckPeriod = std::chrono::seconds(1);
constexpr auto kFlushPeriod = std::chrono::seconds(30);
constexpr uint64_t kFlushBytes = 256 * limits::kMiB;
constexpr uint64_t kFreedShare = 16;    // when this part of all has gone, a flush may be due
constexpr uint64_t kLagKeepFactor = 4;  // of what is kept in any case, for a follower that lags

}  // namespace

// ---- flushing -----------------------------------------------------------------------------------

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
    if (!flush_soon_) {
      flush_timer_.expires_after(kFlushCheckPeriod);
      co_await flush_timer_.async_wait(kToken);
    }
    flush_soon_ = false;
    const bool late = Clock::now() - flushed_at >= kFlushPeriod;
    bool due = unflushed_bytes_ >= enough || (unflushed_bytes_ > 0 && late) || emptied_ || first ||
               !flush_asked_.empty();
    if (!due && !stopping_) due = co_await can_make_room();
    if (stopping_ || !due) continue;
    // Who asks from here on wants one that begins later.
    const std::vector<FlushAsked> asked = std::exchange(flush_asked_, {});
    if (!co_await may_flush()) {
      answer_flushes(asked, fail(Errc::kNoSpace, "{}", space_.complaint()));
      continue;
    }
    const uint64_t bytes = std::exchange(unflushed_bytes_, 0);
    emptied_ = false;
    flushed_at = Clock::now();
    const Status flushed = co_await flush_rows();
    answer_flushes(asked, flushed);
    if (flushed) {
      first = false;
      looked_at_ = {};  // the database has grown
      continue;
    }
    spdlog::warn("{}; it will be tried again", flushed.error().message);
    unflushed_bytes_ += bytes;
  }
}

// RocksDB would take nothing more after a flush that found no space. What waits is in the log. The
// last look at the disk may be a second old.
asio::awaitable<bool> Node::may_flush() {
  if (!space_.watches()) co_return true;
  if (const auto space = co_await net::on_worker(workers_.urgent, space_.options().measure))
    space_.note(*space);
  co_return space_.may_flush();
}

void Node::flush_soon() {
  flush_soon_ = true;
  flush_timer_.cancel();
}

// And then lets go of what the rows don't need any more. Counted first: what is unused now is
// unused durably after the flush, and stays so, since only entries that are still to be applied
// bring new places, in segments behind.
asio::awaitable<Status> Node::flush_rows() {
  const Index applied = applied_;
  BALLAST_CO_TRY(const Stock stock, co_await take_stock());
  BALLAST_CO_TRY_STATUS(
      co_await net::on_worker(workers_.background, [this] { return state_->flush(); }));
  if (stopping_) co_return Status{};
  const std::vector<uint64_t> sparse = free_segments(stock);
  forget_log(applied);
  co_return co_await empty_next(sparse);
}

void Node::answer_flushes(const std::vector<FlushAsked>& asked, const Status& status) {
  for (const FlushAsked& one : asked) one->set(status);
}

// What the flush loop does by itself in the course of the writes, awaited.
//
// The flush loop lets go of segments one step at a time: it retires those that are empty, has the
// blocks of one that is sparse moved out of it, and forgets what nobody needs of the log, which
// makes segments homes; the next flush goes on from there. It is over when a flush changes nothing.
asio::awaitable<Result<bool>> Node::collect_garbage(Clock::time_point until) {
  const auto shape = [this] {
    return std::tuple(log_->base().index, log_->homes().size(), moved_bytes_);
  };
  const auto at_work = [this] { return forgetting_ || emptying_.has_value(); };
  while (!stopping_) {
    const auto before = shape();
    const auto flushed = std::make_shared<net::Promise<Status>>(strand_);
    flush_asked_.push_back(flushed);
    flush_soon();
    const std::optional<Status> done = co_await flushed->get(until);
    if (!done) co_return true;
    if (!*done) co_return std::unexpected(done->error());
    while (at_work() && !stopping_) {
      if (!co_await let_go_signal_.wait_until(until)) co_return true;
    }
    if (shape() == before) co_return false;
  }
  co_return fail(Errc::kUnavailable, "the node is shutting down");
}

// ---- segments -----------------------------------------------------------------------------------

asio::awaitable<Result<Stock>> Node::take_stock() const {
  Stock stock{.homes = log_->homes(), .log = log_->disk_bytes() - log_->spare_bytes()};
  co_return co_await net::on_worker(workers_.background, [this, stock]() mutable -> Result<Stock> {
    BALLAST_TRY(stock.used, state_->segments());
    stock.live = state_->applied().block_bytes;
    stock.database = state_->disk_bytes();
    return stock;
  });
}

// Whether more of the disk is taken than should be, and a flush could change that.
asio::awaitable<bool> Node::can_make_room() {
  const auto now = std::pair(applied_, log_->base().index);
  if (segments_held_ || rows_lost_ || emptying_ || std::exchange(looked_at_, now) == now)
    co_return false;
  live_at_look_ = state_->applied().block_bytes;
  const auto stock = co_await take_stock();
  if (!stock || stopping_ || !takes_too_much(*stock)) co_return false;
  trim_spares(*stock);
  const auto stays = [](HomeFate fate) { return fate == HomeFate::kStays; };
  co_return !std::ranges::all_of(fates_now(*stock), stays);
}

// Clients may remove much in a moment.
void Node::note_freed() {
  const uint64_t live = state_->applied().block_bytes;
  if (live >= live_at_look_ || (live_at_look_ - live) * kFreedShare < live_at_look_) return;
  live_at_look_ = live;
  flush_soon();
}

// What can be done now: not everything can be moved at any time.
std::vector<HomeFate> Node::fates_now(const Stock& stock) const {
  std::vector<HomeFate> fates = fates_of(stock);
  for (size_t i = 0; i < fates.size(); ++i) {
    if (fates[i] == HomeFate::kEmpties &&
        (full_ || unreadable_homes_.contains(stock.homes[i].segment)))
      fates[i] = HomeFate::kStays;
  }
  return fates;
}

// A segment that is no part of the log any more is spare when no block lies in it. Returns those
// that are to be emptied, the sparsest first: it costs least, and gives most.
std::vector<uint64_t> Node::free_segments(const Stock& stock) {
  if (segments_held_ || rows_lost_) return {};
  const std::vector<HomeFate> fates = fates_now(stock);
  std::vector<storage::LogStore::Home> sparse;
  for (size_t i = 0; i < fates.size(); ++i) {
    if (fates[i] == HomeFate::kRetires) log_->retire_home(stock.homes[i].segment);
    if (fates[i] == HomeFate::kEmpties) sparse.push_back(stock.homes[i]);
  }
  trim_spares(stock);
  std::ranges::sort(sparse, {}, [&](const auto& home) { return live_share(stock, home); });
  std::vector<uint64_t> segments;
  for (const storage::LogStore::Home& home : sparse) segments.push_back(home.segment);
  return segments;
}

// One at a time, by the loop that applies; what lies in it is found before, which may take long.
asio::awaitable<Status> Node::empty_next(std::vector<uint64_t> segments) {
  if (segments.empty() || emptying_) co_return Status{};
  BALLAST_CO_TRY_STATUS(
      co_await net::on_worker(workers_.background, [&] { return state_->find_blocks(segments); }));
  if (stopping_) co_return Status{};
  emptying_ = segments.front();
  commit_signal_.notify();
  co_return Status{};
}

// Spare segments are kept for what is written next, one at least. On a full disk others need the
// space.
void Node::trim_spares(const Stock& stock) {
  trim_spares(full_ ? 0 : std::max(space_.options().segment_bytes, spare_budget(stock)));
}

void Node::trim_spares(uint64_t bytes) {
  if (const Status trimmed = log_->trim_spares(bytes); !trimmed)
    spdlog::warn("{}", trimmed.error().message);
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
  flush_soon();
  let_go_signal_.notify();
}

// ---- the log ------------------------------------------------------------------------------------

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

}  // namespace ballast::server
