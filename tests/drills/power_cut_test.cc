// What the cluster promises when the power goes: each node has a disk of its own, an ext4 that is
// shut down under load without a flush, its journal not written either. What was acknowledged with
// `sync` must be there when the power is back.
//
//   BALLAST_POWER_CUTS=50   rounds; 3 by default
//   BALLAST_SEED=N          the choices of a run before; what threads do remains by chance

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <random>
#include <thread>

#include "client/kvctl/local_process.h"
#include "tests/drills/loop_disk.h"
#include "tests/drills/running_cluster.h"

namespace ballast::testing {
namespace {

using client::Client;
using client::ReadLevel;
using namespace std::chrono_literals;

constexpr unsigned kNodes = 3;
constexpr size_t kWriters = 4;
// Each round writes some 30 MiB at most, and the log is kept whole.
constexpr uint64_t kDiskBytes = 1ull << 30;
constexpr uint64_t kDiskBytesEachRound = 64ull << 20;

uint64_t number_from(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

bool flush(const std::filesystem::path& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC), path);
  return file.valid() && ::fsync(file.get()) == 0;
}

struct Write {
  std::string key;
  uint64_t seed = 0;
  size_t count = 0;  // of values
};

// What was acknowledged.
class Acknowledged {
 public:
  void add(Write write) {
    const std::lock_guard lock(mutex_);
    writes_.push_back(std::move(write));
  }
  size_t size() const {
    const std::lock_guard lock(mutex_);
    return writes_.size();
  }
  std::vector<Write> since(size_t first) const {
    const std::lock_guard lock(mutex_);
    return {writes_.begin() + static_cast<ptrdiff_t>(first), writes_.end()};
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Write> writes_;
};

// From 1 KiB to 1 MiB, as many small as large ones by their order of magnitude.
size_t pick_count(std::mt19937_64& random) {
  const double share = static_cast<double>(random() >> 11) * 0x1p-53;
  return static_cast<size_t>(256 * std::pow(1024.0, share));
}

// Threads that put one tensor after the other until they are stopped.
class Writers {
 public:
  Writers(RunningCluster& cluster, uint64_t seed, unsigned round, Acknowledged& ledger) {
    for (size_t w = 0; w < kWriters; ++w) {
      threads_.emplace_back([this, &cluster, &ledger, seed, round, w] {
        std::mt19937_64 random(seed + w);
        Client client = cluster.connect({.deadline = 2000ms, .attempt_timeout = 1000ms});
        for (uint64_t i = 0; !stop_; ++i) {
          const Write write{fmt::format("r{}/w{}/{}", round, w, i), random(), pick_count(random)};
          const std::vector<float> values = make_values(write.count, write.seed);
          if (client.put(write.key, view_of(values), {})) ledger.add(write);
        }
      });
    }
  }
  ~Writers() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
  }
  void ask_to_stop() { stop_ = true; }

 private:
  std::atomic<bool> stop_ = false;
  std::vector<std::thread> threads_;
};

class PowerCut : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto why = LoopDisk::unavailable())
      GTEST_SKIP() << "a disk whose power can be cut can't be made here: " << *why;
    fmt::print("BALLAST_POWER_CUTS={} BALLAST_SEED={}\n", rounds_, seed_);
    cluster_.emplace(kNodes, [this](RunningCluster& cluster) {
      for (const kvctl::LocalNode& node : cluster.processes().nodes()) {
        const auto data = cluster.data_directory(node);
        auto disk = LoopDisk::create(data.parent_path() / "disk.img", data,
                                     kDiskBytes + rounds_ * kDiskBytesEachRound);
        if (!disk) {
          ADD_FAILURE() << disk.error().message;
          std::abort();
        }
        disks_.push_back(*std::move(disk));
      }
    });
  }

  uint64_t pick(uint64_t end) { return random_() % end; }

  // The load of one round, and the cut of the power of all nodes that run at a random moment of it.
  void write_and_cut(unsigned round) {
    Writers writers(*cluster_, random_(), round, ledger_);
    const size_t target = ledger_.size() + 1 + pick(60);
    ASSERT_TRUE(RunningCluster::eventually([&] { return ledger_.size() >= target; }))
        << "the writers are not acknowledged";
    // Not right after an acknowledgement but at any moment of a write.
    std::this_thread::sleep_for(std::chrono::microseconds(pick(20'000)));
    std::array<size_t, kNodes> order{0, 1, 2};
    std::ranges::shuffle(order, random_);
    for (const size_t i : order) {
      if (!cluster_->processes().running(node(i))) continue;
      const Status cut = disks_[i].cut_power();
      ASSERT_TRUE(cut) << cut.error().message;
    }
    // A node that lives on with a dead disk must acknowledge nothing.
    std::this_thread::sleep_for(std::chrono::microseconds(pick(2) * pick(50'000)));
    writers.ask_to_stop();
    for (size_t i = 0; i < kNodes; ++i) cluster_->make_sure_gone(node(i));
  }

  void power_on() {
    for (LoopDisk& disk : disks_) {
      const Status on = disk.power_on();
      ASSERT_TRUE(on) << on.error().message;
    }
  }

  // Starts the node; it must stay and answer.
  void start(size_t i) {
    cluster_->start(node(i));
    const auto client = Client::connect({.endpoints = {node(i).address}, .pinned = true});
    ASSERT_TRUE(client && cluster_->processes().running(node(i)))
        << node(i).name << ": " << cluster_->processes().last_log_line(node(i));
  }

  void expect_written(Client& client, const std::vector<Write>& writes,
                      const client::ReadOptions& options) {
    for (const Write& write : writes) {
      const auto got = client.get(write.key, options);
      if (!got) {
        ++lost_;
        ADD_FAILURE() << write.key << " is lost: " << got.error().to_string();
        continue;
      }
      const std::vector<float> values = make_values(write.count, write.seed);
      if (std::ranges::equal(got->data, std::as_bytes(std::span(values)))) continue;
      ++lost_;
      ADD_FAILURE() << write.key << " has other bytes";
    }
  }

  // All nodes lose power, and all come back.
  void cut_all(unsigned round) {
    const size_t before = ledger_.size();
    write_and_cut(round);
    power_on();
    for (size_t i = 0; i < kNodes; ++i) start(i);
    cluster_->settle();
    Client client = cluster_->connect();
    expect_written(client, ledger_.since(before), {.deadline = 60'000ms});
  }

  // One node is down during the writes, so both others must have each of them; of those one stays
  // down at first. What is read is then what a single disk has kept.
  void cut_two_and_keep_one(unsigned round) {
    const size_t before = ledger_.size();
    const size_t stale = pick(kNodes);
    const size_t kept = (stale + 1 + pick(2)) % kNodes;
    const size_t last = kNodes - stale - kept;
    SCOPED_TRACE(fmt::format("{} was down, {} came back before {}", node(stale).name,
                             node(kept).name, node(last).name));
    cluster_->kill(node(stale));
    write_and_cut(round);
    power_on();
    start(kept);
    start(stale);
    {
      Client client = cluster_->connect();
      expect_written(client, ledger_.since(before), {.deadline = 60'000ms});
    }
    start(last);
    cluster_->settle();
  }

  // Every write of all rounds, from each node alone, and what the nodes say of each other's state.
  void expect_all_everywhere() {
    for (size_t i = 0; i < kNodes; ++i) {
      Client client = cluster_->connect_to(node(i));
      expect_written(client, ledger_.since(0), {.read = ReadLevel::kAny, .deadline = 60'000ms});
    }
    Client client = cluster_->connect();
    const auto reports = client.verify(true);
    ASSERT_TRUE(reports) << reports.error().message;
    for (const client::VerifyReport& report : *reports) {
      EXPECT_FALSE(report.error) << report.error->message;
      EXPECT_TRUE(report.damaged.empty()) << report.member.name;
      EXPECT_EQ(report.state, reports->front().state) << report.member.name;
    }
  }

  const kvctl::LocalNode& node(size_t i) { return cluster_->processes().nodes()[i]; }

  const uint64_t rounds_ = number_from("BALLAST_POWER_CUTS", 3);
  const uint64_t seed_ = number_from("BALLAST_SEED", std::random_device{}());
  std::mt19937_64 random_{seed_};
  std::optional<RunningCluster> cluster_;
  std::vector<LoopDisk> disks_;
  Acknowledged ledger_;
  size_t lost_ = 0;
};

// The instrument itself: a cut that loses nothing would prove nothing.
TEST_F(PowerCut, a_cut_loses_what_was_not_flushed_and_nothing_else) {
  cluster_->kill_all();
  const auto data = cluster_->data_directory(node(0));
  std::ofstream(data / "flushed") << "kept";
  ASSERT_TRUE(flush(data / "flushed"));
  ASSERT_TRUE(flush(data));
  std::ofstream(data / "written") << "lost";
  const Status cut = disks_[0].cut_power();
  ASSERT_TRUE(cut) << cut.error().message;
  EXPECT_FALSE(flush(data / "written")) << "a flush on a dead disk says so";
  power_on();
  EXPECT_EQ(kvctl::read_text(data / "flushed"), "kept");
  EXPECT_NE(kvctl::read_text(data / "written"), "lost");
}

TEST_F(PowerCut, what_was_acknowledged_is_there_when_the_power_is_back) {
  for (unsigned round = 1; round <= rounds_ && !HasFailure(); ++round) {
    SCOPED_TRACE(fmt::format("round {} of BALLAST_SEED={}", round, seed_));
    if (round % 2 == 0) {
      cut_all(round);
    } else {
      cut_two_and_keep_one(round);
    }
  }
  if (!HasFailure()) expect_all_everywhere();
  fmt::print("{} writes were acknowledged, {} of them are lost\n", ledger_.size(), lost_);
}

}  // namespace
}  // namespace ballast::testing
