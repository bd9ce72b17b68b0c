// A client of the simulated cluster: one session, one request at a time, sent again under the same
// sequence until its outcome is known or its patience ends.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/raft/prng.h"
#include "tests/sim/history.h"
#include "tests/sim/node.h"

namespace ballast::sim {

class World;

class Client {
 public:
  Client(World& world, uint64_t number, raft::Prng chance);

  // Goes on with one request after another until the world says that it is enough.
  void start();
  // No request is under way any more.
  bool idle() const { return !busy_; }
  // A read of each level at this node, now, whatever else is under way.
  void probe(SimNode& node);

 private:
  struct Operation {
    bool erase = false;
    std::string key;
    std::optional<uint64_t> expect;  // the key's revision
    Bytes payload;
    pb::AckLevel ack = pb::ACK_SYNC;
  };
  struct Reply {
    Result<server::Node::Written> written;
  };

  void next();
  void pause_then_next();
  void begin_write();
  void attempt_write();
  void on_reply(uint64_t attempt, const Reply& reply);
  void finish(const pb::ApplyResult& result);
  void begin_read();
  void begin_bounded_read();
  std::string pick_key();
  NodeId pick_node();
  std::vector<server::Node::Draft> drafts() const;
  asio::awaitable<void> write_at(SimNode& node, uint64_t attempt);
  asio::awaitable<void> read_at(SimNode& node, std::string key, uint64_t invoked_us,
                                uint64_t attempt);
  asio::awaitable<void> bounded_read_at(SimNode& node, std::string key, uint64_t bound_us);
  void note_read(SimNode& node, ReadRecord read);

  World& world_;
  raft::Prng chance_;
  std::string session_;
  uint64_t sequence_ = 0;
  Operation operation_;
  size_t record_ = 0;     // of the write under way, in the history
  uint64_t attempt_ = 0;  // counts all attempts ever: a late reply is for an older one
  int tries_left_ = 0;
  NodeId leader_;                         // whom this client believes to lead
  std::map<std::string, uint64_t> seen_;  // revisions
  bool busy_ = false;
};

}  // namespace ballast::sim
