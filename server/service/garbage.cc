// What a node could let go of, and letting go of it.
#include "proto/base/clock.h"
#include "proto/net/worker.h"
#include "server/service/service.h"

namespace ballast::server {
namespace {

constexpr std::chrono::milliseconds kCountBudget{500};  // of one request on a worker
constexpr Clock::duration kCollectTime = std::chrono::seconds(5);

}  // namespace

asio::awaitable<Result<Answer>> Service::garbage(const pb::Garbage& request) {
  BALLAST_CO_TRY_STATUS(check_rows());
  Answer answer;
  pb::GarbageReply& reply = *answer.reply.mutable_garbage();
  BALLAST_CO_TRY(reply, co_await net::on_worker(workers_.background, [&] {
                   return node_.state().garbage(request.after(), wall_clock_ms(), kCountBudget);
                 }));
  if (!reply.next().empty()) co_return answer;
  BALLAST_CO_TRY(const Stock stock, co_await node_.take_stock());
  *reply.mutable_log() = log_garbage(stock);
  reply.mutable_log()->set_bytes(node_.log().disk_bytes());
  reply.mutable_log()->set_spare_bytes(node_.log().spare_bytes());
  co_return answer;
}

asio::awaitable<Result<Answer>> Service::collect_garbage(const pb::Request& request,
                                                         Deadline deadline) {
  // What the client saw expire at the primary is to have happened here, too.
  BALLAST_CO_TRY_STATUS(co_await reach_level(request, deadline));
  const Deadline now = Clock::now();
  const Deadline until = now + std::min((deadline - now) / 2, kCollectTime);
  BALLAST_CO_TRY(const bool more, co_await node_.collect_garbage(until));
  Answer answer;
  answer.reply.mutable_collect_garbage()->set_more(more);
  co_return answer;
}

}  // namespace ballast::server
