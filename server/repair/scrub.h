// Reads everything that a node stores, again and again and slowly, and compares it with its
// digests: what rots is found while the other members still have it.
#pragma once

#include <cstdint>
#include <optional>

#include "proto/base/digest.h"
#include "proto/base/result.h"
#include "proto/net/asio.h"
#include "proto/net/event.h"
#include "server/node/node.h"
#include "server/repair/scrub_options.h"
#include "server/repair/throttle.h"

namespace ballast::server {

// On the node's executor. What it finds is told by way of OnDamage.
class Scrub {
 public:
  Scrub(asio::any_io_executor executor, asio::any_io_executor workers, Node& node,
        ScrubOptions options);

  void start();
  // Something damaged was met: the next pass begins as soon as this one has ended.
  void hurry();
  asio::awaitable<void> stop();

  // Since the node started.
  struct Counters {
    uint64_t passes = 0;  // that came to their end
    uint64_t blocks = 0;
    uint64_t bytes = 0;
  };
  const Counters& counters() const { return counters_; }

 private:
  asio::awaitable<void> run();
  asio::awaitable<Status> pass();
  // Of the blocks behind `after`, one step, no faster than it may be. Returns where the next one
  // begins; nothing behind the last block.
  asio::awaitable<Result<std::optional<Digest>>> step(std::optional<Digest> after);

  asio::any_io_executor executor_;
  asio::any_io_executor workers_;
  Node& node_;
  const ScrubOptions options_;
  Throttle throttle_;
  Counters counters_;
  net::Signal wake_;
  net::Signal ended_;
  bool hurried_ = false;
  bool running_ = false;
  bool stopping_ = false;
};

}  // namespace ballast::server
