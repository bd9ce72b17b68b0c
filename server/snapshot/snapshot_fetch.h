// Brings a snapshot from the other nodes when the primary's log does not reach back to where this
// node's ends: the rows of one moment from whoever has applied enough, then the blocks that this
// node lacks, by digest, from all members at once. While the log has gone on by more than is kept
// of it, newer rows are brought, and the blocks that are new in them. What it has brought survives
// failures and restarts; an attempt that fails is made again when the core says once more that it
// needs one.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <type_traits>

#include "proto/net/asio.h"
#include "proto/net/event.h"
#include "proto/storage.pb.h"
#include "server/node/node.h"
#include "server/repair/other_replicas.h"
#include "server/repair/throttle.h"
#include "server/snapshot/replica_requests.h"
#include "storage/io/space.h"
#include "storage/log/log_base.h"
#include "storage/snapshot/incoming.h"

namespace ballast::server {

// What is being fetched; nothing if `index` is 0.
struct SnapshotProgress {
  Index index;               // what the snapshot shows
  uint64_t block_bytes = 0;  // of all its blocks
  uint64_t came_bytes = 0;   // of those that came, by now
};

struct FetchOptions {
  storage::IncomingOptions incoming;  // where it is made
  uint64_t bytes_per_second = 0;      // of blocks, at most; 0: as fast as they come
  // Of the disk that `incoming` lies on. Null: nobody asks.
  std::function<Result<storage::Space>()> measure;
};

// On the node's executor.
class SnapshotFetch {
 public:
  // `on_whole` is called once, when the database has become whole and is closed: the node is to be
  // stopped and opened again with it in the place of its own.
  SnapshotFetch(asio::any_io_executor executor, const asio::any_io_executor& workers, Node& node,
                OtherReplicas& others, FetchOptions options, std::function<void()> on_whole);

  // A snapshot that shows this entry is needed. If one is being fetched, or an attempt has just
  // failed, the next one begins when that is over and this is called again.
  void need(Index index);
  // Breaks off what is under way, and waits until it has ended. The other replicas must have been
  // stopped.
  asio::awaitable<void> stop();
  const SnapshotProgress& progress() const { return progress_; }

 private:
  // The blocks of some rows that are still to come.
  struct Pull;
  struct Wanted;

  asio::awaitable<void> run(Index index);
  asio::awaitable<Status> attempt(Index index);
  asio::awaitable<std::optional<Index>> needed_again(Index index);
  asio::awaitable<void> discard(std::string_view why);
  // How many blocks were left out, since nobody has them any more.
  asio::awaitable<Result<size_t>> bring(Replica& source, const pb::OpenSnapshotReply& opened);
  asio::awaitable<Status> fetch_rows(Replica& source, uint64_t id);
  asio::awaitable<Result<size_t>> fetch_blocks(Index rows_at);
  asio::awaitable<Status> check_space();
  asio::awaitable<Status> look_for_wanted(Pull& pull);
  asio::awaitable<void> pull_from(net::Endpoint address, Pull& pull);
  asio::awaitable<bool> pull_one(Replica& replica, Pull& pull);
  asio::awaitable<Status> pull_block(Replica& replica, const pb::BlockRef& block, Pull& pull);
  asio::awaitable<void> pause(Clock::time_point until, Pull& pull);
  bool settle(Wanted wanted, const Status& came, Pull& pull);
  // Runs work on the database that is made; notes if that is damaged.
  template <class Work>
  asio::awaitable<std::invoke_result_t<Work>> in_incoming(Work work);

  asio::any_io_executor executor_;
  asio::any_io_executor workers_;
  Node& node_;
  OtherReplicas& others_;
  FetchOptions options_;
  Throttle throttle_;
  SnapshotProgress progress_;
  std::function<void()> on_whole_;
  std::unique_ptr<storage::IncomingSnapshot> incoming_;
  net::Signal ended_;
  net::Signal needed_;  // once more, while running_
  std::optional<Index> needed_again_;
  Pull* pull_ = nullptr;  // while blocks come
  bool damaged_ = false;  // what has come can't be read any more
  bool full_ = false;     // nothing more can be written
  bool running_ = false;
  bool whole_ = false;
  bool stopping_ = false;
};

}  // namespace ballast::server
