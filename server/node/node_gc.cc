// Letting go of space now: what the flush loop does by itself in the course of the writes, awaited.
#include <tuple>

#include "server/node/node.h"

namespace ballast::server {

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
    flush_timer_.cancel();
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

void Node::answer_flushes(const std::vector<FlushAsked>& asked, const Status& status) {
  for (const FlushAsked& one : asked) one->set(status);
}

}  // namespace ballast::server
