#include "server/node/log_events.h"

#include <unistd.h>

#include "proto/base/check.h"

namespace ballast::server {

LogEvents::LogEvents(asio::any_io_executor strand, Node& node)
    : node_(node), events_(strand, ::dup(node.log().event_fd())), strand_(strand), ended_(strand) {}

void LogEvents::start() {
  running_ = true;
  asio::co_spawn(strand_, loop(), [this](std::exception_ptr error) {
    BALLAST_CHECK(!error, "waiting for the log threw");
    running_ = false;
    ended_.notify();
  });
}

asio::awaitable<void> LogEvents::stop() {
  stopping_ = true;
  events_.cancel();
  while (running_) co_await ended_.wait_until(Clock::time_point::max());
}

asio::awaitable<void> LogEvents::loop() {
  while (!stopping_) {
    auto [error] = co_await events_.async_wait(asio::posix::descriptor_base::wait_read, kToken);
    if (!error) node_.poll_log();
  }
}

}  // namespace ballast::server
