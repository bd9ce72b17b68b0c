// Brings a snapshot from the other nodes when the primary's log does not reach back to where this
// node's ends: the rows of one moment from whoever has applied enough, then the blocks that this
// node lacks, by digest, from all members at once. What it has brought survives failures and
// restarts; an attempt that fails is made again when the core says once more that it needs one.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "proto/net/asio.h"
#include "proto/net/event.h"
#include "proto/storage.pb.h"
#include "server/cluster.h"
#include "server/node/node.h"
#include "server/snapshot/replica_requests.h"
#include "storage/kv/state_machine.h"
#include "storage/log/log_base.h"
#include "storage/snapshot/incoming.h"

namespace ballast::server {

// On the node's executor.
class SnapshotFetch {
 public:
  // `incoming` is where the database is made. `on_whole` is called once, when it has become whole
  // and is closed: the node is to be stopped and opened again with it in the place of its own.
  SnapshotFetch(asio::any_io_executor executor, const asio::any_io_executor& workers, Node& node,
                const ClusterConfig& cluster, storage::StateOptions incoming,
                std::function<void()> on_whole);

  // A snapshot that shows this entry is needed. Nothing happens if one is being fetched, or if the
  // last attempt has just failed.
  void need(Index index);
  // Breaks off what is under way, and waits until it has ended.
  asio::awaitable<void> stop();

 private:
  // The blocks of one attempt that are still to come.
  struct Pull;

  std::vector<net::Endpoint> others() const;
  asio::awaitable<void> run(Index index);
  asio::awaitable<Status> attempt(Index index);
  asio::awaitable<Result<std::shared_ptr<Replica>>> open_at(Index index,
                                                            pb::OpenSnapshotReply& opened);
  asio::awaitable<Status> fetch_rows(Replica& source, uint64_t id);
  asio::awaitable<Status> fetch_blocks();
  asio::awaitable<void> pull_from(net::Endpoint address, Pull& pull);
  asio::awaitable<bool> pull_one(Replica& replica, Pull& pull);
  void keep(const std::shared_ptr<Replica>& replica);

  asio::any_io_executor executor_;
  asio::any_io_executor workers_;  // one thing after the other
  Node& node_;
  const ClusterConfig& cluster_;
  storage::StateOptions options_;
  std::function<void()> on_whole_;
  std::unique_ptr<storage::IncomingSnapshot> incoming_;
  std::vector<std::weak_ptr<Replica>> replicas_;  // to close when it is to stop
  net::Signal ended_;
  Clock::time_point not_before_;
  bool running_ = false;
  bool whole_ = false;
  bool stopping_ = false;
};

}  // namespace ballast::server
