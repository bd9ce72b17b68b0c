// What the cluster promises when disks are full: each node has a small file system of its own.

#include <map>
#include <set>

#include "tests/drills/running_cluster.h"
#include "tests/unit/storage/small_disk.h"

namespace ballast::testing {
namespace {

using client::Client;
using client::ReadLevel;
using storage::SmallDisk;
using namespace std::chrono_literals;

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kDiskBytes = 640 * kMiB;
// Enough for the rows (64 MiB, and a quarter more), too little for a segment (16 MiB beside 128).
constexpr uint64_t kNoSegment = 100 * kMiB;
constexpr size_t kValues = 262'144;  // 1 MiB of f32

class FullDisk : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string problem = SmallDisk::problem(); !problem.empty()) GTEST_SKIP() << problem;
    cluster_.emplace(3, [&](RunningCluster& cluster) {
      const kvctl::LocalCluster& processes = cluster.processes();
      for (const kvctl::LocalNode& node : processes.nodes())
        disks_.try_emplace(node.id, processes.config_path(node).parent_path() / "data", kDiskBytes);
    });
  }
  void TearDown() override {
    if (!cluster_) return;
    for (const kvctl::LocalNode& node : cluster_->processes().nodes())
      EXPECT_TRUE(cluster_->processes().running(node)) << node.name << " has stopped";
    cluster_->kill_all();
    disks_.clear();
    cluster_.reset();
  }

  SmallDisk& disk(const kvctl::LocalNode& node) { return disks_.at(node.id); }
  // Puts 1 MiB under another key; what it acknowledges is remembered.
  Status put(Client& client) {
    const uint64_t number = ++puts_;
    const auto put = client.put(key_of(number), view_of(make_values(kValues, number)), {});
    if (!put) return std::unexpected(put.error());
    acknowledged_.insert(number);
    return {};
  }
  static std::string key_of(uint64_t number) { return "k" + std::to_string(number); }
  bool full(Client& client, const kvctl::LocalNode& node) {
    const auto status = client.status();
    if (!status) return false;
    for (const client::NodeStatus& one : status->nodes)
      if (one.member.id == node.id) return one.full;
    return false;
  }
  void expect_all_acknowledged(Client& client) {
    for (const uint64_t number : acknowledged_) {
      const auto got = client.get(key_of(number), {});
      ASSERT_TRUE(got) << key_of(number) << ": " << got.error().message;
      const auto values = make_values(kValues, number);
      ASSERT_TRUE(std::ranges::equal(got->data, std::as_bytes(std::span(values))));
    }
  }
  void expect_equal_and_whole(Client& client) {
    const auto reports = client.verify(true);
    ASSERT_TRUE(reports);
    for (const client::VerifyReport& report : *reports) {
      EXPECT_FALSE(report.error) << report.error->message;
      EXPECT_TRUE(report.damaged.empty());
      EXPECT_EQ(report.state, reports->front().state);
    }
  }

  std::optional<RunningCluster> cluster_;
  std::map<uint64_t, SmallDisk> disks_;  // by node
  std::set<uint64_t> acknowledged_;
  uint64_t puts_ = 0;
};

TEST_F(FullDisk, of_a_backup_is_waited_for_by_nobody) {
  Client client = cluster_->connect();
  const kvctl::LocalNode& victim = cluster_->follower();
  ASSERT_TRUE(put(client));
  disk(victim).fill(kNoSegment);
  // More than its segments hold.
  for (int i = 0; i < 60; ++i) {
    const Status done = put(client);
    ASSERT_TRUE(done) << done.error().to_string();
  }
  EXPECT_TRUE(RunningCluster::eventually([&] { return full(client, victim); }));
  Client reader = cluster_->connect_to(victim);
  EXPECT_TRUE(reader.get("k1", {.read = ReadLevel::kAny}));
  EXPECT_FALSE(reader.get("k61", {.read = ReadLevel::kAny})) << "it had no place for it";
  EXPECT_TRUE(client.get("k61", {})) << "others have";

  disk(victim).give_back();
  EXPECT_TRUE(RunningCluster::eventually([&] { return !full(client, victim); }));
  cluster_->settle();
  EXPECT_TRUE(reader.get("k61", {.read = ReadLevel::kAny}));
  expect_all_acknowledged(client);
  expect_equal_and_whole(client);
}

TEST_F(FullDisk, of_the_primary_makes_another_node_lead) {
  Client client = cluster_->connect();
  const kvctl::LocalNode& victim = cluster_->leader();
  disk(victim).fill(0);
  ASSERT_TRUE(RunningCluster::eventually([&] {
    const Status done = put(client);
    EXPECT_TRUE(done) << done.error().to_string();
    return !done || cluster_->leader().id != victim.id;
  }));
  for (int i = 0; i < 40; ++i) {
    const Status done = put(client);
    ASSERT_TRUE(done) << done.error().to_string();
  }
  EXPECT_TRUE(full(client, victim));
  disk(victim).give_back();
  EXPECT_TRUE(RunningCluster::eventually([&] { return !full(client, victim); }));
  cluster_->settle();
  expect_all_acknowledged(client);
  expect_equal_and_whole(client);
}

// With and without space for the rows.
class AllFullDisks : public FullDisk, public ::testing::WithParamInterface<uint64_t> {};

TEST_P(AllFullDisks, refuse_writes_until_there_is_space) {
  Client client = cluster_->connect();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(put(client));
  for (auto& [id, disk] : disks_) disk.fill(GetParam());
  Status done;
  ASSERT_TRUE(RunningCluster::eventually([&] { return !(done = put(client)); }))
      << "nothing was refused";
  EXPECT_EQ(done.error().code, Errc::kNoSpace) << done.error().to_string();
  EXPECT_NE(done.error().message.find("full"), std::string::npos) << done.error().message;
  EXPECT_NE(done.error().message.find("free space there"), std::string::npos);
  const auto small = client.put("small", view_of(make_values(10, 1)), {});
  ASSERT_FALSE(small);
  EXPECT_EQ(small.error().code, Errc::kNoSpace) << small.error().to_string();
  expect_all_acknowledged(client);
  const auto removed = client.remove("k1");
  ASSERT_TRUE(removed) << removed.error().to_string();
  acknowledged_.erase(1);
  EXPECT_EQ(client.get("k1", {}).error().code, Errc::kNotFound);

  // A start makes nothing that it has no space for.
  cluster_->kill_all();
  cluster_->start_all();
  cluster_->settle();
  expect_all_acknowledged(client);
  EXPECT_TRUE(RunningCluster::eventually([&] {
    done = put(client);
    return !done && done.error().code == Errc::kNoSpace;
  })) << (done ? "it was taken" : done.error().to_string());
  ASSERT_TRUE(client.remove("k2"));
  acknowledged_.erase(2);

  for (auto& [id, disk] : disks_) disk.give_back();
  ASSERT_TRUE(RunningCluster::eventually([&] { return put(client).has_value(); }));
  for (int i = 0; i < 40; ++i) {
    done = put(client);
    ASSERT_TRUE(done) << done.error().to_string();
  }
  cluster_->settle();
  expect_all_acknowledged(client);
  EXPECT_EQ(client.get("k2", {}).error().code, Errc::kNotFound);
  expect_equal_and_whole(client);
}

INSTANTIATE_TEST_SUITE_P(FullDisk, AllFullDisks, ::testing::Values(0, kNoSegment),
                         [](const auto& given) {
                           return given.param == 0 ? "to_the_last_byte" : "for_the_log";
                         });

}  // namespace
}  // namespace ballast::testing
