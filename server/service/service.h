// Answers the requests of clients (proto/service.proto).
//
// On the node's executor; what reads RocksDB, hashes or verifies runs on the worker pool.
#pragma once

#include <optional>
#include <vector>

#include "proto/net/asio.h"
#include "proto/net/worker.h"
#include "proto/peer.pb.h"
#include "proto/service.pb.h"
#include "server/cluster.h"
#include "server/node/node.h"
#include "server/repair/block_repairs.h"
#include "server/repair/scrub.h"
#include "server/service/members.h"
#include "server/snapshot/open_snapshots.h"
#include "server/snapshot/snapshot_fetch.h"
#include "storage/identity.h"

namespace ballast::server {

struct Answer {
  pb::Reply reply;
  Bytes payload;
  std::optional<uint32_t> payload_crc;
};

class Service {
 public:
  Service(Node& node, const ClusterConfig& cluster, storage::Identity identity,
          std::string data_directory, net::Workers workers,
          std::chrono::milliseconds upload_lease = limits::kUploadLease);
  // Who finds and mends damage here, and brings what this node lacks: all of them, or none.
  struct Keepers {
    BlockRepairs* repairs = nullptr;
    Scrub* scrub = nullptr;
    const SnapshotFetch* fetch = nullptr;
  };
  // They must be there until the last request is answered.
  void set_keepers(const Keepers& keepers) { keepers_ = keepers; }

  // Never throws; an error is a reply. `payload_crc` has been verified.
  asio::awaitable<Answer> handle(pb::Request request, Bytes payload, uint32_t payload_crc);

  // The greeting's answer; with a failure if this node can't serve whoever greets.
  // Remembers disks that ask to be let in.
  pb::HelloReply greet(const pb::Hello& hello);

 private:
  using Deadline = Clock::time_point;
  asio::awaitable<Result<Answer>> dispatch(const pb::Request& request, Bytes payload,
                                           uint32_t payload_crc, Deadline deadline);
  // Waits until the state is as fresh as the request wants it.
  asio::awaitable<Status> reach_level(const pb::Request& request, Deadline deadline);
  asio::awaitable<Result<Answer>> dispatch_read(const pb::Request& request, Deadline deadline);
  asio::awaitable<Result<Answer>> dispatch_admin(const pb::Request& request, Deadline deadline);

  asio::awaitable<Result<Answer>> stage_block(const pb::Request& request, Bytes payload,
                                              uint32_t payload_crc, Deadline deadline);
  asio::awaitable<Result<Answer>> commit(const pb::Request& request, Bytes payload,
                                         uint32_t payload_crc, Deadline deadline);
  asio::awaitable<Result<Node::Draft>> block_draft(pb::BlockRef reference, Bytes payload,
                                                   uint32_t payload_crc);
  asio::awaitable<Result<Answer>> write(std::vector<Node::Draft> drafts, pb::AckLevel ack,
                                        Deadline deadline);
  asio::awaitable<Result<Answer>> wait(const pb::Request& request, Deadline deadline);
  asio::awaitable<Result<Answer>> get_block(const pb::GetBlock& request);
  asio::awaitable<Result<Answer>> missing_blocks(const pb::MissingBlocks& request);
  asio::awaitable<Result<Answer>> transfer(const pb::TransferLeader& request, Deadline deadline);
  asio::awaitable<Result<Answer>> drain(const pb::Drain& request, Deadline deadline);
  Result<Answer> open_snapshot(const pb::OpenSnapshot& request);
  asio::awaitable<Result<Answer>> read_snapshot(const pb::ReadSnapshot& request);
  asio::awaitable<Result<Answer>> verify_blocks(const pb::VerifyBlocks& request, Deadline deadline);
  // Error kUnavailable while this node has no rows to answer by.
  Status check_rows() const;
  void add_upkeep(pb::StatusReply& status) const;
  asio::awaitable<Result<Answer>> garbage(const pb::Garbage& request);
  asio::awaitable<Result<Answer>> collect_garbage(const pb::Request& request, Deadline deadline);
  pb::StatusReply status() const;
  pb::Failure failure(const Error& error) const;

  Node& node_;
  MemberRequests members_;
  const ClusterConfig& cluster_;
  storage::Identity identity_;
  std::string data_directory_;
  net::Workers workers_;
  OpenSnapshots snapshots_;
  Keepers keepers_;
  std::chrono::milliseconds upload_lease_;  // of blocks that no commit names yet
  Clock::time_point started_ = Clock::now();
};

}  // namespace ballast::server
