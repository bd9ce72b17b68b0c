#include "server/snapshot/snapshot_fetch.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "proto/base/check.h"
#include "proto/net/worker.h"

namespace ballast::server {
namespace {

constexpr auto kPauseAfterFailure = std::chrono::seconds(1);
constexpr size_t kBlocksOfBatch = 64;  // what a crash loses at most
constexpr int kConnectionsPerReplica = 2;
constexpr int kTriesPerBlock = 3;  // at each connection, on average

}  // namespace

struct SnapshotFetch::Pull {
  explicit Pull(asio::any_io_executor executor) : changed(std::move(executor)) {}

  bool over() const { return unfinished == 0 || !failure.message.empty(); }

  std::deque<pb::BlockRef> wanted;
  size_t unfinished = 0;  // the wanted ones, and those that are under way
  int tries_left = 0;
  Error failure{Errc::kInternal, ""};  // why it is over too early
  int running = 0;
  net::Signal changed;
};

SnapshotFetch::SnapshotFetch(asio::any_io_executor executor, const asio::any_io_executor& workers,
                             Node& node, OtherReplicas& others, FetchOptions options,
                             std::function<void()> on_whole)
    : executor_(executor),
      workers_(asio::make_strand(workers)),
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
  pb::OpenSnapshotReply opened;
  BALLAST_CO_TRY(const auto source, co_await others_.open_snapshot(index, opened));
  spdlog::info("fetching a snapshot of entry {} from {}: {} blocks, {} MiB", opened.index(),
               source->address().to_string(), opened.blocks(), opened.block_bytes() >> 20);
  BALLAST_CO_TRY_STATUS(co_await check_space(opened));
  progress_ = {.index = Index(opened.index()), .block_bytes = opened.block_bytes()};
  BALLAST_CO_TRY_STATUS(co_await net::on_worker(workers_, [this]() -> Status {
    BALLAST_TRY(incoming_, storage::IncomingSnapshot::open(options_.incoming));
    return incoming_->begin();
  }));
  BALLAST_CO_TRY_STATUS(co_await fetch_rows(*source, opened.id()));
  source->close();
  BALLAST_CO_TRY_STATUS(co_await fetch_blocks());
  const storage::LogBase base{Index(opened.index()), Term(opened.term()), opened.chain()};
  BALLAST_CO_TRY_STATUS(co_await net::on_worker(workers_, [&] { return incoming_->finish(base); }));
  spdlog::info("the snapshot of entry {} is whole after {} ms", base.index,
               (Clock::now() - began) / std::chrono::milliseconds(1));
  co_return Status{};
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

asio::awaitable<Status> SnapshotFetch::fetch_blocks() {
  const auto pull = std::make_unique<Pull>(executor_);
  std::optional<Digest> after;
  while (true) {
    if (stopping_) co_return fail(Errc::kUnavailable, "the node is shutting down");
    BALLAST_CO_TRY(const auto blocks, co_await net::on_worker(workers_, [&] {
                     return incoming_->missing(node_.state().rows().get(), after, kBlocksOfBatch);
                   }));
    if (blocks.empty()) break;
    BALLAST_CO_TRY(after, Digest::from_raw(blocks.back().digest()));
    pull->wanted.assign(blocks.begin(), blocks.end());
    pull->unfinished = blocks.size();
    const auto addresses = others_.addresses();
    pull->tries_left = kTriesPerBlock * static_cast<int>(addresses.size() * kBlocksOfBatch);
    for (int i = 0; i < kConnectionsPerReplica; ++i) {
      for (const net::Endpoint& address : addresses) {
        ++pull->running;
        asio::co_spawn(executor_, pull_from(address, *pull), [&pull = *pull](std::exception_ptr e) {
          BALLAST_CHECK(!e, "fetching blocks threw");
          --pull.running;
          pull.changed.notify();
        });
      }
    }
    while (pull->running > 0) co_await pull->changed.wait_until(Clock::time_point::max());
    if (pull->unfinished > 0)
      co_return fail(pull->failure.code, "{} blocks did not come: {}", pull->unfinished,
                     pull->failure.message);
    BALLAST_CO_TRY_STATUS(co_await net::on_worker(workers_, [this] { return incoming_->flush(); }));
  }
  spdlog::info("{} MiB of blocks were fetched", progress_.came_bytes >> 20);
  co_return Status{};
}

asio::awaitable<void> SnapshotFetch::pull_from(net::Endpoint address, Pull& pull) {
  auto replica = co_await others_.connect(std::move(address));
  if (!replica) {
    // Others may bring everything; only if none is left this is why.
    if (pull.running == 1 && pull.unfinished > 0) pull.failure = replica.error();
    co_return;
  }
  while (!pull.over() && co_await pull_one(**replica, pull)) continue;
  (*replica)->close();
}

// False if the connection is of no more use.
asio::awaitable<bool> SnapshotFetch::pull_one(Replica& replica, Pull& pull) {
  if (pull.wanted.empty()) {
    co_await pull.changed.wait_until(Clock::time_point::max());
    co_return true;
  }
  const pb::BlockRef block = std::move(pull.wanted.front());
  pull.wanted.pop_front();
  pb::Request request;
  request.mutable_get_block()->set_digest(block.digest());
  auto answer = co_await replica.ask(std::move(request));
  Status added = answer ? Status{} : std::unexpected(answer.error());
  if (answer) {
    added = co_await net::on_worker(workers_,
                                    [&] { return incoming_->add_block(block, answer->payload); });
  }
  if (added) {
    progress_.came_bytes += block.length();
    --pull.unfinished;
  } else {
    pull.wanted.push_back(block);
    if (--pull.tries_left <= 0 || pull.running == 1) pull.failure = added.error();
  }
  pull.changed.notify();
  const auto until = throttle_.take(added ? block.length() : 0);
  while (!pull.over() && !stopping_ && co_await pull.changed.wait_until(until)) continue;
  co_return !replica.closed();
}

}  // namespace ballast::server
