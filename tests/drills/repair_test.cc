// What rots on one node's disk is found, never served, and put right from the others.

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <set>

#include "client/kvctl/health.h"
#include "tests/drills/running_cluster.h"

namespace ballast::testing {
namespace {

using client::Client;
using client::ReadLevel;
namespace fs = std::filesystem;

constexpr size_t kValues = (1 << 20) / sizeof(float);  // 1 MiB as they are
constexpr size_t kSampleBytes = 64;

// Another byte wherever the sample stands in the file. Returns how often that is.
size_t rot(const fs::path& path, std::string_view sample) {
  const std::string text = text_of(path);
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  size_t found = 0;
  for (size_t at = text.find(sample); at != std::string::npos; at = text.find(sample, at + 1)) {
    file.seekp(static_cast<std::streamoff>(at));
    file.put(static_cast<char>(text[at] ^ 0x20));
    ++found;
  }
  return found;
}
size_t rot_all(const fs::path& directory, std::string_view sample) {
  size_t found = 0;
  for (const auto& entry : fs::directory_iterator(directory))
    if (entry.is_regular_file()) found += rot(entry.path(), sample);
  return found;
}

// From the middle of what a put stores as it is.
std::string sample_of(const std::vector<float>& values) {
  std::string sample(kSampleBytes, '\0');
  std::memcpy(sample.data(), values.data() + values.size() / 2, kSampleBytes);
  return sample;
}

class Repairs : public ::testing::Test {
 protected:
  static void prepare(RunningCluster& cluster) {
    cluster.configure("log", "keep_mib = 1\ncache_mib = 1");
    cluster.configure("state", "upload_lease_s = 1");
    cluster.configure("scrub", "mib_per_s = 0");
  }

  void put(int count) {
    for (int i = 0; i < count; ++i) {
      const uint64_t number = ++puts_;
      const auto put = client_.put(key_of(number), view_of(values_of(number)), {});
      ASSERT_TRUE(put) << put.error().message;
      live_.insert(number);
    }
  }
  void remove(uint64_t number) {
    ASSERT_TRUE(client_.remove(key_of(number)));
    live_.erase(number);
  }
  static std::string key_of(uint64_t number) { return "k/" + std::to_string(number); }
  static std::vector<float> values_of(uint64_t number) { return make_values(kValues, number); }
  // Of a model whose manifest says `mark`.
  void publish(const std::string& mark) {
    const std::vector<float> values = values_of(1000);
    const auto published =
        client_.publish("m", {source_of("w", values)}, {.metadata = {{"mark", mark}}});
    ASSERT_TRUE(published) << published.error().message;
  }
  fs::path log_of(const kvctl::LocalNode& node) const {
    return cluster_.data_directory(node) / "log";
  }
  fs::path state_of(const kvctl::LocalNode& node) const {
    return cluster_.data_directory(node) / "state";
  }
  bool says(const kvctl::LocalNode& node, std::string_view what) {
    return text_of(cluster_.processes().log_path(node)).find(what) != std::string::npos;
  }
  client::VerifyReport verify(const kvctl::LocalNode& node) {
    const auto reports = cluster_.connect_to(node).verify(/*deep=*/true);
    EXPECT_TRUE(reports && reports->size() == 1);
    return reports ? reports->front() : client::VerifyReport{};
  }
  client::NodeStatus status_of(const kvctl::LocalNode& node) {
    const auto status = cluster_.connect_to(node).status();
    EXPECT_TRUE(status && status->nodes.size() == 1);
    return status ? status->nodes.front() : client::NodeStatus{};
  }
  // The node by itself has each live key, as it was put, and nothing else; and the same state as
  // the others.
  void expect_whole(const kvctl::LocalNode& node) {
    cluster_.settle();
    Client alone = cluster_.connect_to(node);
    for (uint64_t number = 1; number <= puts_; ++number) {
      const auto tensor = alone.get(key_of(number), {.read = ReadLevel::kAny});
      ASSERT_EQ(tensor.has_value(), live_.contains(number)) << node.name << ", " << number;
      if (!tensor) continue;
      ASSERT_TRUE(std::ranges::equal(tensor->data, view_of(values_of(number)).data));
    }
    // Leases end meanwhile, and not everywhere in the same moment.
    EXPECT_TRUE(RunningCluster::eventually([&] {
      const auto states = client_.verify(/*deep=*/false);
      return states && kvctl::compare_states(*states) == "equal";
    }));
    const auto reports = client_.verify(/*deep=*/true);
    ASSERT_TRUE(reports);
    for (const client::VerifyReport& report : *reports) {
      EXPECT_FALSE(report.error) << report.error->message;
      EXPECT_TRUE(report.damaged.empty()) << report.member.name;
    }
  }

  RunningCluster cluster_{3, prepare};
  Client client_ = cluster_.connect();
  uint64_t puts_ = 0;
  std::set<uint64_t> live_;
};

// ---- blocks -------------------------------------------------------------------------------------

TEST_F(Repairs, a_verify_puts_right_what_has_rotted_in_the_log) {
  put(6);
  cluster_.settle();
  const kvctl::LocalNode node = cluster_.follower();
  for (const uint64_t number : {2, 5})
    ASSERT_EQ(rot_all(log_of(node), sample_of(values_of(number))), 1u);
  const client::VerifyReport found = verify(node);
  EXPECT_EQ(found.damaged.size(), 2u);
  EXPECT_EQ(found.repaired.size(), 2u);
  const client::Upkeep upkeep = status_of(node).upkeep;
  EXPECT_EQ(upkeep.damaged_found, 2u);
  EXPECT_EQ(upkeep.repaired, 2u);
  EXPECT_EQ(upkeep.waiting, 0u);
  expect_whole(node);
  EXPECT_EQ(rot_all(log_of(node), sample_of(values_of(2))), 1u) << "it lies where it lay";
}

TEST_F(Repairs, a_read_that_meets_damage_is_refused_and_the_next_one_is_not) {
  put(2);
  cluster_.settle();
  const kvctl::LocalNode node = cluster_.follower();
  ASSERT_EQ(rot_all(log_of(node), sample_of(values_of(1))), 1u);
  Client alone = cluster_.connect_to(node);
  const auto damaged = alone.get(key_of(1), {.read = ReadLevel::kAny});
  if (!damaged) EXPECT_EQ(damaged.error().code, Errc::kCorrupt) << damaged.error().message;
  EXPECT_TRUE(RunningCluster::eventually([&] { return status_of(node).upkeep.repaired == 1; }));
  expect_whole(node);
}

TEST_F(Repairs, the_scrub_finds_what_nobody_reads) {
  put(4);
  cluster_.settle();
  const kvctl::LocalNode node = cluster_.follower();
  cluster_.kill(node);
  cluster_.configure("scrub", "every_s = 1");
  std::string text = text_of(cluster_.processes().config_path(node));
  text.replace(text.find("mib_per_s = 0"), 13, "mib_per_s = 64");
  std::ofstream(cluster_.processes().config_path(node)) << text;
  cluster_.start(node);
  EXPECT_TRUE(RunningCluster::eventually([&] { return status_of(node).upkeep.scrub_passes > 0; }));
  ASSERT_EQ(rot_all(log_of(node), sample_of(values_of(3))), 1u);
  EXPECT_TRUE(RunningCluster::eventually([&] { return status_of(node).upkeep.repaired == 1; }));
  expect_whole(node);
}

TEST_F(Repairs, what_has_rotted_in_the_database_is_put_right_too) {
  put(40);
  for (uint64_t number = 1; number <= 40; ++number)
    if (number % 4 != 0) remove(number);
  const kvctl::LocalNode node = cluster_.follower();
  // The blocks of the first segments move, and are flushed into a file.
  const auto in_database = [&] {
    put(1);
    remove(puts_);
    for (const auto& entry : fs::directory_iterator(state_of(node)))
      if (text_of(entry.path()).find(sample_of(values_of(4))) != std::string::npos) return true;
    return false;
  };
  ASSERT_TRUE(RunningCluster::eventually(in_database));
  cluster_.kill(node);
  ASSERT_EQ(rot_all(state_of(node), sample_of(values_of(4))), 1u);
  cluster_.start(node);
  cluster_.settle();
  const client::VerifyReport found = verify(node);
  EXPECT_EQ(found.damaged.size(), 1u);
  EXPECT_EQ(found.repaired.size(), 1u);
  expect_whole(node);
}

TEST_F(Repairs, a_segment_that_is_gone_is_replaced_by_the_database) {
  put(40);
  const kvctl::LocalNode node = cluster_.follower();
  ASSERT_TRUE(RunningCluster::eventually([&] {
    put(1);
    remove(puts_);
    return says(node, "the log begins behind");
  }));
  cluster_.settle();
  cluster_.kill(node);
  ASSERT_TRUE(fs::remove(log_of(node) / fmt::format("{:020}.log", 1)));
  cluster_.start(node);
  cluster_.settle();
  const client::VerifyReport found = verify(node);
  EXPECT_GT(found.damaged.size(), 10u);
  EXPECT_EQ(found.repaired.size(), found.damaged.size());
  expect_whole(node);
}

TEST_F(Repairs, a_block_that_no_other_node_has_stays_damaged_and_is_not_served) {
  put(2);
  cluster_.settle();
  for (const kvctl::LocalNode& node : cluster_.processes().nodes())
    ASSERT_EQ(rot_all(log_of(node), sample_of(values_of(1))), 1u);
  const auto reports = client_.verify(/*deep=*/true);
  ASSERT_TRUE(reports);
  for (const client::VerifyReport& report : *reports) {
    EXPECT_EQ(report.damaged.size(), 1u);
    EXPECT_TRUE(report.repaired.empty());
  }
  EXPECT_FALSE(kvctl::verdict_of(*reports, "equal"));
  const auto read = client_.get(key_of(1), {});
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Errc::kCorrupt) << read.error().message;
  EXPECT_TRUE(client_.get(key_of(2), {}));
}

// ---- the log ------------------------------------------------------------------------------------

TEST_F(Repairs, a_primary_sends_what_has_rotted_in_its_log) {
  put(1);
  const kvctl::LocalNode late = cluster_.follower();
  cluster_.kill(late);
  put(8);
  const kvctl::LocalNode leader = cluster_.leader();
  for (const uint64_t number : {3, 4})
    ASSERT_EQ(rot_all(log_of(leader), sample_of(values_of(number))), 1u);
  cluster_.start(late);
  cluster_.settle();
  EXPECT_EQ(cluster_.leader().name, leader.name);
  expect_whole(late);
  expect_whole(leader);
}

// ---- what is applied ----------------------------------------------------------------------------

TEST_F(Repairs, a_manifest_that_has_rotted_is_brought_when_it_is_needed) {
  publish("the-mark-of-the-first");
  publish("the-mark-of-the-second");
  const kvctl::LocalNode node = cluster_.follower();
  cluster_.settle();
  ASSERT_EQ(rot_all(log_of(node), "the-mark-of-the-first"), 1u);
  ASSERT_TRUE(client_.remove_version("m", 1));
  expect_whole(node);
  EXPECT_TRUE(says(node, "can't be applied"));
}

TEST_F(Repairs, one_that_is_to_be_applied_again_is_brought_too) {
  const kvctl::LocalNode node = cluster_.follower();
  publish("the-mark-of-the-first");
  put(1);  // it tells that what stands before it was durable: else rot there is a torn tail
  cluster_.settle();
  cluster_.kill(node);  // what it has applied is not flushed
  ASSERT_EQ(rot_all(log_of(node), "the-mark-of-the-first"), 1u);
  cluster_.start(node);
  expect_whole(node);
  const auto version = cluster_.connect_to(node).version({.name = "m"}, ReadLevel::kAny);
  ASSERT_TRUE(version) << version.error().message;
}

TEST_F(Repairs,
       where_nobody_has_what_an_entry_needs_the_rows_of_another_node_show_what_came_of_it) {
  publish("the-mark-of-the-first");
  put(3);  // the last of these tells that it was durable
  const kvctl::LocalNode node = cluster_.follower();
  cluster_.settle();
  ASSERT_EQ(rot_all(log_of(node), "the-mark-of-the-first"), 1u);
  // Until the others have deleted it, and the lease of what it named is over.
  cluster_.kill(node);
  ASSERT_TRUE(client_.remove_version("m", 1));
  ASSERT_TRUE(RunningCluster::eventually([&] {
    const auto reports = client_.verify(/*deep=*/true);
    return reports && std::ranges::all_of(*reports, [&](const client::VerifyReport& report) {
             return report.error || report.blocks == live_.size();
           });
  }));
  cluster_.start(node);
  EXPECT_TRUE(
      RunningCluster::eventually([&] { return says(node, "beginning again with the snapshot"); }));
  EXPECT_TRUE(says(node, "can't be applied"));
  expect_whole(node);
}

// ---- rows ---------------------------------------------------------------------------------------

class LostRows : public Repairs {
 protected:
  // Some of it is in the log that is kept, some in homes, and some in the database.
  void fill() {
    put(40);
    for (uint64_t number = 1; number <= 20; ++number)
      if (number % 4 != 0) remove(number);
    const auto& nodes = cluster_.processes().nodes();
    ASSERT_TRUE(RunningCluster::eventually([&] {
      put(1);
      remove(puts_);
      return std::ranges::none_of(nodes, [&](const kvctl::LocalNode& node) {
        return fs::exists(log_of(node) / fmt::format("{:020}.log", 1));
      });
    }));
    cluster_.settle();
  }
  std::vector<fs::path> files_of_rows(const kvctl::LocalNode& node, std::string_view ending) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(state_of(node)))
      if (entry.path().string().ends_with(ending)) files.push_back(entry.path());
    return files;
  }
  // Again and again: a compaction may write anew what it has read before, and another node is asked
  // only now and then. The verify meets the damage, or an entry that is applied does before it.
  void damage_until_it_says(const kvctl::LocalNode& node, std::string_view words) {
    Client alone = cluster_.connect_to(node);
    EXPECT_TRUE(RunningCluster::eventually([&] {
      if (says(node, words)) return true;
      std::ranges::for_each(files_of_rows(node, ".sst"), damage);
      (void)alone.verify(/*deep=*/false);
      return says(node, words);
    }));
  }
  // In the first data block of a table.
  static void damage(const fs::path& path) {
    std::fstream table(path, std::ios::in | std::ios::out | std::ios::binary);
    table.seekp(200);
    table << "damaged";
  }
  void expect_brought_again(const kvctl::LocalNode& node) {
    EXPECT_TRUE(RunningCluster::eventually(
        [&] { return says(node, "beginning again with the snapshot"); }));
    expect_whole(node);
    put(3);
    expect_whole(node);
    cluster_.kill(node);
    cluster_.start(node);
    expect_whole(node);
    EXPECT_FALSE(fs::exists(cluster_.data_directory(node) / "state.damaged"));
  }
};

TEST_F(LostRows, are_brought_from_another_node) {
  fill();
  const kvctl::LocalNode node = cluster_.leader();
  cluster_.kill(node);
  for (const auto& entry : fs::directory_iterator(state_of(node))) fs::remove(entry.path());
  cluster_.start(node);
  expect_brought_again(node);
}

TEST_F(LostRows, so_are_damaged_ones_that_cannot_be_opened) {
  fill();
  const kvctl::LocalNode node = cluster_.follower();
  cluster_.kill(node);
  const auto manifests = files_of_rows(node, "CURRENT");
  ASSERT_EQ(manifests.size(), 1u);
  std::ofstream(manifests.front()) << "MANIFEST-999999\n";
  cluster_.start(node);
  expect_brought_again(node);
  EXPECT_TRUE(says(node, "the rows are given up"));
}

TEST_F(LostRows, so_are_damaged_ones_that_a_verify_meets) {
  fill();
  const kvctl::LocalNode node = cluster_.follower();
  damage_until_it_says(node, "rows are damaged");
  expect_brought_again(node);
}

TEST_F(LostRows, are_not_given_up_before_another_node_has_some_to_give) {
  fill();
  const kvctl::LocalNode node = cluster_.follower();
  const auto nodes = cluster_.processes().nodes();
  for (const kvctl::LocalNode& other : nodes)
    if (other.id != node.id) cluster_.kill(other);
  damage_until_it_says(node, "nobody has rows to take instead");
  EXPECT_FALSE(says(node, "the rows are given up"));
  for (const kvctl::LocalNode& other : nodes)
    if (other.id != node.id) cluster_.start(other);
  damage_until_it_says(node, "beginning again with");
  expect_brought_again(node);
}

}  // namespace
}  // namespace ballast::testing
