// ballast_amplification: how many bytes go to the disk for each byte that is stored, in a cluster
// of real nodes on this machine, and in RocksDB alone.
//
// Counted are the write_bytes of /proc/PID/io: what the process has caused to be written, by direct
// I/O or by way of the page cache. The counters of the disk would hold the file system's journal
// too, but also what everybody else on the machine writes, and the nodes' bytes all in one.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "bench/amplification/rocksdb_alone.h"
#include "client/client.h"
#include "client/kvctl/local_cluster.h"

namespace ballast::amplification {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t kBlockBytes = 1 << 20;
constexpr unsigned kNodes = 3;
// Longer than a node's timed flush of its rows, and than the steps in which it makes a segment.
constexpr auto kQuiet = 6s;
constexpr auto kPatience = 120s;

struct Words {
  std::string dir;
  std::string ballastd;
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

class Cluster {
 public:
  static Result<Cluster> start(const Words& words) {
    BALLAST_TRY(auto made, kvctl::LocalCluster::create(words.dir + "/cluster",
                                                       {.nodes = kNodes,
                                                        .base_port = words.base_port,
                                                        .segment_mib = words.segment_mib}));
    Cluster cluster(std::move(made));
    BALLAST_TRY(const auto ballastd, kvctl::find_ballastd(words.ballastd));
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

// All blocks, each a key of its own; returns their encoded bytes.
Result<uint64_t> put_all(const Cluster& cluster, const Words& words) {
  std::atomic<uint64_t> next = 0, encoded = 0;
  std::vector<Status> ends(words.clients);
  std::vector<std::thread> threads;
  for (Status& end : ends) {
    threads.emplace_back([&] {
      auto client = cluster.connect();
      Blocks blocks;
      for (uint64_t i; end && (i = next++) < words.count;) {
        if (!client) {
          end = std::unexpected(client.error());
          break;
        }
        const client::TensorView tensor{
            client::DType::kF32, {kBlockBytes / sizeof(float)}, blocks.make(i)};
        const auto put = client->put(fmt::format("amplification/{}", i), tensor, {});
        if (put) {
          encoded += put->tensor.encoded_bytes;
        } else {
          end = std::unexpected(put.error());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Status& end : ends) BALLAST_TRY_STATUS(end);
  return encoded.load();
}

void print_row(const std::string& name, uint64_t written, uint64_t stored) {
  fmt::print("{:<28} {:>12.1f} {:>12.1f} {:>8.3f}\n", name, static_cast<double>(stored) / 1e6,
             static_cast<double>(written) / 1e6,
             static_cast<double>(written) / static_cast<double>(stored));
}

Status measure_cluster(const Words& words) {
  BALLAST_TRY(const Cluster cluster, Cluster::start(words));
  BALLAST_TRY(const auto before, cluster.written_at_rest());
  BALLAST_TRY(const uint64_t encoded, put_all(cluster, words));
  BALLAST_TRY(const auto after, cluster.written_at_rest());
  for (size_t i = 0; i < before.size(); ++i)
    print_row(fmt::format("ballast node {}", i + 1), after[i] - before[i], encoded);
  return {};
}

Status measure_rocksdb(const Words& words, bool blob_files) {
  Blocks blocks;
  BALLAST_TRY(const uint64_t before, written_by("self"));
  BALLAST_TRY_STATUS(put_into_rocksdb(fmt::format("{}/rocksdb-{}", words.dir, blob_files),
                                      blob_files, words.count,
                                      [&](uint64_t i) { return blocks.make(i); }));
  BALLAST_TRY(const uint64_t after, written_by("self"));
  print_row(blob_files ? "RocksDB, WAL, blob files" : "RocksDB, WAL", after - before,
            words.count * kBlockBytes);
  return {};
}

Status run(const Words& words) {
  std::error_code error;
  std::filesystem::create_directories(words.dir, error);
  if (error) return fail(Errc::kIo, "cannot make '{}': {}", words.dir, error.message());
  fmt::print("{} blocks of 1 MiB, {} clients, sync\n\n{:<28} {:>12} {:>12} {:>8}\n", words.count,
             words.clients, "", "STORED MB", "WRITTEN MB", "RATIO");
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
  app.add_option("--count", words.count, "Blocks of 1 MiB")
      ->check(CLI::Range(1, 1 << 20))
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
