// What reads of a bounded staleness cost and promise, with real processes.

#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "tests/drills/running_cluster.h"

namespace ballast::testing {
namespace {

using client::Client;
using client::ReadLevel;
using namespace std::chrono_literals;
using SteadyClock = std::chrono::steady_clock;

client::NodeStatus status_of(Client& client, const kvctl::LocalNode& node) {
  const auto status = client.status();
  EXPECT_TRUE(status) << status.error().message;
  for (const client::NodeStatus& each : status->nodes) {
    if (each.member.id == node.id) return each;
  }
  ADD_FAILURE() << "the cluster does not know " << node.name;
  return {};
}

TEST(Bounded, a_backup_answers_by_itself_and_asks_only_now_and_then) {
  constexpr uint64_t kReads = 1000;
  constexpr auto kBound = 500ms;
  RunningCluster cluster;
  Client client = cluster.connect();
  ASSERT_TRUE(client.put("k", view_of(make_values(100, 1)), {}));
  const kvctl::LocalNode& backup = cluster.follower();
  Client at_backup = cluster.connect_to(backup);
  const auto probes_of = [&](ReadLevel level) {
    const client::NodeStatus before = status_of(client, backup);
    for (uint64_t i = 0; i < kReads; ++i) {
      const auto stored = at_backup.stat("k", {.read = level});
      EXPECT_TRUE(stored) << stored.error().to_string();
    }
    const client::NodeStatus after = status_of(client, backup);
    EXPECT_EQ(after.bounded_reads - before.bounded_reads, level.is_bounded() ? kReads : 0);
    return after.read_probes - before.read_probes;
  };
  EXPECT_GE(probes_of(ReadLevel::kLinearizable), kReads);
  EXPECT_EQ(probes_of(ReadLevel::kAny), 0U);
  EXPECT_LE(probes_of(ReadLevel::bounded(1h)), 1U);
  const auto begin = SteadyClock::now();
  const uint64_t probes = probes_of(ReadLevel::bounded(kBound));
  // One for each half of the bound, and the first.
  EXPECT_LE(probes, 1 + static_cast<uint64_t>((SteadyClock::now() - begin) / (kBound / 2)));
}

TEST(Bounded, all_replicas_take_their_share) {
  RunningCluster cluster;
  Client client = cluster.connect();
  ASSERT_TRUE(client.put("k", view_of(make_values(100, 1)), {}));
  for (int i = 0; i < 90; ++i) ASSERT_TRUE(client.stat("k", {.read = ReadLevel::bounded(10s)}));
  for (const kvctl::LocalNode& node : cluster.processes().nodes())
    EXPECT_GE(status_of(client, node).bounded_reads, 20U) << node.name;
}

// The writer notes when each write was acknowledged, by the clock that the reader goes by, too.
TEST(Bounded, what_was_acknowledged_before_the_bound_is_there) {
  constexpr auto kBound = 20ms;
  RunningCluster cluster;
  Client client = cluster.connect();
  ASSERT_TRUE(client.put("k", view_of(make_values(100, 0)), {}));
  Client at_backup = cluster.connect_to(cluster.follower());
  std::mutex mutex;
  std::vector<std::pair<SteadyClock::time_point, uint64_t>> acknowledged;  // and their revision
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    for (uint64_t i = 1; !stop; ++i) {
      const auto put = client.put("k", view_of(make_values(100, i)), {});
      if (!put) continue;
      const std::lock_guard lock(mutex);
      acknowledged.emplace_back(SteadyClock::now(), put->receipt.index.value());
    }
  });
  const auto newest_before = [&](SteadyClock::time_point moment) {
    const std::lock_guard lock(mutex);
    const auto after = std::ranges::partition_point(
        acknowledged, [&](const auto& write) { return write.first < moment; });
    return after == acknowledged.begin() ? 0 : std::prev(after)->second;
  };
  uint64_t last = 0;
  for (int i = 0; i < 2000; ++i) {
    const uint64_t least = newest_before(SteadyClock::now() - kBound);
    const auto stored = at_backup.stat("k", {.read = ReadLevel::bounded(kBound)});
    EXPECT_TRUE(stored) << stored.error().to_string();
    if (!stored) break;
    EXPECT_GE(stored->revision, least);
    last = stored->revision;
  }
  stop = true;
  writer.join();
  EXPECT_GT(last, 0U);
}

TEST(Bounded, a_backup_that_is_cut_off_refuses_when_the_bound_is_over) {
  RunningCluster cluster;
  Client client = cluster.connect();
  ASSERT_TRUE(client.put("k", view_of(make_values(100, 1)), {.ack = client::Ack::kSyncAll}));
  cluster.settle();
  const kvctl::LocalNode& backup = cluster.follower();
  Client alone = cluster.connect_to(backup);
  ASSERT_TRUE(alone.stat("k", {.read = ReadLevel::bounded(1h)}));

  std::vector<kvctl::LocalCluster::Target> frozen;
  for (const kvctl::LocalNode& node : cluster.processes().nodes()) {
    if (node.id == backup.id) continue;
    auto target = cluster.processes().aim(node);
    ASSERT_TRUE(target) << target.error().message;
    ASSERT_TRUE(cluster.processes().strike(*target, SIGSTOP));
    frozen.push_back(*std::move(target));
  }
  const client::ReadOptions bounded{.read = ReadLevel::bounded(400ms), .deadline = 500ms};
  std::optional<Error> refusal;
  ASSERT_TRUE(RunningCluster::eventually([&] {
    const auto stored = alone.stat("k", bounded);
    if (!stored) refusal = stored.error();
    return refusal && refusal->code == Errc::kTooStale;
  })) << "last: "
      << (refusal ? refusal->to_string() : "no refusal");
  EXPECT_NE(refusal->message.find("ms old, more than the 400 ms"), std::string::npos)
      << refusal->message;
  EXPECT_TRUE(alone.stat("k", {.read = ReadLevel::kAny}));
  EXPECT_TRUE(alone.stat("k", {.read = ReadLevel::bounded(1h)})) << "it was asked for less";
  EXPECT_EQ(alone.stat("k", bounded).error().code, Errc::kTooStale);

  for (const kvctl::LocalCluster::Target& target : frozen)
    ASSERT_TRUE(cluster.processes().strike(target, SIGCONT));
  EXPECT_TRUE(RunningCluster::eventually([&] { return alone.stat("k", bounded).has_value(); }));
}

}  // namespace
}  // namespace ballast::testing
