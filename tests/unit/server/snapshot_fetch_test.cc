// A snapshot that can't be fetched, since nobody is there who has one.
#include "server/snapshot/snapshot_fetch.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "proto/net/worker.h"
#include "server/repair/other_replicas.h"
#include "tests/unit/server/one_node.h"

namespace ballast::server {
namespace {

class Fetching {
 public:
  explicit Fetching(OneNode& one)
      : paths_(one.directory->incoming()),
        others_(one.io.get_executor(), one.threads.workers().background, *one.node, one.cluster),
        fetch_(one.io.get_executor(), one.threads.workers().background, *one.node, others_,
               {.incoming = {.rows = {.directory = paths_.rows},
                             .blocks = {.directory = paths_.blocks,
                                        .log = paths_.log,
                                        .segment_bytes = 16 << 20}},
                .measure = {}},
               [] { ADD_FAILURE() << "nothing can become whole"; }) {}
  SnapshotFetch* operator->() { return &fetch_; }
  bool left_something() const {
    return std::filesystem::exists(paths_.rows) || std::filesystem::exists(paths_.blocks);
  }

 private:
  const storage::IncomingPaths paths_;
  OtherReplicas others_;
  SnapshotFetch fetch_;
};

TEST(SnapshotFetch, leaves_nothing_when_the_log_has_brought_the_entry_meanwhile) {
  OneNode one;
  Fetching fetching(one);
  one.run([&]() -> asio::awaitable<void> {
    fetching->need(one.node->state().applied().index);
    while (!fetching.left_something()) co_await one.turn();
    while (fetching.left_something()) co_await one.turn();
    co_await fetching->stop();
  });
}

TEST(SnapshotFetch, keeps_what_has_come_while_the_entry_is_still_needed) {
  OneNode one;
  Fetching fetching(one);
  one.run([&]() -> asio::awaitable<void> {
    fetching->need(one.node->state().applied().index + 1);
    while (!fetching.left_something()) co_await one.turn();
    co_await fetching->stop();
    EXPECT_TRUE(fetching.left_something());
  });
}

}  // namespace
}  // namespace ballast::server
