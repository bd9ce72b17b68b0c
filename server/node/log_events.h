// Waits for the log's event descriptor and lets the node run what has completed.
#pragma once

#include "server/node/node.h"

namespace ballast::server {

class LogEvents {
 public:
  // On the node's strand. REQUIRES: the node outlives stop().
  LogEvents(asio::any_io_executor strand, Node& node);

  void start();
  // Returns when the node is not called any more.
  asio::awaitable<void> stop();

 private:
  asio::awaitable<void> loop();

  Node& node_;
  asio::posix::stream_descriptor events_;
  asio::any_io_executor strand_;
  net::Signal ended_;
  bool running_ = false;
  bool stopping_ = false;
};

}  // namespace ballast::server
