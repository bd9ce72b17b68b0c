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
constexpr int kTriesPerBlock = 3;  // at each replica
// If the log still goes on faster than blocks come, there is nothing to wait for.
constexpr int kRoundsMax = 8;

}  // namespace

struct SnapshotFetch::Pull {
  struct Wanted {
    pb::BlockRef block;
    int tries_left;
  };

  Pull(asio::any_io_executor executor, net::Endpoint source)
      : source(std::move(source)), changed(std::move(executor)) {}

  bool over() const { return failure || (all_are_known && unfinished == 0); }
  void fail_with(Error error) {
    if (!over()) failure = std::move(error);
    changed.notify();
  }

  bool asks_source(const Replica& replica) const { return replica.address() == source; }
  std::optional<Wanted> next(const Replica& replica) {
    auto& blocks = asks_source(replica) && !disputed.empty() ? disputed : wanted;
    if (blocks.empty()) return std::nullopt;
    Wanted first = std::move(blocks.front());
    blocks.pop_front();
    return first;
  }

  const net::Endpoint source;  // of the rows
  int source_connections = 0;
  std::deque<Wanted> wanted;
  std::deque<Wanted> disputed;  // others don't have them: the source knows why
  bool all_are_known = false;   // nothing will be wanted any more but these
  size_t unfinished = 0;        // of both, and those that are under way
  size_t gone = 0;
  std::optional<Error> failure;  // why it is over too early
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
      ended_(executor) {}

void SnapshotFetch::need(Index index) {
  if (running_ || whole_ || stopping_ || Clock::now() < not_before_) return;
  running_ = true;
  asio::co_spawn(executor_, run(index), [this](std::exception_ptr error) {
    BALLAST_CHECK(!error, "fetching a snapshot threw");
    running_ = false;
    ended_.notify();
  });
}

asio::awaitable<void> SnapshotFetch::stop() {
  stopping_ = true;
  while (running_) co_await ended_.wait_until(Clock::time_point::max());
}

asio::awaitable<void> SnapshotFetch::run(Index index) {
  node_.hold_segments(true);
  const Status done = co_await attempt(index);
  co_await net::on_worker(workers_, [this] { incoming_.reset(); });
  progress_ = {};
  node_.hold_segments(done.has_value());
  not_before_ = Clock::now() + kPauseAfterFailure;
  if (done) {
    whole_ = true;
    on_whole_();
  } else if (!stopping_) {
    spdlog::warn("no snapshot could be fetched: {}; it will be tried again", done.error().message);
  }
}

asio::awaitable<Status> SnapshotFetch::attempt(Index index) {
  const auto began = Clock::now();
  BALLAST_CO_TRY(incoming_, co_await net::on_worker(workers_, [this] {
                   return storage::IncomingSnapshot::open(options_.incoming);
                 }));
  storage::LogBase base;
  for (int round = 0; round < kRoundsMax; ++round) {
    pb::OpenSnapshotReply opened;
    BALLAST_CO_TRY(const auto source, co_await others_.open_snapshot(index, base.index, opened));
    if (opened.log_goes_on()) break;
    spdlog::info("fetching a snapshot of entry {} from {}: {} blocks, {} MiB", opened.index(),
                 source->address().to_string(), opened.blocks(), opened.block_bytes() >> 20);
    BALLAST_CO_TRY_STATUS(co_await bring(*source, opened));
    base = {Index(opened.index()), Term(opened.term()), opened.chain()};
    index = base.index;
  }
  BALLAST_CO_TRY_STATUS(co_await net::on_worker(workers_, [&] { return incoming_->finish(base); }));
  spdlog::info("the snapshot of entry {} is whole after {} ms", base.index,
               (Clock::now() - began) / std::chrono::milliseconds(1));
  co_return Status{};
}

asio::awaitable<Status> SnapshotFetch::bring(Replica& source, const pb::OpenSnapshotReply& opened) {
  BALLAST_CO_TRY_STATUS(co_await check_space(opened));
  progress_.index = Index(opened.index());
  progress_.block_bytes = opened.block_bytes();
  BALLAST_CO_TRY_STATUS(co_await net::on_worker(workers_, [this] { return incoming_->begin(); }));
  BALLAST_CO_TRY_STATUS(co_await fetch_rows(source, opened.id()));
  source.close();
  BALLAST_CO_TRY_STATUS(
      co_await net::on_worker(workers_, [this] { return incoming_->drop_unnamed(); }));
  co_return co_await fetch_blocks(source.address());
}

// Before it takes any: what this node has, here or on its way, need not come.
asio::awaitable<Status> SnapshotFetch::check_space(const pb::OpenSnapshotReply& opened) {
  if (!options_.measure) co_return Status{};
  BALLAST_CO_TRY(const storage::Space space, co_await net::on_worker(workers_, options_.measure));
  BALLAST_CO_TRY(const uint64_t on_its_way, co_await net::on_worker(workers_, [this] {
                   return storage::directory_bytes(options_.incoming.directory);
                 }));
  const uint64_t has = node_.state().applied().block_bytes + on_its_way;
  const uint64_t needs = opened.block_bytes() - std::min(opened.block_bytes(), has);
  if (needs + options_.incoming.write_buffer_bytes <= space.free) co_return Status{};
  co_return fail(Errc::kNoSpace,
                 "it has {} MiB of blocks that are not here, and {} MiB are free in '{}'",
                 needs >> 20, space.free >> 20, options_.incoming.directory);
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
    BALLAST_CO_TRY_STATUS(co_await net::on_worker(workers_, [&] { return incoming_->add(page); }));
  }
  co_return Status{};
}

asio::awaitable<Status> SnapshotFetch::fetch_blocks(const net::Endpoint& source) {
  const auto pull = std::make_unique<Pull>(executor_, source);
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
  if (pull->failure)
    co_return fail(pull->failure->code, "{} blocks did not come: {}", pull->unfinished,
                   pull->failure->message);
  spdlog::info("{} MiB of blocks were fetched, {} blocks have been deleted since",
               progress_.came_bytes >> 20, pull->gone);
  co_return Status{};
}

// Finds out what is wanted, shortly before it is asked for.
asio::awaitable<Status> SnapshotFetch::look_for_wanted(Pull& pull) {
  const int tries = kTriesPerBlock * static_cast<int>(others_.addresses().size());
  std::optional<Digest> after;
  while (!pull.over()) {
    if (stopping_) co_return fail(Errc::kUnavailable, "the node is shutting down");
    if (pull.running == 0) co_return fail(Errc::kUnavailable, "no other member can be asked");
    if (pull.wanted.size() >= kWantedMin) {
      co_await pull.changed.wait_until(Clock::time_point::max());
      continue;
    }
    BALLAST_CO_TRY(const auto blocks, co_await net::on_worker(workers_, [&] {
                     return incoming_->missing(node_.state().rows().get(), after, kLookedFor);
                   }));
    for (const pb::BlockRef& block : blocks) pull.wanted.push_back({block, tries});
    pull.unfinished += blocks.size();
    pull.all_are_known = blocks.empty();
    pull.changed.notify();
    if (pull.all_are_known) break;
    BALLAST_CO_TRY(after, Digest::from_raw(blocks.back().digest()));
  }
  co_return Status{};
}

asio::awaitable<void> SnapshotFetch::pull_from(net::Endpoint address, Pull& pull) {
  auto replica = co_await others_.connect(std::move(address));
  if (!replica) {
    // Others may bring everything; only if none is left this is why.
    if (pull.running == 1) pull.fail_with(replica.error());
    co_return;
  }
  const bool is_source = pull.asks_source(**replica);
  pull.source_connections += is_source ? 1 : 0;
  while (!pull.over() && co_await pull_one(**replica, pull)) continue;
  (*replica)->close();
  // Another member's rows will do as well.
  if (is_source && --pull.source_connections == 0)
    pull.fail_with({Errc::kUnavailable, "the member that gave the rows is gone"});
}

// False if the connection is of no more use.
asio::awaitable<bool> SnapshotFetch::pull_one(Replica& replica, Pull& pull) {
  auto wanted = pull.next(replica);
  if (!wanted) {
    co_await pull.changed.wait_until(Clock::time_point::max());
    co_return true;
  }
  const Status came = co_await pull_block(replica, wanted->block);
  const bool not_found = !came && came.error().code == Errc::kNotFound;
  // The source had it when it gave the rows: an entry behind them has deleted it, and will do so
  // here.
  const bool gone = not_found && pull.asks_source(replica);
  if (came || gone) {
    --pull.unfinished;
    progress_.came_bytes += came ? wanted->block.length() : 0;
    pull.gone += gone ? 1 : 0;
  } else if (not_found) {
    pull.disputed.push_back(*std::move(wanted));
  } else if (--wanted->tries_left <= 0) {
    pull.fail_with(came.error());
  } else {
    pull.wanted.push_back(*std::move(wanted));
  }
  pull.changed.notify();
  const auto until = throttle_.take(came ? wanted->block.length() : 0);
  while (!pull.over() && !stopping_ && co_await pull.changed.wait_until(until)) continue;
  co_return !replica.closed();
}

asio::awaitable<Status> SnapshotFetch::pull_block(Replica& replica, const pb::BlockRef& block) {
  pb::Request request;
  request.mutable_get_block()->set_digest(block.digest());
  request.mutable_get_block()->set_once(true);
  BALLAST_CO_TRY(const Replica::Answer answer, co_await replica.ask(std::move(request)));
  co_return co_await net::on_worker(workers_,
                                    [&] { return incoming_->add_block(block, answer.payload); });
}

}  // namespace ballast::server
