// ballast_amplification: how many bytes go to the disk for each byte that is stored, in a cluster
// of real nodes on this machine, and in RocksDB alone.
//
// Counted are the write_bytes of /proc/PID/io: what the process has caused to be written, by direct
// I/O or by way of the page cache. The counters of the disk hold the file system's journal too, but
// also what everybody else on the machine writes, and the nodes' bytes all in one: they are shown
// beside.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <numeric>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "bench/amplification/rocksdb_alone.h"
#include "bench/load/disk_counters.h"
#include "client/client.h"
#include "client/kvctl/local_cluster.h"

namespace ballast::amplification {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t kBlockBytes = 1 << 20;
constexpr unsigned kNodes = 3;
// Longer than a node's timed flush of its rows, and than the steps in which it makes a segment.
constexpr auto kQuiet = 35s;
constexpr auto kPatience = 300s;
// Until what was removed is no longer leased.
constexpr auto kFreed = 6s;
constexpr auto kLook = 250ms;

struct Words {
  std::string dir;
  std::string ballastd;
  std::string workload = "fill";
  uint64_t count = 1024;
  unsigned clients = 4;
  unsigned base_port = 15'800;
  unsigned segment_mib = 256;
};

// Blocks that differ everywhere: the cluster stores equal ones once.
class Blocks {
 public:
  Blocks() : values_(kBlockBytes / sizeof(uint64_t)) {}
  std::span<const std::byte> make(uint64_t number) {
    std::mt19937_64 random(number);
    for (uint64_t& value : values_) value = random() & 0xBF7FFFFFBF7FFFFF;  // finite floats
    return std::as_bytes(std::span(values_));
  }

 private:
  std::vector<uint64_t> values_;
};

Result<uint64_t> written_by(const std::string& process) {
  std::ifstream io(fmt::format("/proc/{}/io", process));
  for (std::string word; io >> word;) {
    uint64_t bytes = 0;
    if (word == "write_bytes:" && io >> bytes) return bytes;
  }
  return fail(Errc::kIo, "/proc/{}/io can't be read: run it as the user of the nodes", process);
}

// By the disk's counters, of whoever wrote it, and with what was still in the page cache.
std::optional<uint64_t> written_to_disk(const std::string& path) {
  ::sync();
  return load::written_to_disk(path);
}

// How much of the disk a folder takes, beside what is live in it: at most, while this lives.
class DiskUse {
 public:
  explicit DiskUse(std::string folder)
      : folder_(std::move(folder)), thread_([this](const std::stop_token& stop) {
          for (; !stop.stop_requested(); std::this_thread::sleep_for(kLook)) look();
        }) {}
  std::atomic<uint64_t> live = 0;  // bytes that are acknowledged
  // Set when the first round has been put: before, there is little to compare with.
  std::atomic<bool> begun = false;

  double peak() const { return peak_; }

 private:
  void look() {
    const uint64_t now_live = live;
    if (!begun || now_live == 0) return;
    uint64_t blocks = 0;
    std::error_code gone;  // files come and go meanwhile
    for (std::filesystem::recursive_directory_iterator at(folder_, gone), end; !gone && at != end;
         at.increment(gone)) {
      struct stat status{};
      if (::stat(at->path().c_str(), &status) == 0 && S_ISREG(status.st_mode))
        blocks += static_cast<uint64_t>(status.st_blocks);
    }
    peak_ =
        std::max(peak_.load(), static_cast<double>(blocks * 512) / static_cast<double>(now_live));
  }

  const std::string folder_;
  std::atomic<double> peak_ = 0;
  std::jthread thread_;  // last: it uses the others
};

class Cluster {
 public:
  static Result<Cluster> start(const Words& words) {
    BALLAST_TRY(auto made, kvctl::LocalCluster::create(words.dir + "/cluster",
                                                       {.nodes = kNodes,
                                                        .base_port = words.base_port,
                                                        .segment_mib = words.segment_mib}));
    Cluster cluster(std::move(made));
    BALLAST_TRY(const auto ballastd, kvctl::find_ballastd(words.ballastd));
    for (const auto& node : cluster.processes_.nodes()) {
      // What is removed is to go at once; else an upload may wait for its commit for an hour.
      std::ofstream config(fmt::format("{}/cluster/{}/ballastd.toml", words.dir, node.name),
                           std::ios::app);
      config << "\n[state]\nupload_lease_s = 1\n";
    }
    for (const auto& node : cluster.processes_.nodes())
      BALLAST_TRY_STATUS(cluster.processes_.start(node, ballastd));
    return cluster;
  }
  Cluster(Cluster&&) = default;
  ~Cluster() {
    if (!processes_.nodes().empty()) (void)processes_.stop(processes_.nodes(), 10s);
  }

  Result<client::Client> connect() const {
    return client::Client::connect({.endpoints = processes_.endpoints()});
  }
  Result<std::vector<uint64_t>> written() const {
    std::vector<uint64_t> bytes;
    for (const auto& node : processes_.nodes()) {
      const auto pid = processes_.pid(node);
      if (!pid) return fail(Errc::kIo, "node '{}' has stopped", node.name);
      BALLAST_TRY(bytes.emplace_back(), written_by(std::to_string(*pid)));
    }
    return bytes;
  }
  // The same, once none of them has written for a while.
  Result<std::vector<uint64_t>> written_at_rest() const {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    BALLAST_TRY(std::vector<uint64_t> before, written());
    while (std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(kQuiet);
      BALLAST_TRY(std::vector<uint64_t> now, written());
      if (std::reduce(now.begin(), now.end()) - std::reduce(before.begin(), before.end()) <
          kBlockBytes)
        return now;
      before = std::move(now);
    }
    return fail(Errc::kDeadline, "the nodes still write after {} s", kPatience / 1s);
  }

 private:
  explicit Cluster(kvctl::LocalCluster processes) : processes_(std::move(processes)) {}
  kvctl::LocalCluster processes_;
};

// What is put and then removed, round by round, by the numbers of the blocks.
struct Round {
  std::vector<uint64_t> puts;
  std::vector<uint64_t> removes;
};

// All are put, and then half of them go at random, a sixteenth of all at a time.
std::vector<Round> plan_of_half(uint64_t count) {
  std::vector<uint64_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0);
  std::vector<Round> rounds{{numbers, {}}};
  std::ranges::shuffle(numbers, std::mt19937_64(5));
  const auto step = static_cast<ptrdiff_t>(count / 16);
  for (auto at = numbers.begin(); at + step <= numbers.begin() + static_cast<ptrdiff_t>(count / 2);
       at += step)
    rounds.push_back({{}, {at, at + step}});
  return rounds;
}

// "fill": all are put and stay. "half": then half of them go at random. "models": models of a
// sixteenth of all come and go as a whole, two at a time. "random": blocks come, and as many go at
// random, so that an eighth of all is live.
std::vector<Round> plan(const Words& words) {
  if (words.workload == "half") return plan_of_half(words.count);
  std::mt19937_64 random(5);
  const bool whole = words.workload == "models";
  const uint64_t of_round = words.workload == "fill" ? words.count : words.count / 16;
  const uint64_t live_max = words.workload == "fill" ? words.count : 2 * of_round;
  std::vector<Round> rounds;
  std::vector<uint64_t> live;
  for (uint64_t next = 0; next + of_round <= words.count;) {
    Round& round = rounds.emplace_back();
    for (uint64_t i = 0; i < of_round; ++i) round.puts.push_back(next++);
    live.insert(live.end(), round.puts.begin(), round.puts.end());
    while (live.size() > live_max) {
      const size_t victim = whole ? 0 : random() % live.size();
      round.removes.push_back(live[victim]);
      live.erase(live.begin() + static_cast<ptrdiff_t>(victim));
    }
  }
  return rounds;
}

std::string key_of(uint64_t block) { return fmt::format("amplification/{}", block); }

// Does `work` with each number, by several clients at a time.
Status for_all(const Cluster& cluster, unsigned clients, const std::vector<uint64_t>& numbers,
               const std::function<Status(client::Client&, Blocks&, uint64_t)>& work) {
  std::atomic<size_t> next = 0;
  std::vector<Status> ends(clients);
  std::vector<std::thread> threads;
  for (Status& end : ends) {
    threads.emplace_back([&] {
      auto client = cluster.connect();
      if (!client) end = std::unexpected(client.error());
      Blocks blocks;
      for (size_t i; end && (i = next++) < numbers.size();) end = work(*client, blocks, numbers[i]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Status& end : ends) BALLAST_TRY_STATUS(end);
  return {};
}

// All rounds; returns the encoded bytes of what was put.
Result<uint64_t> do_rounds(const Cluster& cluster, const Words& words,
                           const std::vector<Round>& rounds, DiskUse& use) {
  std::atomic<uint64_t> encoded = 0;
  for (const Round& round : rounds) {
    BALLAST_TRY_STATUS(
        for_all(cluster, words.clients, round.puts,
                [&](client::Client& client, Blocks& blocks, uint64_t number) -> Status {
                  const client::TensorView tensor{
                      client::DType::kF32, {kBlockBytes / sizeof(float)}, blocks.make(number)};
                  BALLAST_TRY(const auto put, client.put(key_of(number), tensor, {}));
                  encoded += put.tensor.encoded_bytes;
                  use.live += kBlockBytes;
                  return {};
                }));
    use.begun = true;
    BALLAST_TRY_STATUS(for_all(cluster, words.clients, round.removes,
                               [&](client::Client& client, Blocks&, uint64_t number) -> Status {
                                 BALLAST_TRY(const auto removed, client.remove(key_of(number)));
                                 (void)removed;
                                 use.live -= kBlockBytes;
                                 return {};
                               }));
    if (!round.removes.empty()) std::this_thread::sleep_for(kFreed);
  }
  return encoded.load();
}

void print_row(const std::string& name, uint64_t written, uint64_t stored, double use) {
  fmt::print("{:<28} {:>12.1f} {:>12.1f} {:>8.3f} {:>10.2f}\n", name,
             static_cast<double>(stored) / 1e6, static_cast<double>(written) / 1e6,
             static_cast<double>(written) / static_cast<double>(stored), use);
  std::fflush(stdout);  // what follows takes minutes
}

Status measure_cluster(const Words& words) {
  BALLAST_TRY(const Cluster cluster, Cluster::start(words));
  BALLAST_TRY(const auto before, cluster.written_at_rest());
  const auto disk_before = written_to_disk(words.dir);
  DiskUse use(words.dir + "/cluster/n1/data");
  BALLAST_TRY(const uint64_t encoded, do_rounds(cluster, words, plan(words), use));
  BALLAST_TRY(const auto after, cluster.written_at_rest());
  for (size_t i = 0; i < before.size(); ++i)
    print_row(fmt::format("ballast node {}", i + 1), after[i] - before[i], encoded, use.peak());
  if (const auto disk_after = written_to_disk(words.dir); disk_before && disk_after)
    print_row("the disk, all three", *disk_after - *disk_before, kNodes * encoded, use.peak());
  return {};
}

Status measure_rocksdb(const Words& words, bool blob_files) {
  Blocks blocks;
  const std::string directory = fmt::format("{}/rocksdb-{}", words.dir, blob_files);
  BALLAST_TRY(const uint64_t before, written_by("self"));
  const auto disk_before = written_to_disk(words.dir);
  DiskUse use(directory);
  {
    BALLAST_TRY(const auto database, RocksDbAlone::open(directory, blob_files));
    for (const Round& round : plan(words)) {
      for (const uint64_t number : round.puts) {
        BALLAST_TRY_STATUS(database->put(number, blocks.make(number)));
        use.live += kBlockBytes;
      }
      use.begun = true;
      for (const uint64_t number : round.removes) BALLAST_TRY_STATUS(database->remove(number));
      use.live -= round.removes.size() * kBlockBytes;
      if (!round.removes.empty()) std::this_thread::sleep_for(kFreed);
    }
    BALLAST_TRY_STATUS(database->settle());
  }
  BALLAST_TRY(const uint64_t after, written_by("self"));
  print_row(blob_files ? "RocksDB, WAL, blob files" : "RocksDB, WAL", after - before,
            words.count * kBlockBytes, use.peak());
  if (const auto disk_after = written_to_disk(words.dir); disk_before && disk_after)
    print_row("the disk", *disk_after - *disk_before, words.count * kBlockBytes, use.peak());
  return {};
}

Status run(const Words& words) {
  std::error_code error;
  std::filesystem::create_directories(words.dir, error);
  if (error) return fail(Errc::kIo, "cannot make '{}': {}", words.dir, error.message());
  fmt::print("{}: {} blocks of 1 MiB, {} clients, sync\n\n{:<28} {:>12} {:>12} {:>8} {:>10}\n",
             words.workload, words.count, words.clients, "", "STORED MB", "WRITTEN MB", "RATIO",
             "PEAK USE");
  BALLAST_TRY_STATUS(measure_cluster(words));
  BALLAST_TRY_STATUS(measure_rocksdb(words, false));
  return measure_rocksdb(words, true);
}

}  // namespace
}  // namespace ballast::amplification

int main(int argc, char** argv) {
  CLI::App app("Measures the bytes that go to the disk for each byte stored.");
  ballast::amplification::Words words;
  app.add_option("--dir", words.dir, "An empty folder on the disk to measure; it is filled")
      ->required();
  app.add_option("--ballastd", words.ballastd, "The server (default: beside this program)");
  app.add_option("--workload", words.workload, "What is put and removed")
      ->check(CLI::IsMember({"fill", "half", "models", "random"}))
      ->capture_default_str();
  app.add_option("--count", words.count, "Blocks of 1 MiB")
      ->check(CLI::Range(16, 1 << 20))
      ->capture_default_str();
  app.add_option("--clients", words.clients, "That write to the cluster at a time")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_option("--base-port", words.base_port, "Of the nodes")->capture_default_str();
  app.add_option("--segment-mib", words.segment_mib, "Of the nodes' logs")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const auto done = ballast::amplification::run(words);
  if (!done) fmt::print(stderr, "ballast_amplification: {}\n", done.error().to_string());
  return done ? 0 : 1;
}
