// What is deleted is garbage, `kvctl gc` tells how much of it there is, and lets go of it.

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "tests/drills/running_cluster.h"

namespace ballast::testing {
namespace {

using client::Client;
using client::GarbageReport;

constexpr uint64_t kKeys = 40;
constexpr size_t kValues = (1 << 20) / sizeof(float);  // 1 MiB as they are
constexpr uint64_t kBlockBytesMin = 1 << 20;

// Little of the log is kept, and leases are short, but for the test longer than uploading all keys.
void keep_little(RunningCluster& cluster) {
  for (const kvctl::LocalNode& node : cluster.processes().nodes()) {
    const auto path = cluster.processes().config_path(node);
    std::ifstream before(path);
    std::string text(std::istreambuf_iterator<char>(before), {});
    const size_t at = text.find("[log]\n");
    ASSERT_NE(at, std::string::npos);
    text.insert(at + 6, "keep_mib = 1\n");
    std::ofstream(path) << text << "\n[state]\nupload_lease_s = 12\n";
  }
}

class Garbage : public ::testing::Test {
 protected:
  static std::string key_of(uint64_t number) { return "k/" + std::to_string(number); }
  void put_all() {
    for (uint64_t number = 1; number <= kKeys; ++number)
      ASSERT_TRUE(client_.put(key_of(number), view_of(make_values(kValues, number)), {}));
  }
  // All but the first.
  void remove_most() {
    for (uint64_t number = 2; number <= kKeys; ++number)
      ASSERT_TRUE(client_.remove(key_of(number)));
    cluster_.settle();
  }
  std::vector<GarbageReport> garbage() {
    auto reports = client_.garbage();
    EXPECT_TRUE(reports) << reports.error().message;
    EXPECT_EQ(reports->size(), 3u);
    for (const GarbageReport& report : *reports)
      EXPECT_FALSE(report.error) << report.member.name << ": " << report.error->message;
    return *std::move(reports);
  }
  void collect() {
    const auto collected = client_.collect_garbage();
    ASSERT_TRUE(collected) << collected.error().message;
    for (const GarbageReport& report : collected->nodes)
      EXPECT_FALSE(report.error) << report.member.name << ": " << report.error->message;
  }
  static uint64_t used_bytes(const GarbageReport& report) {
    return report.log_bytes - report.spare_bytes;
  }

  RunningCluster cluster_{3, keep_little};
  Client client_ = cluster_.connect();
};

TEST_F(Garbage, what_is_deleted_is_counted_and_let_go_of_when_its_lease_is_over) {
  put_all();
  for (const GarbageReport& report : garbage()) EXPECT_EQ(report.blocks, 0u);
  remove_most();
  collect();
  const std::vector<GarbageReport> deleted = garbage();
  for (const GarbageReport& report : deleted) {
    EXPECT_EQ(report.blocks, kKeys - 1) << "no lease got shorter at " << report.member.name;
    EXPECT_GE(report.bytes, (kKeys - 1) * kBlockBytesMin);
    EXPECT_GE(report.live_bytes, kKeys * kBlockBytesMin);
    ASSERT_TRUE(report.next_lease && report.last_lease);
    EXPECT_LE(*report.next_lease, *report.last_lease);
  }
  ASSERT_TRUE(RunningCluster::eventually([&] {
    const auto reports = garbage();
    return std::ranges::none_of(reports,
                                [](const auto& one) { return one.next_lease.has_value(); });
  }));
  collect();
  const std::vector<GarbageReport> left = garbage();
  for (size_t i = 0; i < left.size(); ++i) {
    EXPECT_FALSE(left[i].due()) << left[i].member.name;
    EXPECT_EQ(left[i].blocks, 0u);
    EXPECT_EQ(left[i].live_bytes, 0u) << "what lives has moved into the database";
    EXPECT_LT(used_bytes(left[i]), used_bytes(deleted[i]));
  }
  for (const kvctl::LocalNode& node : cluster_.processes().nodes()) {
    const auto kept = cluster_.connect_to(node).get(key_of(1), {});
    ASSERT_TRUE(kept) << kept.error().message;
    EXPECT_TRUE(std::ranges::equal(kept->data, view_of(make_values(kValues, 1)).data));
  }
}

TEST_F(Garbage, a_node_that_is_away_does_not_keep_the_others_from_letting_go) {
  put_all();
  const kvctl::LocalNode away = cluster_.follower();
  cluster_.kill(away);
  Client client = cluster_.connect({.deadline = std::chrono::seconds(5)});
  const auto collected = client.collect_garbage();
  ASSERT_TRUE(collected) << collected.error().message;
  ASSERT_EQ(collected->nodes.size(), 3u);
  for (const GarbageReport& report : collected->nodes)
    EXPECT_EQ(report.error.has_value(), report.member.id == away.id) << report.member.name;
}

}  // namespace
}  // namespace ballast::testing
