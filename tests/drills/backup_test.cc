// Backups of running clusters, and new clusters that begin with them.

#include "client/backup.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "client/kvctl/health.h"
#include "client/kvctl/local_process.h"
#include "proto/backup/directory.h"
#include "proto/backup/verify.h"
#include "tests/drills/running_cluster.h"
#include "tests/unit/client/temporary_folder.h"

namespace ballast::testing {
namespace {

namespace fs = std::filesystem;
using client::BackupReport;
using client::Client;
using client::MemberChange;
using client::ReadLevel;

constexpr size_t kValues = (1 << 20) / sizeof(float);  // 1 MiB as they are

// Starts a program; its output goes to `log`.
pid_t start(const std::vector<std::string>& words, const std::string& log) {
  const auto pid = kvctl::start_daemon(words, log);
  EXPECT_TRUE(pid) << pid.error().message;
  return pid ? *pid : -1;
}
// Waits for it. True if it says that it has done what it should.
bool ends_well(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  return status == 0;
}

class Backups : public ::testing::Test {
 protected:
  void put(Client& client, uint64_t number, size_t values = kValues) {
    const auto put = client.put(key_of(number), view_of(make_values(values, number)), {});
    ASSERT_TRUE(put) << put.error().message;
  }
  static std::string key_of(uint64_t number) { return "k/" + std::to_string(number); }
  static void expect_key(Client& client, uint64_t number, size_t values = kValues,
                         ReadLevel level = ReadLevel::kLinearizable) {
    const auto tensor = client.get(key_of(number), {.read = level});
    ASSERT_TRUE(tensor) << number << ": " << tensor.error().message;
    EXPECT_TRUE(std::ranges::equal(tensor->data, view_of(make_values(values, number)).data));
  }
  Result<BackupReport> try_backup(RunningCluster& cluster, const std::string& name,
                                  client::Progress progress = nullptr) {
    return client::create_backup(
        {.endpoints = cluster.processes().endpoints()},
        {.directory = directory_.path(), .name = name, .progress = std::move(progress)});
  }
  BackupReport back_up(RunningCluster& cluster, const std::string& name) {
    const auto report = try_backup(cluster, name);
    EXPECT_TRUE(report) << report.error().message;
    return report.value_or(BackupReport{});
  }
  size_t files_of_blocks() const {
    size_t files = 0;
    std::error_code error;  // another process makes and renames files
    fs::recursive_directory_iterator entries(fs::path(directory_.path()) / "blocks", error);
    for (; !error && entries != fs::recursive_directory_iterator(); entries.increment(error))
      files += entries->path().filename().string().size() == 2 * Digest::kSize;
    return files;
  }
  // How many parts of it are damaged.
  size_t damage(const std::string& name) {
    std::unordered_set<Digest> whole;
    const auto verified = backup::verify(directory_, {name, directory_.find(name)}, whole);
    EXPECT_TRUE(verified) << verified.error().message;
    return verified->damage.size();
  }
  std::unique_ptr<RunningCluster> restored(const std::string& name, unsigned nodes = 3) {
    return std::make_unique<RunningCluster>(
        kvctl::LocalPlan{.nodes = nodes, .backup_dir = directory_.path(), .backup = name}, nullptr);
  }
  // The founder's disk is formatted with the backup.
  std::vector<std::string> words_to_format(RunningCluster& cluster, const kvctl::LocalNode& node,
                                           const std::string& name) const {
    return {BALLASTD,
            "--config",
            cluster.processes().config_path(node),
            "--bootstrap",
            "--from-backup",
            directory_.path(),
            "--backup",
            name};
  }
  static void expect_same_everywhere(Client& client) {
    const auto reports = client.verify(true);
    ASSERT_TRUE(reports) << reports.error().message;
    const std::string states = kvctl::compare_states(*reports);
    EXPECT_EQ(states, "equal");
    const Status verdict = kvctl::verdict_of(*reports, states);
    EXPECT_TRUE(verdict) << verdict.error().message;
  }

  const TemporaryFolder folder_;
  const std::string log_ = folder_.file("log");
  const backup::BackupDirectory directory_{folder_.file("backups")};
};

TEST_F(Backups, a_new_cluster_begins_with_one_and_goes_on) {
  BackupReport one;
  uint64_t last_revision = 0;
  const std::vector<float> first = make_values(700'000, 100), second = make_values(700'000, 101);
  {
    RunningCluster cluster;
    Client client = cluster.connect();
    for (uint64_t number = 1; number <= 6; ++number) put(client, number);
    ASSERT_TRUE(client.publish("m", {source_of("w", first)}, {.metadata = {{"step", "1"}}}));
    ASSERT_TRUE(client.publish("m", {source_of("w", second)}, {}));
    ASSERT_TRUE(client.set_alias("m", "prod", 1, 0));
    ASSERT_TRUE(client.remove(key_of(1)));
    last_revision = client.stat(key_of(6), {})->revision;
    one = back_up(cluster, "one");
    EXPECT_EQ(one.new_blocks, files_of_blocks());
    EXPECT_EQ(one.shared_blocks, 0u);
    EXPECT_EQ(one.manifest.cluster.to_string(), cluster.processes().uuid());

    // What comes later is not in it, and the next backup writes that alone.
    for (uint64_t number = 7; number <= 9; ++number) put(client, number);
    ASSERT_TRUE(client.remove(key_of(2)));
    ASSERT_TRUE(client.set_alias("m", "prod", 2, 1));
    const BackupReport two = back_up(cluster, "two");
    EXPECT_EQ(two.new_blocks, 3u);
    EXPECT_EQ(two.shared_blocks, one.new_blocks);
    EXPECT_EQ(files_of_blocks(), one.new_blocks + 3);
    EXPECT_EQ(damage("one") + damage("two"), 0u);
  }
  const auto cluster = restored("one");
  Client client = cluster->connect();
  for (uint64_t number = 2; number <= 6; ++number) expect_key(client, number);
  for (const uint64_t number : {1, 7, 8, 9})
    EXPECT_EQ(client.get(key_of(number), {}).error().code, Errc::kNotFound);
  EXPECT_EQ(client.stat(key_of(6), {})->revision, last_revision);
  const auto prod = client.version(*parse_reference("m@prod"), ReadLevel::kLinearizable);
  ASSERT_TRUE(prod) << prod.error().message;
  EXPECT_EQ(prod->version, 1u);
  EXPECT_EQ(prod->metadata.at("step"), "1");
  std::vector<std::byte> bytes;
  ASSERT_TRUE(client.read(prod->tensors.front(), {}, [&](std::span<const std::byte> piece) {
    bytes.insert(bytes.end(), piece.begin(), piece.end());
    return Status();
  }));
  EXPECT_TRUE(std::ranges::equal(bytes, view_of(first).data));
  expect_same_everywhere(client);

  const auto put_now = client.put(key_of(20), view_of(make_values(kValues, 20)), {});
  ASSERT_TRUE(put_now) << put_now.error().message;
  EXPECT_GT(put_now->receipt.index, one.manifest.rows.index);
  EXPECT_GT(put_now->receipt.term, one.manifest.rows.term);
  const auto published = client.publish("m", {source_of("w", first)}, {.expect_latest = 2});
  ASSERT_TRUE(published) << published.error().message;
  EXPECT_EQ(published->version.version, 3u);

  // A member that comes later gets it as a snapshot, and all of it outlives a restart.
  const kvctl::LocalNode n4 = cluster->add();
  const MemberChange change{
      .action = MemberChange::Action::kAdd, .name = n4.name, .address = n4.address};
  EXPECT_TRUE(RunningCluster::eventually([&] {
    const auto step = client.change_members(change);
    return step && step->done;
  }));
  cluster->settle();
  cluster->kill_all();
  cluster->start_all();
  cluster->settle();
  Client alone = cluster->connect_to(n4);
  for (const uint64_t number : {2, 6, 20}) expect_key(alone, number, kValues, ReadLevel::kAny);
  expect_same_everywhere(client);
}

// Each pair is written one key after the other, so whatever is seen of the second must be seen of
// the first, and no pair may be more than one write apart.
TEST_F(Backups, under_load_shows_one_moment) {
  constexpr uint64_t kPairs = 4;
  uint64_t acknowledged = 0;  // before the backup began
  {
    RunningCluster cluster;
    Client client = cluster.connect();
    std::atomic<uint64_t> rounds = 0;
    std::atomic<bool> stops = false;
    std::thread writer([&] {
      Client own = cluster.connect();
      for (uint64_t round = 1; !stops; ++round) {
        for (uint64_t pair = 0; pair < kPairs; ++pair)
          for (const char* half : {"a/", "b/"}) {
            const std::vector<float> values(300, static_cast<float>(round));
            const auto put = own.put(half + std::to_string(pair), view_of(values), {});
            EXPECT_TRUE(put) << put.error().message;
          }
        rounds = round;
      }
    });
    EXPECT_TRUE(RunningCluster::eventually([&] { return rounds > 5; }));
    acknowledged = rounds;
    back_up(cluster, "one");
    EXPECT_TRUE(RunningCluster::eventually([&] { return rounds > acknowledged + 2; }));
    stops = true;
    writer.join();
  }
  EXPECT_EQ(damage("one"), 0u);
  const auto cluster = restored("one", 1);
  Client client = cluster->connect();
  const auto round_of = [&](const std::string& key) {
    const auto tensor = client.get(key, {});
    EXPECT_TRUE(tensor) << tensor.error().message;
    float value = 0;
    std::memcpy(&value, tensor->data.data(), sizeof value);
    return static_cast<uint64_t>(value);
  };
  for (uint64_t pair = 0; pair < kPairs; ++pair) {
    const uint64_t a = round_of("a/" + std::to_string(pair));
    const uint64_t b = round_of("b/" + std::to_string(pair));
    EXPECT_GE(b, acknowledged);
    EXPECT_TRUE(a == b || a == b + 1) << a << ", " << b;
  }
}

TEST_F(Backups, one_that_is_killed_leaves_nothing_wrong_and_the_next_goes_on) {
  constexpr uint64_t kKeys = 60;
  RunningCluster cluster;
  Client client = cluster.connect();
  for (uint64_t number = 1; number <= kKeys; ++number) put(client, number);
  const std::string endpoints = fmt::format("{}", fmt::join(cluster.processes().endpoints(), ","));
  const pid_t pid = start(
      {KVCTL, "--endpoints", endpoints, "backup", "create", directory_.path(), "--name", "one"},
      log_);
  EXPECT_TRUE(RunningCluster::eventually([&] { return files_of_blocks() >= 5; })) << text_of(log_);
  ::kill(pid, SIGKILL);
  EXPECT_FALSE(ends_well(pid)) << "it was done before it was killed";
  EXPECT_TRUE(directory_.list()->empty());
  const size_t there = files_of_blocks();
  const BackupReport report = back_up(cluster, "one");
  EXPECT_EQ(report.shared_blocks, there);
  EXPECT_EQ(report.new_blocks + there, kKeys);
  EXPECT_EQ(damage("one"), 0u);
}

TEST_F(Backups, a_node_that_dies_meanwhile_does_not_end_it) {
  constexpr uint64_t kKeys = 40;
  RunningCluster cluster;
  Client client = cluster.connect();
  for (uint64_t number = 1; number <= kKeys; ++number) put(client, number);
  bool killed = false;
  const auto report = try_backup(cluster, "one", [&](uint64_t, uint64_t) {
    if (!std::exchange(killed, true)) cluster.kill(cluster.follower());
  });
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_TRUE(killed);
  EXPECT_EQ(report->new_blocks, kKeys);
  EXPECT_EQ(damage("one"), 0u);
}

TEST_F(Backups, blocks_that_are_deleted_meanwhile_make_it_begin_anew) {
  constexpr uint64_t kKeys = 40;
  RunningCluster cluster(3, [](RunningCluster& made) {
    for (const kvctl::LocalNode& node : made.processes().nodes())
      std::ofstream(made.processes().config_path(node), std::ios::app)
          << "\n[state]\nupload_lease_s = 1\n";
  });
  Client client = cluster.connect();
  for (uint64_t number = 1; number <= kKeys; ++number) put(client, number);
  bool removed = false;
  const auto report = try_backup(cluster, "one", [&](uint64_t, uint64_t) {
    if (std::exchange(removed, true)) return;
    for (uint64_t number = 1; number <= kKeys; ++number) ASSERT_TRUE(client.remove(key_of(number)));
    put(client, kKeys + 1);
    EXPECT_TRUE(RunningCluster::eventually([&] {
      const auto status = client.status();
      return status && std::ranges::all_of(status->nodes, [](const client::NodeStatus& node) {
               return !node.error && node.blocks == 1;
             });
    }));
  });
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->attempts, 2);
  EXPECT_EQ(report->manifest.rows.blocks, 1u);
  EXPECT_EQ(damage("one"), 0u);
}

TEST_F(Backups, damage_is_found_not_restored_and_healed_by_the_next_one) {
  RunningCluster cluster;
  Client client = cluster.connect();
  for (uint64_t number = 1; number <= 4; ++number) put(client, number);
  back_up(cluster, "one");
  for (const auto& entry :
       fs::recursive_directory_iterator(fs::path(directory_.path()) / "blocks")) {
    if (!entry.is_regular_file()) continue;
    fs::resize_file(entry.path(), 1000);
    break;
  }
  EXPECT_EQ(damage("one"), 1u);
  {
    RunningCluster other({.nodes = 1}, nullptr, /*starts=*/false);
    const kvctl::LocalNode node = other.processes().nodes().front();
    EXPECT_FALSE(ends_well(start(words_to_format(other, node, "one"), log_)));
    EXPECT_NE(text_of(log_).find("holds other bytes than its name says"), std::string::npos);
    EXPECT_FALSE(fs::exists(other.data_directory(node) / "identity"));
    back_up(cluster, "two");
    EXPECT_EQ(damage("one"), 0u);
    EXPECT_TRUE(ends_well(start(words_to_format(other, node, "one"), log_))) << text_of(log_);
  }
}

TEST_F(Backups, a_restore_that_is_killed_does_not_start_and_is_finished_by_the_same_command) {
  constexpr uint64_t kKeys = 60;
  {
    RunningCluster cluster;
    Client client = cluster.connect();
    for (uint64_t number = 1; number <= kKeys; ++number) put(client, number);
    back_up(cluster, "one");
  }
  RunningCluster cluster({.nodes = 1}, nullptr, /*starts=*/false);
  const kvctl::LocalNode node = cluster.processes().nodes().front();
  const std::vector<std::string> words = words_to_format(cluster, node, "one");
  const fs::path data = cluster.data_directory(node);
  const pid_t pid = start(words, log_);
  EXPECT_TRUE(
      RunningCluster::eventually([&] { return fs::exists(data / "state.incoming" / "CURRENT"); }));
  ::kill(pid, SIGKILL);
  EXPECT_FALSE(ends_well(pid)) << "it was done before it was killed";
  ASSERT_FALSE(fs::exists(data / "identity"));

  const std::string config = cluster.processes().config_path(node);
  EXPECT_FALSE(ends_well(start({BALLASTD, "--config", config}, log_)));
  EXPECT_FALSE(ends_well(start({BALLASTD, "--config", config, "--bootstrap"}, log_)));
  EXPECT_NE(text_of(log_).find("not wholly restored"), std::string::npos) << text_of(log_);
  EXPECT_TRUE(ends_well(start(words, log_))) << text_of(log_);
  EXPECT_TRUE(ends_well(start(words, log_))) << "again";
  cluster.start_all();
  cluster.settle();
  Client client = cluster.connect();
  for (const uint64_t number : {uint64_t{1}, kKeys}) expect_key(client, number);
  expect_same_everywhere(client);
}

// Two of three would outvote the one that has the data.
TEST_F(Backups, founders_without_the_backup_do_not_take_part_with_one_that_has_it) {
  {
    RunningCluster cluster;
    Client client = cluster.connect();
    for (uint64_t number = 1; number <= 3; ++number) put(client, number);
    back_up(cluster, "one");
  }
  RunningCluster cluster({.nodes = 3}, nullptr, /*starts=*/false);
  const std::vector<kvctl::LocalNode> nodes = cluster.processes().nodes();
  ASSERT_TRUE(ends_well(start(words_to_format(cluster, nodes[0], "one"), log_))) << text_of(log_);
  cluster.start_all();  // the others are formatted without it
  EXPECT_TRUE(RunningCluster::eventually([&] {
    return text_of(cluster.processes().log_path(nodes[0])).find("not formatted from the same") !=
           std::string::npos;
  }));
  auto others = Client::connect({.endpoints = {nodes[1].address, nodes[2].address}});
  ASSERT_TRUE(others) << others.error().message;
  EXPECT_TRUE(RunningCluster::eventually([&] {
    const auto status = others->status();
    return status && status->leader() != nullptr;
  }));
  Client alone = cluster.connect_to(nodes[0]);
  for (uint64_t number = 1; number <= 3; ++number)
    expect_key(alone, number, kValues, ReadLevel::kAny);

  // The way out that the message names.
  for (const size_t i : {1, 2}) {
    cluster.kill(nodes[i]);
    cluster.wipe(nodes[i]);
    ASSERT_TRUE(ends_well(start(words_to_format(cluster, nodes[i], "one"), log_))) << text_of(log_);
    cluster.start(nodes[i]);
  }
  cluster.settle();
  Client client = cluster.connect();
  for (uint64_t number = 1; number <= 3; ++number) expect_key(client, number);
  expect_same_everywhere(client);
}

}  // namespace
}  // namespace ballast::testing
