#include "server/snapshot/snapshot_fetch.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "proto/base/check.h"
#include "proto/net/worker.h"

namespace ballast::server {
namespace {

constexpr auto kPauseAfterFailure = std::chrono::seconds(1);
constexpr size_t kWantedMin = 64;    // blocks; fewer, and more are looked for
constexpr size_t kLookedFor = 1024;  // at once
constexpr int kConnectionsPerReplica = 2;
constexpr int kTriesPerBlock = 3;  // for each member
constexpr auto kPauseAfterRefusal = std::chrono::milliseconds(50);
constexpr int kRefusalsMax = 20;  // in a row, of one connection
// If the log still goes on faster than blocks come, there is nothing to wait for.
constexpr int kRoundsMax = 8;

std::unexpected<Error> shutting_down() {
  return fail(Errc::kUnavailable, "the node is shutting down");
}

}  // namespace

struct SnapshotFetch::Wanted {
  pb::BlockRef block;
  int tries_left;  // of those that gave something else
};

struct SnapshotFetch::Pull {
  Pull(asio::any_io_executor executor, Index rows_at)
      : rows_at(rows_at), changed(std::move(executor)) {}

  bool over() const { return failure || (all_are_known && unfinished == 0); }
  void fail_with(Error error) {
    if (!over()) failure = std::move(error);
    changed.notify();
  }

  const Index rows_at;  // what the rows show that name the blocks
  std::deque<Wanted> wanted;
  bool all_are_known = false;    // nothing will be wanted any more but these
  size_t unfinished = 0;         // of those, and under way
  size_t gone = 0;               // which nobody has any more
  std::optional<Error> failure;  // why it is over too early
  Error last{Errc::kUnavailable, "no other member can be asked"};  // of what did not come
  int running = 0;
  net::Signal changed;
};

SnapshotFetch::SnapshotFetch(asio::any_io_executor executor, const asio::any_io_executor& workers,
                             Node& node, OtherReplicas& others, FetchOptions options,
                             std::function<void()> on_whole)
    : executor_(executor),
      workers_(workers),
      node_(node),
      others_(others),
      options_(std::move(options)),
      throttle_(options_.bytes_per_second),
      on_whole_(std::move(on_whole)),
      ended_(executor),
      needed_(executor) {}

void SnapshotFetch::need(Index index) {
  if (whole_ || stopping_) return;
  if (running_) {
    needed_again_ = index;
    needed_.notify();
    return;
  }
  running_ = true;
  asio::co_spawn(executor_, run(index), [this](std::exception_ptr error) {
    BALLAST_CHECK(!error, "fetching a snapshot threw");
    running_ = false;
    ended_.notify();
  });
}

asio::awaitable<void> SnapshotFetch::stop() {
  stopping_ = true;
  needed_.notify();
  if (pull_ != nullptr) pull_->fail_with(shutting_down().error());
  while (running_) co_await ended_.wait_until(Clock::time_point::max());
}

// Until a snapshot is whole, or needed no more.
asio::awaitable<void> SnapshotFetch::run(Index index) {
  while (!stopping_) {
    node_.hold_segments(true);
    const Status done = co_await attempt(index);
    co_await net::on_worker(workers_, [this] {
      // What has come need not come again, whatever ended the attempt.
      if (incoming_) (void)incoming_->flush();
      incoming_.reset();
    });
    if (damaged_ || full_) co_await discard(damaged_ ? "is damaged" : "fills the disk");
    progress_ = {};
    node_.hold_segments(done.has_value());
    if (done) {
      whole_ = true;
      if (!stopping_) on_whole_();  // else the next start installs it
      break;
    }
    if (stopping_) break;
    spdlog::warn("no snapshot could be fetched: {}; it will be tried again", done.error().message);
    const auto again = co_await needed_again(index);
    if (!again) break;
    index = *again;
  }
}

// What the core says once more, or nothing when the log has brought what the snapshot would have.
// Then nothing of it is kept.
asio::awaitable<std::optional<Index>> SnapshotFetch::needed_again(Index index) {
  needed_again_.reset();
  const auto not_before = Clock::now() + kPauseAfterFailure;
  while (!stopping_ && co_await needed_.wait_until(not_before)) continue;
  while (!stopping_ && !needed_again_ && node_.state().applied().index < index)
    co_await needed_.wait_until(Clock::now() + kPauseAfterFailure);
  if (!stopping_ && !needed_again_) co_await discard("is not needed any more");
  co_return stopping_ ? std::nullopt : needed_again_;
}

// The next attempt begins with nothing.
asio::awaitable<void> SnapshotFetch::discard(std::string_view why) {
  const std::string& directory = options_.incoming.rows.directory;
  const Status discarded = co_await net::on_worker(
      workers_, [&] { return storage::IncomingSnapshot::discard(options_.incoming); });
  spdlog::warn("what has come of a snapshot {}: '{}' {}", why, directory,
               discarded ? "is removed" : discarded.error().message);
  damaged_ = full_ = false;
}

template <class Work>
asio::awaitable<std::invoke_result_t<Work>> SnapshotFetch::in_incoming(Work work) {
  auto done = co_await net::on_worker(workers_, work);
  if (!done) {
    damaged_ = damaged_ || done.error().code == Errc::kCorrupt;
    full_ = full_ || done.error().code == Errc::kNoSpace;
  }
  co_return done;
}

asio::awaitable<Status> SnapshotFetch::attempt(Index index) {
  const auto began = Clock::now();
  BALLAST_CO_TRY(incoming_, co_await in_incoming([this] {
                   return storage::IncomingSnapshot::open(options_.incoming);
                 }));
  storage::LogBase base;
  size_t gone = 0;
  for (int round = 0; round < kRoundsMax; ++round) {
    pb::OpenSnapshotReply opened;
    // Entries that follow might have to read what was left out: rather newer rows.
    const Index has = gone == 0 ? base.index : Index();
    BALLAST_CO_TRY(const auto source, co_await others_.open_snapshot(index, has, opened));
    if (opened.log_goes_on()) break;
    spdlog::info("fetching a snapshot of entry {} from {}: {} blocks, {} MiB", opened.index(),
                 source->address().to_string(), opened.blocks(), opened.block_bytes() >> 20);
    BALLAST_CO_TRY(gone, co_await bring(*source, opened));
    base = {Index(opened.index()), Term(opened.term()), opened.chain()};
    index = base.index;
  }
  if (stopping_) co_return shutting_down();
  BALLAST_CO_TRY_STATUS(co_await in_incoming([&] { return incoming_->finish(base); }));
  spdlog::info("the snapshot of entry {} is whole after {} ms", base.index,
               (Clock::now() - began) / std::chrono::milliseconds(1));
  co_return Status{};
}

asio::awaitable<Result<size_t>> SnapshotFetch::bring(Replica& source,
                                                     const pb::OpenSnapshotReply& opened) {
  progress_.index = Index(opened.index());
  progress_.block_bytes = opened.block_bytes();
  BALLAST_CO_TRY_STATUS(co_await in_incoming([this] { return incoming_->begin(); }));
  BALLAST_CO_TRY_STATUS(co_await fetch_rows(source, opened.id()));
  source.close();
  BALLAST_CO_TRY_STATUS(co_await in_incoming([this] { return incoming_->drop_unnamed(); }));
  BALLAST_CO_TRY_STATUS(co_await check_space());
  co_return co_await fetch_blocks(Index(opened.index()));
}

// Before it takes any blocks: those that this node has, here or on their way, need not come.
asio::awaitable<Status> SnapshotFetch::check_space() {
  if (!options_.measure) co_return Status{};
  uint64_t needs = 0;
  std::optional<Digest> after;
  do {
    if (stopping_) co_return shutting_down();
    BALLAST_CO_TRY(const auto needed, co_await in_incoming([&] {
                     return incoming_->needed(node_.state().rows().get(), after);
                   }));
    needs += needed.bytes;
    after = needed.next;
  } while (after);
  BALLAST_CO_TRY(const storage::Space space, co_await net::on_worker(workers_, options_.measure));
  // What the log and the rows need meanwhile, and what the last segment has behind its blocks.
  const uint64_t beside = 2 * options_.incoming.rows.write_buffer_bytes +
                          (needs > 0 ? 2 * options_.incoming.blocks.segment_bytes : 0);
  if (needs + beside <= space.free) co_return Status{};
  co_return fail(Errc::kNoSpace,
                 "it has {} MiB of blocks that are not here, and {} MiB are free in '{}'",
                 needs >> 20, space.free >> 20, options_.incoming.rows.directory);
}

asio::awaitable<Status> SnapshotFetch::fetch_rows(Replica& source, uint64_t id) {
  std::string after;
  for (bool last = false; !last;) {
    pb::Request request;
    request.mutable_read_snapshot()->set_id(id);
    request.mutable_read_snapshot()->set_after(after);
    BALLAST_CO_TRY(const Replica::Answer answer, co_await source.ask(std::move(request)));
    pb::RowPage page;
    const std::string_view bytes = answer.payload.text();
    if (!page.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
      co_return fail(Errc::kCorrupt, "rows from {} can't be parsed", source.address().to_string());
    last = answer.reply.read_snapshot().last();
    if (page.rows().empty() && !last)
      co_return fail(Errc::kCorrupt, "{} sent a page without rows", source.address().to_string());
    if (!page.rows().empty()) after = page.rows().rbegin()->key();
    const Status added = co_await net::on_worker(workers_, [&] { return incoming_->add(page); });
    full_ = full_ || (!added && added.error().code == Errc::kNoSpace);
    BALLAST_CO_TRY_STATUS(added);
  }
  co_return Status{};
}

asio::awaitable<Result<size_t>> SnapshotFetch::fetch_blocks(Index rows_at) {
  const auto pull = std::make_unique<Pull>(executor_, rows_at);
  pull_ = pull.get();
  for (int i = 0; i < kConnectionsPerReplica; ++i) {
    for (net::Endpoint& address : others_.addresses()) {
      ++pull->running;
      asio::co_spawn(executor_, pull_from(std::move(address), *pull),
                     [&pull = *pull](std::exception_ptr error) {
                       BALLAST_CHECK(!error, "fetching blocks threw");
                       --pull.running;
                       pull.changed.notify();
                     });
    }
  }
  const Status looked = co_await look_for_wanted(*pull);
  if (!looked) pull->fail_with(looked.error());
  while (pull->running > 0) co_await pull->changed.wait_until(Clock::time_point::max());
  pull_ = nullptr;
  // All connections may have ended before the last block came.
  if (!pull->over()) pull->failure = pull->last;
  if (pull->failure)
    co_return fail(pull->failure->code, "{} blocks did not come: {}", pull->unfinished,
                   pull->failure->message);
  spdlog::info("{} MiB of blocks were fetched, {} blocks have been deleted since",
               progress_.came_bytes >> 20, pull->gone);
  co_return pull->gone;
}

// Finds out what is wanted, shortly before it is asked for.
asio::awaitable<Status> SnapshotFetch::look_for_wanted(Pull& pull) {
  const int tries = kTriesPerBlock * static_cast<int>(others_.addresses().size());
  std::optional<Digest> after;
  while (!pull.over()) {
    if (stopping_) co_return shutting_down();
    if (pull.running == 0) co_return std::unexpected(pull.last);
    if (pull.wanted.size() >= kWantedMin) {
      co_await pull.changed.wait_until(Clock::time_point::max());
      continue;
    }
    BALLAST_CO_TRY(const auto missing, co_await in_incoming([&] {
                     return incoming_->missing(node_.state().rows().get(), after, kLookedFor);
                   }));
    for (const pb::BlockRef& block : missing.blocks) pull.wanted.push_back({block, tries});
    pull.unfinished += missing.blocks.size();
    pull.all_are_known = !missing.next;
    pull.changed.notify();
    if (pull.all_are_known) break;
    after = missing.next;
  }
  co_return Status{};
}

asio::awaitable<void> SnapshotFetch::pull_from(net::Endpoint address, Pull& pull) {
  auto replica = co_await others_.connect(std::move(address));
  if (!replica) {
    pull.last = std::move(replica).error();
    co_return;
  }
  for (int refused = 0; !pull.over() && !(*replica)->closed() && refused < kRefusalsMax;) {
    refused = co_await pull_one(**replica, pull) ? 0 : refused + 1;
    // It may lag by a moment.
    if (refused > 0) co_await pause(Clock::now() + kPauseAfterRefusal, pull);
  }
  (*replica)->close();
}

// Until then, but not if all is over before.
asio::awaitable<void> SnapshotFetch::pause(Clock::time_point until, Pull& pull) {
  while (!pull.over() && co_await pull.changed.wait_until(until)) continue;
}

// False if whoever was asked refused.
asio::awaitable<bool> SnapshotFetch::pull_one(Replica& replica, Pull& pull) {
  if (pull.wanted.empty()) {
    co_await pull.changed.wait_until(Clock::time_point::max());
    co_return true;
  }
  Wanted wanted = std::move(pull.wanted.front());
  pull.wanted.pop_front();
  const uint64_t bytes = wanted.block.length();
  const Status came = co_await pull_block(replica, wanted.block, pull);
  const bool answered = settle(std::move(wanted), came, pull);
  pull.changed.notify();
  co_await pause(throttle_.take(came ? bytes : 0), pull);
  co_return answered;
}

asio::awaitable<Status> SnapshotFetch::pull_block(Replica& replica, const pb::BlockRef& block,
                                                  Pull& pull) {
  pb::Request request;
  request.mutable_get_block()->set_digest(block.digest());
  request.mutable_get_block()->set_once(true);
  request.mutable_get_block()->set_applied(pull.rows_at.value());
  BALLAST_CO_TRY(const Replica::Answer answer, co_await replica.ask(std::move(request)));
  const Status added = co_await net::on_worker(
      workers_, [&] { return incoming_->add_block(block, answer.payload); });
  // It is this node's disk: nobody else's block would fare better.
  if (!added && added.error().code != Errc::kCorrupt) pull.fail_with(added.error());
  full_ = full_ || (!added && added.error().code == Errc::kNoSpace);
  co_return added;
}

// What became of a block. False if whoever was asked refused.
bool SnapshotFetch::settle(Wanted wanted, const Status& came, Pull& pull) {
  // The rows name it, and who does not find it has applied what they show: an entry behind them has
  // deleted it, and will do so here.
  const bool gone = !came && came.error().code == Errc::kNotFound;
  if (came || gone) {
    --pull.unfinished;
    pull.gone += gone ? 1 : 0;
    progress_.came_bytes += came ? wanted.block.length() : 0;
    return true;
  }
  pull.last = came.error();
  // Others may have it whole.
  const bool damaged = came.error().code == Errc::kCorrupt;
  if (damaged && --wanted.tries_left <= 0) pull.fail_with(came.error());
  pull.wanted.push_back(std::move(wanted));
  return damaged;
}

}  // namespace ballast::server
