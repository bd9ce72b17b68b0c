#include "server/repair/block_repairs.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "proto/base/check.h"

namespace ballast::server {
namespace {

constexpr size_t kWaitingMax = 4096;
constexpr auto kPauseAfterFailure = std::chrono::seconds(5);  // of one block

}  // namespace

BlockRepairs::BlockRepairs(asio::any_io_executor executor, Node& node, OtherReplicas& others)
    : executor_(executor), node_(node), others_(others), changed_(executor) {}

void BlockRepairs::need(const Digest& digest) {
  if (stopping_ || waiting_.size() >= kWaitingMax || !waiting_.try_emplace(digest).second) return;
  ++found_;
  changed_.notify();
  if (std::exchange(running_, true)) return;
  asio::co_spawn(executor_, run(), [this](std::exception_ptr error) {
    BALLAST_CHECK(!error, "repairing blocks threw");
    running_ = false;
    changed_.notify();
  });
}

asio::awaitable<bool> BlockRepairs::wait(Digest digest, Clock::time_point deadline) {
  while (!stopping_) {
    const auto waiting = waiting_.find(digest);
    if (waiting == waiting_.end()) co_return true;
    if (waiting->second.said || !co_await changed_.wait_until(deadline)) break;
  }
  co_return !waiting_.contains(digest);
}

asio::awaitable<void> BlockRepairs::stop() {
  stopping_ = true;
  changed_.notify();
  while (running_) co_await changed_.wait_until(Clock::time_point::max());
}

asio::awaitable<void> BlockRepairs::run() {
  while (!stopping_ && !waiting_.empty()) {
    const auto next = std::ranges::min_element(
        waiting_, {}, [](const auto& waiting) { return waiting.second.not_before; });
    if (next->second.not_before > Clock::now())
      co_await changed_.wait_until(next->second.not_before);
    else
      co_await repair(next->first);
  }
}

asio::awaitable<void> BlockRepairs::repair(Digest digest) {
  const auto bytes = co_await others_.block(digest);
  if (stopping_) co_return;
  const Status restored =
      bytes ? co_await node_.restore_block(digest, *bytes) : std::unexpected(bytes.error());
  if (stopping_) co_return;
  // Deleted meanwhile: there is nothing to repair any more.
  const bool gone = bytes && !restored && restored.error().code == Errc::kNotFound;
  if (restored || gone) {
    waiting_.erase(digest);
    if (restored) {
      ++repaired_;
      spdlog::warn("block {} was damaged; its bytes were brought from another member",
                   digest.brief());
    }
  } else {
    Waiting& waiting = waiting_.at(digest);
    waiting.not_before = Clock::now() + kPauseAfterFailure;
    if (!std::exchange(waiting.said, true))
      spdlog::error("block {} is damaged and can't be repaired now: {}; it will be tried again",
                    digest.brief(), restored.error().message);
  }
  changed_.notify();
}

}  // namespace ballast::server
