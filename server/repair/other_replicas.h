// The other members of the cluster, as this node asks them for what it lacks.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "proto/base/bytes.h"
#include "proto/base/digest.h"
#include "proto/base/result.h"
#include "proto/net/asio.h"
#include "server/cluster.h"
#include "server/node/node.h"
#include "server/snapshot/replica_requests.h"

namespace ballast::server {

// On the node's executor.
class OtherReplicas {
 public:
  OtherReplicas(asio::any_io_executor executor, asio::any_io_executor workers, const Node& node,
                const ClusterConfig& cluster)
      : executor_(std::move(executor)),
        workers_(std::move(workers)),
        node_(node),
        cluster_(cluster) {}

  // The members that the log names, and those of the configuration file: a node that is new to the
  // cluster knows no others. The primary comes first.
  std::vector<net::Endpoint> addresses() const;

  // A connection to one of them, which stop() closes. Errors: those of Replica::connect().
  asio::awaitable<Result<std::shared_ptr<Replica>>> connect(net::Endpoint address);

  // A block's bytes from whoever has them; their SHA-256 has been compared. Error: what the last
  // one said.
  asio::awaitable<Result<Bytes>> block(Digest digest);

  // A snapshot that shows this entry, to be read by way of the connection; none if the log goes on
  // from the entry `has`, where that is not 0. Error likewise.
  asio::awaitable<Result<std::shared_ptr<Replica>>> open_snapshot(Index index, Index has,
                                                                  pb::OpenSnapshotReply& opened);

  // Whether one of them has rows that are whole, to the last one. Error likewise.
  asio::awaitable<Status> has_rows();

  // Closes all connections, and those that are made from now on.
  void stop();

 private:
  struct Given {
    std::shared_ptr<Replica> by;
    Replica::Answer answer;
  };
  using Accept = std::function<asio::awaitable<Status>(const Replica::Answer&)>;
  // Asks one after the other until an answer is accepted; null: any that is no failure. Error: what
  // the last one said, or was refused for.
  asio::awaitable<Result<Given>> ask(pb::Request request, Accept accept = nullptr);
  asio::awaitable<Status> check_block(Digest digest, Bytes bytes);

  asio::any_io_executor executor_;
  asio::any_io_executor workers_;
  const Node& node_;
  const ClusterConfig& cluster_;
  std::vector<std::weak_ptr<Replica>> replicas_;
  bool stopped_ = false;
};

}  // namespace ballast::server
