// The node's part in reads: how fresh the state is, and how it becomes so.

#include "server/node/node.h"

namespace ballast::server {

using std::chrono::milliseconds;

Result<uint64_t> Node::probe() {
  if (stopping_) return fail(Errc::kUnavailable, "the node is shutting down");
  const BootClock::time_point now = BootClock::now();
  BALLAST_TRY(const uint64_t id, core_.read_index());
  freshness_.sent(id, now);
  ++read_probes_;
  wake();
  return id;
}

void Node::resolve_reads(std::span<const raft::ReadState> reads) {
  if (reads.empty()) return;
  for (const raft::ReadState& read : reads) {
    if (read.refused)
      freshness_.refused(read.id);
    else
      freshness_.confirmed(read.id, read.index);
    const auto found = reads_.find(read.id);
    if (found != reads_.end()) found->second->set(read);
  }
  freshness_signal_.notify();
}

asio::awaitable<Status> Node::linearize(Clock::time_point deadline) {
  BALLAST_CO_TRY(const uint64_t id, probe());
  auto promise = std::make_shared<net::Promise<raft::ReadState>>(strand_);
  reads_.emplace(id, promise);
  const std::optional<raft::ReadState> read = co_await promise->get(deadline);
  reads_.erase(id);
  if (!read)
    co_return fail(Errc::kUnavailable, "no majority confirmed the read before its deadline");
  if (read->refused)
    co_return fail(Errc::kUnavailable, "the primary changed while the read waited");
  while (applied_ < read->index) {
    if (starved_ > 0)
      co_return fail(Errc::kUnavailable, "this replica lags, since its disk is full: ask another");
    if (stopping_ || !co_await applied_signal_.wait_until(deadline))
      co_return fail(Errc::kUnavailable, "entry {} was not applied before the read's deadline",
                     read->index);
  }
  co_return Status{};
}

asio::awaitable<Status> Node::freshen(std::chrono::microseconds bound, Clock::time_point deadline) {
  const BootClock::time_point asked = BootClock::now();
  const BootClock::time_point oldest = asked - bound;
  // A new probe leaves when half of the bound is over, ahead of the reads that will need it: while
  // they keep coming, none of them waits. Those that must wait share it.
  const BootClock::time_point half = asked - bound / 2;
  std::string missing = "the primary is gone or did not answer";
  if (!freshness_.shows(half) && !freshness_.expects(half)) {
    if (const auto sent = probe(); !sent) missing = sent.error().message;
  }
  while (!freshness_.shows(oldest)) {
    if (stopping_) co_return fail(Errc::kUnavailable, "the node is shutting down");
    if (!freshness_.expects(oldest)) co_return too_stale(bound, missing);
    if (!co_await freshness_signal_.wait_until(deadline))
      co_return too_stale(bound, "no primary was heard of before the read's deadline");
  }
  ++bounded_reads_;
  co_return Status{};
}

std::unexpected<Error> Node::too_stale(std::chrono::microseconds bound,
                                       std::string_view why) const {
  const auto shown = freshness_.shown();
  if (!shown)
    return fail(Errc::kTooStale,
                "this replica can't tell how old its state is, since it has reached no primary "
                "after its start: {}",
                why);
  const auto age = std::chrono::duration_cast<milliseconds>(BootClock::now() - *shown);
  return fail(Errc::kTooStale,
              "this replica's state may be {} ms old, more than the {} ms of the "
              "read's bound: {}",
              age.count(), std::chrono::duration<double, std::milli>(bound).count(), why);
}

}  // namespace ballast::server
