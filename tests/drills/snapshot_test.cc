// The log forgets what everybody has, segments without blocks give their space back, and whoever
// lags behind the log's beginning catches up from a snapshot.

#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "tests/drills/running_cluster.h"

namespace ballast::testing {
namespace {

using client::Client;
using client::MemberChange;
using client::ReadLevel;

constexpr size_t kValues = (1 << 20) / sizeof(float);  // 1 MiB as they are

// A cluster whose nodes keep little of their logs. Puts are of 1 MiB each.
class Snapshots : public ::testing::Test {
 protected:
  explicit Snapshots(int keep_mib = 1)
      : cluster_(3, [keep_mib](RunningCluster& cluster) {
          cluster.configure("log", fmt::format("keep_mib = {}", keep_mib));
          cluster.configure("state", "upload_lease_s = 1");
        }) {}

  void put(int count) {
    for (int i = 0; i < count; ++i) {
      const uint64_t number = ++puts_;
      const auto put = client_.put(key_of(number), view_of(make_values(kValues, number)), {});
      ASSERT_TRUE(put) << put.error().message;
      last_ = put->receipt.index;
      live_.insert(number);
    }
  }
  void remove(size_t count) {
    while (count-- > 0) {
      ASSERT_TRUE(client_.remove(key_of(*live_.begin())));
      live_.erase(live_.begin());
    }
  }
  // Each live key is there, and no other one, at the node by itself.
  void expect_all(const kvctl::LocalNode& node) {
    Client alone = cluster_.connect_to(node);
    for (uint64_t number = 1; number <= puts_; ++number) {
      const auto tensor = alone.get(key_of(number), {.read = ReadLevel::kAny});
      ASSERT_EQ(tensor.has_value(), live_.contains(number)) << node.name << ", " << number;
      if (!tensor) continue;
      ASSERT_TRUE(std::ranges::equal(tensor->data, view_of(make_values(kValues, number)).data))
          << node.name << ", " << number;
    }
  }
  bool has_segment(const kvctl::LocalNode& node, int number) const {
    return std::filesystem::exists(cluster_.data_directory(node) / "log" /
                                   fmt::format("{:020}.log", number));
  }
  bool says(const kvctl::LocalNode& node, std::string_view what) {
    return text_of(cluster_.processes().log_path(node)).find(what) != std::string::npos;
  }
  // The last entry that the node's log has forgotten.
  Index forgotten(const kvctl::LocalNode& node) {
    constexpr std::string_view kWords = "the log begins behind entry ";
    const std::string text = text_of(cluster_.processes().log_path(node));
    const size_t at = text.rfind(kWords);
    return at == std::string::npos ? Index() : Index(std::stoull(text.substr(at + kWords.size())));
  }
  // Writes until the nodes have forgotten everything up to now.
  void make_them_forget(const std::vector<kvctl::LocalNode>& nodes) {
    const Index until = last_;
    ASSERT_TRUE(RunningCluster::eventually([&] {
      put(2);
      remove(2);
      return std::ranges::all_of(nodes, [&](const auto& node) { return forgotten(node) >= until; });
    }));
  }
  std::vector<kvctl::LocalNode> all_but(uint64_t id) {
    std::vector<kvctl::LocalNode> nodes;
    for (const kvctl::LocalNode& node : cluster_.processes().nodes())
      if (node.id != id) nodes.push_back(node);
    return nodes;
  }
  static std::string key_of(uint64_t number) { return "k/" + std::to_string(number); }

  RunningCluster cluster_;
  Client client_ = cluster_.connect();
  uint64_t puts_ = 0;
  Index last_;
  std::set<uint64_t> live_;
};

TEST_F(Snapshots, what_is_deleted_gives_its_space_back_without_a_restart) {
  put(40);
  remove(40);
  make_them_forget(cluster_.processes().nodes());
  // Expired blocks are reclaimed each second, and a flush comes before a segment goes.
  put(3);
  for (const int segment : {1, 2}) {
    ASSERT_TRUE(RunningCluster::eventually([&] {
      put(1);
      remove(1);
      return std::ranges::none_of(cluster_.processes().nodes(),
                                  [&](const auto& node) { return has_segment(node, segment); });
    }));
  }
  cluster_.settle();
  for (const kvctl::LocalNode& node : cluster_.processes().nodes()) expect_all(node);
  cluster_.kill_all();
  cluster_.start_all();
  cluster_.settle();
  for (const kvctl::LocalNode& node : cluster_.processes().nodes()) expect_all(node);
}

TEST_F(Snapshots, the_last_blocks_of_a_segment_move_into_the_database) {
  put(40);
  // One of four stays in each segment.
  for (uint64_t number = 1; number <= 40; ++number) {
    if (number % 4 == 0) continue;
    ASSERT_TRUE(client_.remove(key_of(number)));
    live_.erase(number);
  }
  const auto& nodes = cluster_.processes().nodes();
  ASSERT_TRUE(RunningCluster::eventually([&] {
    const auto put = client_.put("small", view_of(make_values(kValues, ++puts_)), {});
    return put && std::ranges::none_of(nodes, [&](const auto& n) { return has_segment(n, 1); });
  }));
  cluster_.settle();
  for (const kvctl::LocalNode& node : nodes) expect_all(node);
  cluster_.kill_all();
  cluster_.start_all();
  cluster_.settle();
  for (const kvctl::LocalNode& node : nodes) expect_all(node);
}

// Of which it takes several to make a flush due.
class SparseSegments : public Snapshots {
 protected:
  SparseSegments() : Snapshots(16) {}
};

TEST_F(SparseSegments, are_emptied_one_after_the_other_without_a_write) {
  put(72);
  const Index until = last_;
  // One of four stays in each segment.
  for (uint64_t number = 1; number <= 72; ++number) {
    if (number % 4 == 0) continue;
    ASSERT_TRUE(client_.remove(key_of(number)));
    live_.erase(number);
  }
  const auto& nodes = cluster_.processes().nodes();
  put(40);  // at a flush the log forgets them
  ASSERT_TRUE(RunningCluster::eventually([&] {
    return std::ranges::all_of(nodes, [&](const auto& node) { return forgotten(node) >= until; });
  }));
  put(20);  // at another one the first is found
  // Of ten segments two or more have gone, or are spare.
  ASSERT_TRUE(RunningCluster::eventually([&] {
    const auto reports = client_.garbage();
    return reports && std::ranges::all_of(*reports, [](const client::GarbageReport& node) {
             return !node.error && node.log_bytes - node.spare_bytes <= 8 * (16 << 20);
           });
  }));
  cluster_.settle();
  for (const kvctl::LocalNode& node : nodes) expect_all(node);
}

// Four of seven stay: no segment is half empty, but all of them take more than they should.
TEST_F(SparseSegments, are_emptied_earlier_while_all_takes_too_much) {
  put(140);
  const auto& nodes = cluster_.processes().nodes();
  ASSERT_TRUE(RunningCluster::eventually([&] {
    return std::ranges::all_of(nodes, [&](const auto& node) { return forgotten(node) > Index(); });
  }));
  constexpr uint64_t kSegment = 16 << 20;
  const auto logs_take_less = [&](uint64_t bytes) {
    const auto reports = client_.garbage();
    return reports && std::ranges::all_of(*reports, [&](const client::GarbageReport& node) {
             return !node.error && node.log_bytes - node.spare_bytes < bytes;
           });
  };
  ASSERT_FALSE(logs_take_less(10 * kSegment));
  for (uint64_t number = 1; number <= 140; ++number) {
    if (number % 7 < 4) continue;
    ASSERT_TRUE(client_.remove(key_of(number)));
    live_.erase(number);
  }
  EXPECT_TRUE(RunningCluster::eventually([&] { return logs_take_less(9 * kSegment); }));
  const auto nothing_is_due = [&] {
    const auto reports = client_.garbage();
    return reports && std::ranges::all_of(*reports, [](const client::GarbageReport& node) {
             return !node.error && node.empty_segments + node.sparse_segments == 0;
           });
  };
  EXPECT_TRUE(RunningCluster::eventually(nothing_is_due));
  cluster_.settle();
  for (const kvctl::LocalNode& node : nodes) expect_all(node);
}

TEST_F(Snapshots, a_new_member_catches_up_and_stays_whole) {
  put(30);
  make_them_forget(cluster_.processes().nodes());
  const kvctl::LocalNode n4 = cluster_.add();
  const MemberChange change{
      .action = MemberChange::Action::kAdd, .name = n4.name, .address = n4.address};
  EXPECT_TRUE(RunningCluster::eventually([&] {
    const auto step = client_.change_members(change);
    return step && step->done;
  }));
  put(5);
  cluster_.settle();
  EXPECT_TRUE(says(n4, "fetching a snapshot"));
  expect_all(n4);
  cluster_.kill(n4);
  cluster_.start(n4);
  put(1);
  cluster_.settle();
  expect_all(n4);
}

TEST_F(Snapshots, a_member_that_was_away_catches_up) {
  put(20);
  const kvctl::LocalNode away = cluster_.follower();
  cluster_.kill(away);
  put(20);
  remove(10);
  make_them_forget(all_but(away.id));
  cluster_.start(away);
  put(3);
  cluster_.settle();
  EXPECT_TRUE(says(away, "beginning again with the snapshot"));
  expect_all(away);
  cluster_.kill_all();
  cluster_.start_all();
  cluster_.settle();
  expect_all(away);
  EXPECT_FALSE(std::filesystem::exists(cluster_.data_directory(away) / "state.incoming"));
}

// Blocks are gone before they are asked for, and the log goes on by more than is kept of it.
TEST_F(Snapshots, a_member_catches_up_while_clients_write_and_delete) {
  put(2);
  const kvctl::LocalNode away = cluster_.follower();
  cluster_.kill(away);
  put(40);
  make_them_forget(all_but(away.id));
  const std::string path = cluster_.processes().config_path(away);
  std::string text = text_of(path);
  constexpr std::string_view kKeep = "keep_mib = 1\n";
  text.insert(text.find(kKeep) + kKeep.size(), "snapshot_mib_per_s = 24\n");
  std::ofstream(path) << text;
  cluster_.start(away);
  EXPECT_TRUE(RunningCluster::eventually([&] { return says(away, "fetching a snapshot"); }));
  remove(30);
  const auto rounds = [&] {
    const std::string log = text_of(cluster_.processes().log_path(away));
    const std::regex round("fetching a snapshot of entry");
    return std::distance(std::sregex_iterator(log.begin(), log.end(), round), {});
  };
  EXPECT_TRUE(RunningCluster::eventually([&] {
    put(1);
    remove(1);
    return rounds() > 1;
  }));
  EXPECT_TRUE(
      RunningCluster::eventually([&] { return says(away, "beginning again with the snapshot"); }));
  cluster_.settle();
  expect_all(away);
  const std::string log = text_of(cluster_.processes().log_path(away));
  EXPECT_EQ(log.find("no snapshot could be fetched"), std::string::npos);
  const std::regex some("MiB of blocks were fetched, [1-9][0-9]* blocks have been deleted since");
  EXPECT_TRUE(std::regex_search(log, some));
}

TEST_F(Snapshots, one_that_is_killed_while_it_fetches_begins_again) {
  put(60);
  const kvctl::LocalNode away = cluster_.follower();
  cluster_.kill(away);
  cluster_.wipe(away);
  make_them_forget(all_but(away.id));
  cluster_.start(away);
  EXPECT_TRUE(RunningCluster::eventually([&] {
    const auto step =
        client_.change_members({.action = MemberChange::Action::kReplace, .name = away.name});
    return (step && step->done) || says(away, "fetching a snapshot");
  }));
  for (int kills = 0; kills < 3; ++kills) {
    EXPECT_TRUE(RunningCluster::eventually([&] { return says(away, "fetching a snapshot"); }));
    cluster_.make_sure_gone(away);
    cluster_.start(away);
  }
  EXPECT_TRUE(RunningCluster::eventually([&] {
    const auto step =
        client_.change_members({.action = MemberChange::Action::kReplace, .name = away.name});
    return step && step->done;
  }));
  cluster_.settle();
  expect_all(away);
}

}  // namespace
}  // namespace ballast::testing
