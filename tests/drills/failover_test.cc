// What the cluster promises when processes die.

#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <future>
#include <map>
#include <thread>

#include "client/kvctl/drill.h"
#include "tests/drills/running_cluster.h"

namespace ballast::testing {
namespace {

using client::Ack;
using client::Client;
using client::ReadLevel;
using namespace std::chrono_literals;

TEST(Failover, an_import_goes_on_by_itself_when_the_primary_dies) {
  RunningCluster cluster;
  Client client = cluster.connect();
  constexpr size_t kTensors = 48;
  std::vector<std::vector<float>> values;
  std::vector<client::TensorSource> sources;
  for (size_t i = 0; i < kTensors; ++i) values.push_back(make_values(262'144, i));
  for (size_t i = 0; i < kTensors; ++i) {
    sources.push_back(
        {.name = "t" + std::to_string(i),
         .shape = {512, 512},
         .read = [&values, i](uint64_t offset, std::span<std::byte> out) -> Status {
           std::memcpy(out.data(), std::as_bytes(std::span(values[i])).data() + offset, out.size());
           return {};
         }});
  }
  const kvctl::LocalNode& victim = cluster.leader();
  bool killed = false;
  const auto published =
      client.publish("m", sources, {.progress = [&](uint64_t done, uint64_t total) {
                       if (killed || done < total / 3) return;
                       killed = true;
                       cluster.kill(victim);
                     }});
  ASSERT_TRUE(published) << published.error().message;
  ASSERT_TRUE(killed);
  EXPECT_NE(cluster.leader().id, victim.id);
  cluster.start(victim);
  cluster.settle();

  const auto reports = client.verify(true);
  ASSERT_TRUE(reports);
  for (const client::VerifyReport& report : *reports) {
    EXPECT_FALSE(report.error) << report.error->message;
    EXPECT_TRUE(report.damaged.empty());
    EXPECT_GE(report.blocks, kTensors);
    EXPECT_EQ(report.state, reports->front().state);
  }
  const auto version = client.version(*parse_reference("m@1"), ReadLevel::kLinearizable);
  ASSERT_TRUE(version) << version.error().message;
  for (const client::StoredTensor& tensor : version->tensors) {
    const auto& expected = values[std::stoul(tensor.name.substr(1))];
    std::vector<std::byte> bytes;
    ASSERT_TRUE(client.read(tensor, {}, [&](std::span<const std::byte> piece) -> Status {
      bytes.insert(bytes.end(), piece.begin(), piece.end());
      return {};
    }));
    ASSERT_EQ(bytes.size(), expected.size() * sizeof(float));
    EXPECT_EQ(std::memcmp(bytes.data(), expected.data(), bytes.size()), 0);
  }
}

TEST(Failover, acknowledged_writes_survive_the_death_of_all_nodes) {
  RunningCluster cluster;
  std::map<std::string, std::vector<float>> acknowledged;
  std::mutex mutex;
  std::atomic<bool> stop = false;
  std::vector<std::thread> writers;
  for (uint64_t w = 0; w < 4; ++w) {
    writers.emplace_back([&, w] {
      Client client = cluster.connect({.deadline = 2000ms});
      for (uint64_t i = 0; !stop; ++i) {
        const std::string key = fmt::format("w{}/{}", w, i);
        std::vector<float> values = make_values(5000, w * 1'000'000 + i);
        if (!client.put(key, view_of(values), {})) continue;
        const std::lock_guard lock(mutex);
        acknowledged.emplace(key, std::move(values));
      }
    });
  }
  const auto count = [&] {
    const std::lock_guard lock(mutex);
    return acknowledged.size();
  };
  ASSERT_TRUE(RunningCluster::eventually([&] { return count() >= 200; }));
  cluster.kill_all();
  stop = true;
  for (std::thread& writer : writers) writer.join();

  cluster.start_all();
  cluster.settle();
  Client client = cluster.connect();
  for (const auto& [key, values] : acknowledged) {
    const auto got = client.get(key, {});
    ASSERT_TRUE(got) << key << ": " << got.error().message;
    ASSERT_EQ(std::memcmp(got->data.data(), values.data(), got->data.size()), 0) << key;
  }
}

TEST(Failover, sync_all_says_when_a_voter_is_missing) {
  RunningCluster cluster;
  Client client = cluster.connect();
  const std::vector<float> values = make_values(100, 1);
  ASSERT_TRUE(client.put("a", view_of(values), {.ack = Ack::kSyncAll}));
  const kvctl::LocalNode& missing = cluster.follower();
  cluster.kill(missing);
  const auto put = client.put("b", view_of(values), {.ack = Ack::kSyncAll, .deadline = 500ms});
  EXPECT_EQ(put.error().code, Errc::kAckNotReached);
  EXPECT_TRUE(client.get("b", {})) << "it is durable on a majority all the same";
  EXPECT_TRUE(client.put("c", view_of(values), {.ack = Ack::kSync}));
  cluster.start(missing);
  EXPECT_TRUE(client.put("d", view_of(values), {.ack = Ack::kSyncAll}));
}

TEST(Failover, a_minority_neither_writes_nor_claims_to_be_current) {
  RunningCluster cluster;
  Client client = cluster.connect();
  const std::vector<float> values = make_values(100, 1);
  ASSERT_TRUE(client.put("a", view_of(values), {.ack = Ack::kSyncAll}));
  cluster.settle();
  cluster.kill(cluster.follower());
  cluster.kill(cluster.follower());
  const auto put = client.put("b", view_of(values), {.deadline = 1500ms});
  ASSERT_FALSE(put);
  EXPECT_TRUE(put.error().code == Errc::kUnknownOutcome || put.error().code == Errc::kUnavailable)
      << put.error().to_string();
  const client::ReadOptions linearizable{.read = ReadLevel::kLinearizable, .deadline = 1500ms};
  EXPECT_EQ(client.get("a", linearizable).error().code, Errc::kUnavailable);
  EXPECT_TRUE(client.get("a", {.read = ReadLevel::kAny}));
}

TEST(Failover, leadership_moves_while_writes_go_on) {
  RunningCluster cluster;
  const uint64_t before = cluster.leader().id;
  std::atomic<bool> stop = false;
  std::atomic<size_t> done = 0;
  Error failure;
  std::thread writer([&] {
    Client client = cluster.connect();
    const std::vector<float> values = make_values(1000, 1);
    while (!stop) {
      if (const auto put = client.put("k", view_of(values), {}); !put) {
        failure = put.error();
        return;
      }
      ++done;
    }
  });
  EXPECT_TRUE(RunningCluster::eventually([&] { return done > 20; }));
  Client client = cluster.connect();
  const auto moved = client.transfer_leadership("");
  ASSERT_TRUE(moved) << moved.error().message;
  EXPECT_NE(moved->id, before);
  const size_t at_move = done;
  EXPECT_TRUE(RunningCluster::eventually([&] { return done > at_move + 20; }));
  stop = true;
  writer.join();
  EXPECT_EQ(failure.message, "");
}

TEST(Failover, sigterm_ends_within_five_seconds_and_keeps_everything) {
  RunningCluster cluster;
  Client client = cluster.connect();
  const std::vector<float> values = make_values(100'000, 1);
  ASSERT_TRUE(client.put("k", view_of(values), {}));
  const auto killed = cluster.processes().stop(cluster.processes().nodes(), 5000ms);
  ASSERT_TRUE(killed) << killed.error().message;
  EXPECT_TRUE(killed->empty()) << "SIGKILL was needed for " << killed->front();
  cluster.start_all();
  cluster.settle();
  EXPECT_TRUE(client.get("k", {}));
}

// ---- the scenarios of `kvctl drill` ----

class DrillOn : public ::testing::TestWithParam<kvctl::Scenario> {};

// A blow that falls between two writes proves nothing, and the drill says so: once more then.
Result<kvctl::DrillReport> conclusive_drill(const kvctl::DrillOptions& options) {
  constexpr int kDrillsMax = 4;
  for (int drill = 1;; ++drill) {
    std::filesystem::remove(options.ledger);
    auto report = kvctl::run_drill(options, [](const std::string&) {});
    if (!report || report->verdict != kvctl::Verdict::kInconclusive || drill == kDrillsMax)
      return report;
  }
}

TEST_P(DrillOn, real_processes_loses_nothing) {
  RunningCluster cluster;
  kvctl::DrillOptions options;
  options.scenario = GetParam();
  options.dir = cluster.processes().dir();
  options.ballastd = BALLASTD;
  options.rounds = 2;
  options.bytes = 16 << 10;
  options.before = 200ms;
  options.pause = 1000ms;
  options.ledger = options.dir.parent_path() / "drill.ledger";
  const auto report = conclusive_drill(options);
  ASSERT_TRUE(report) << report.error().to_string();
  EXPECT_EQ(report->verdict, kvctl::Verdict::kPass)
      << fmt::format("{}", fmt::join(report->reasons, "; "));
  EXPECT_EQ(report->summary.header.scenario, kvctl::scenario_name(GetParam()));
  EXPECT_EQ(report->summary.rounds.size(), 2U);
  EXPECT_TRUE(report->findings.intact());
  for (const kvctl::RoundSummary& round : report->summary.rounds) {
    EXPECT_TRUE(round.complete());
    EXPECT_GT(round.gap_us, 0U);
    EXPECT_LT(round.gap_us, 20'000'000U);
  }
  for (const kvctl::LocalNode& node : cluster.processes().nodes())
    EXPECT_TRUE(cluster.processes().running(node)) << node.name << " is left behind";
}

INSTANTIATE_TEST_SUITE_P(Failover, DrillOn,
                         ::testing::Values(kvctl::Scenario::kKill, kvctl::Scenario::kTransfer,
                                           kvctl::Scenario::kPause, kvctl::Scenario::kRestartAll),
                         [](const auto& given) {
                           std::string name(kvctl::scenario_name(given.param));
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace ballast::testing
