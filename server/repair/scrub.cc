#include "server/repair/scrub.h"

#include <spdlog/spdlog.h>

#include <random>

#include "proto/base/check.h"
#include "proto/base/limits.h"
#include "proto/net/worker.h"

namespace ballast::server {
namespace {

constexpr uint64_t kStepBytes = 4 * limits::kMiB;
constexpr std::chrono::milliseconds kStepTime{200};  // of a worker
constexpr auto kPauseAfterFailure = std::chrono::minutes(1);

// Each pass begins elsewhere: what comes last in all of them would never be reached by a node that
// is started often.
Digest random_digest() {
  std::random_device source;
  std::string raw;
  while (raw.size() < Digest::kSize) raw.push_back(static_cast<char>(source()));
  return *Digest::from_raw(raw);
}

}  // namespace

Scrub::Scrub(asio::any_io_executor executor, asio::any_io_executor workers, Node& node,
             ScrubOptions options)
    : executor_(executor),
      workers_(std::move(workers)),
      node_(node),
      options_(options),
      throttle_(options.bytes_per_second),
      wake_(executor),
      ended_(executor) {}

void Scrub::start() {
  if (options_.bytes_per_second == 0) return;
  running_ = true;
  asio::co_spawn(executor_, run(), [this](std::exception_ptr error) {
    BALLAST_CHECK(!error, "the scrub threw");
    running_ = false;
    ended_.notify();
  });
}

void Scrub::hurry() {
  hurried_ = true;
  wake_.notify();
}

asio::awaitable<void> Scrub::stop() {
  stopping_ = true;
  wake_.notify();
  while (running_) co_await ended_.wait_until(Clock::time_point::max());
}

asio::awaitable<void> Scrub::run() {
  while (!stopping_) {
    const auto began = Clock::now();
    const Status done = co_await pass();
    if (stopping_) break;
    if (done)
      ++counters_.passes;
    else
      spdlog::error("the scrub broke off: {}", done.error().message);
    const Clock::duration pause =
        done ? options_.period : std::min<Clock::duration>(options_.period, kPauseAfterFailure);
    while (!stopping_ && !hurried_ && co_await wake_.wait_until(began + pause)) continue;
    hurried_ = false;
  }
}

asio::awaitable<Status> Scrub::pass() {
  BALLAST_CO_TRY_STATUS(
      co_await net::on_worker(workers_, [&] { return node_.state().verify_rows(); }));
  const Digest first = random_digest();
  std::optional<Digest> at = first;
  while (at && !stopping_) {
    BALLAST_CO_TRY(at, co_await step(at));
  }
  // And those before it.
  do {
    BALLAST_CO_TRY(at, co_await step(at));
  } while (at && *at <= first && !stopping_);
  co_return Status{};
}

asio::awaitable<Result<std::optional<Digest>>> Scrub::step(std::optional<Digest> after) {
  using Next = std::optional<Digest>;
  BALLAST_CO_TRY(const pb::VerifyBlocksReply found, co_await net::on_worker(workers_, [&] {
                   return node_.state().verify_blocks(after,
                                                      {.time = kStepTime, .bytes = kStepBytes});
                 }));
  counters_.blocks += found.blocks();
  counters_.bytes += found.bytes();
  const auto until = throttle_.take(found.bytes());
  while (!stopping_ && co_await wake_.wait_until(until)) continue;
  if (found.next().empty()) co_return Next();
  BALLAST_CO_TRY(const Digest next, Digest::from_raw(found.next()));
  co_return Next(next);
}

}  // namespace ballast::server
