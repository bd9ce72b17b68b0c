// Puts damaged blocks right: one after the other, their bytes are brought from another member and
// written back.
#pragma once

#include <cstdint>
#include <map>

#include "proto/base/clock.h"
#include "proto/base/digest.h"
#include "proto/net/asio.h"
#include "proto/net/event.h"
#include "server/node/node.h"
#include "server/repair/other_replicas.h"

namespace ballast::server {

// On the node's executor.
class BlockRepairs {
 public:
  BlockRepairs(asio::any_io_executor executor, Node& node, OtherReplicas& others);

  // The block can't be read here. Nothing new if that is known already. Beyond some thousand that
  // wait, others are left to the next time that somebody meets them.
  void need(const Digest& digest);
  // Waits until the block waits for repair no more, or has done so in vain once. True if it is not
  // known to be damaged then.
  asio::awaitable<bool> wait(Digest digest, Clock::time_point deadline);

  // Since the node started.
  struct Counters {
    uint64_t found = 0;     // blocks that were damaged
    uint64_t repaired = 0;  // and are whole again
    uint64_t waiting = 0;   // and are not, so far
  };
  Counters counters() const { return {found_, repaired_, waiting_.size()}; }

  asio::awaitable<void> stop();

 private:
  struct Waiting {
    Clock::time_point not_before;
    bool said = false;  // why it fails
  };
  asio::awaitable<void> run();
  asio::awaitable<void> repair(Digest digest);

  asio::any_io_executor executor_;
  Node& node_;
  OtherReplicas& others_;
  std::map<Digest, Waiting> waiting_;
  net::Signal changed_;
  uint64_t found_ = 0;
  uint64_t repaired_ = 0;
  bool running_ = false;
  bool stopping_ = false;
};

}  // namespace ballast::server
