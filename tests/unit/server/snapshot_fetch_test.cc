// How a snapshot is fetched from a member that is not there, and from one that is this node itself.
#include "server/snapshot/snapshot_fetch.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "proto/net/worker.h"
#include "server/repair/other_replicas.h"
#include "tests/unit/server/one_node.h"

namespace ballast::server {
namespace {

using std::chrono::microseconds;

class Fetching {
 public:
  explicit Fetching(OneNode& one) : Fetching(one, one.cluster) {}
  Fetching(OneNode& one, ClusterConfig cluster)
      : paths_(one.directory->incoming()),
        cluster_(std::move(cluster)),
        others_(one.io.get_executor(), one.threads.workers().background, *one.node, cluster_),
        fetch_(one.io.get_executor(), one.threads.workers().background, *one.node, others_,
               {.incoming = {.rows = {.directory = paths_.rows},
                             .blocks = {.directory = paths_.blocks,
                                        .log = paths_.log,
                                        .segment_bytes = 16 << 20}},
                .measure = {}},
               [this] { whole = true; }) {}
  SnapshotFetch* operator->() { return &fetch_; }
  asio::awaitable<void> stop() {
    others_.stop();
    co_await fetch_.stop();
  }
  bool whole = false;  // it was told so
  bool left_something() const {
    return std::filesystem::exists(paths_.rows) || std::filesystem::exists(paths_.blocks);
  }

 private:
  const storage::IncomingPaths paths_;
  const ClusterConfig cluster_;
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
    co_await fetching.stop();
    EXPECT_FALSE(fetching.whole);
  });
}

TEST(SnapshotFetch, keeps_what_has_come_while_the_entry_is_still_needed) {
  OneNode one;
  Fetching fetching(one);
  one.run([&]() -> asio::awaitable<void> {
    fetching->need(one.node->state().applied().index + 1);
    while (!fetching.left_something()) co_await one.turn();
    co_await fetching.stop();
    EXPECT_FALSE(fetching.whole);
    EXPECT_TRUE(fetching.left_something());
  });
}

// As if its member were another: whatever it asks for, it is told.
ClusterConfig with_itself_as_the_other(const OneNode& one) {
  ClusterConfig cluster = one.cluster;
  cluster.members[1].address.port = one.listener->port();
  return cluster;
}

// Whether it had become whole when it was stopped, so long after it was begun.
asio::awaitable<bool> is_whole_when_stopped(OneNode& one, microseconds after) {
  Fetching fetching(one, with_itself_as_the_other(one));
  fetching->need(one.node->state().applied().index);
  const auto until = Clock::now() + after;
  while (Clock::now() < until && !fetching.whole) co_await one.turn();
  const bool before = fetching.whole;
  co_await fetching.stop();
  EXPECT_EQ(fetching.whole, before) << "told that it is whole once stopped, after " << after.count()
                                    << " us: the node would begin again instead of ending";
  co_return before;
}

TEST(SnapshotFetch, tells_of_nothing_once_it_is_stopped_at_any_moment) {
  // A node lets few snapshots be read at a time, and one that nobody reads any more counts as well.
  constexpr int kNodes = 12;
  constexpr int kMoments = 60;
  for (int node = 0; node < kNodes; ++node) {
    OneNode one(2);
    one.run([&]() -> asio::awaitable<void> {
      const auto began = Clock::now();
      EXPECT_TRUE(co_await is_whole_when_stopped(one, std::chrono::seconds(20)));
      const auto took = std::chrono::duration_cast<microseconds>(Clock::now() - began);
      for (int i = node; i < kMoments; i += kNodes)
        (void)co_await is_whole_when_stopped(one, took * i / kMoments);
    });
  }
}

}  // namespace
}  // namespace ballast::server
