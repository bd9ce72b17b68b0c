#include "tests/drills/running_cluster.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>
#include <thread>
#include <utility>

#include "proto/net/asio.h"

namespace ballast::testing {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 30s;
constexpr auto kPollEvery = 10ms;

// Tests of other processes may want ports, too: each attempt takes others, far from the ephemeral
// ones.
kvctl::LocalCluster create(const std::filesystem::path& dir, kvctl::LocalPlan plan) {
  plan.segment_mib = 16;
  std::random_device random;
  for (int attempt = 0; attempt < 50; ++attempt) {
    plan.base_port = 20'000 + random() % 12'000;
    auto cluster = kvctl::LocalCluster::create(dir, plan);
    if (cluster) return *std::move(cluster);
    std::filesystem::remove_all(dir);
  }
  ADD_FAILURE() << "no free ports";
  std::abort();
}

// A drill has nothing to say without its client: what is thrown fails it.
client::Client connected(client::Options options) {
  auto client = client::Client::connect(std::move(options));
  if (!client) throw std::runtime_error(client.error().message);
  return *std::move(client);
}

}  // namespace

RunningCluster::RunningCluster(unsigned nodes, const Prepare& prepare)
    : RunningCluster(kvctl::LocalPlan{.nodes = nodes}, prepare) {}

RunningCluster::RunningCluster(kvctl::LocalPlan plan, const Prepare& prepare, bool starts) {
  std::string pattern = ::testing::TempDir() + "ballast-cluster-XXXXXX";
  dir_ = ::mkdtemp(pattern.data());
  cluster_ = create(dir_ / "cluster", std::move(plan));
  if (prepare) prepare(*this);
  if (!starts) return;
  start_all();
  settle();
}

RunningCluster::~RunningCluster() {
  for (const kvctl::LocalNode& node : cluster_->nodes()) {
    if (cluster_->running(node)) static_cast<void>(cluster_->kill(node));
    expect_clean_log(node);
  }
  std::filesystem::remove_all(dir_);
}

// A node that stopped itself, or that a sanitizer stopped, fails the test whatever else it saw.
void RunningCluster::expect_clean_log(const kvctl::LocalNode& node) {
  std::ifstream log(cluster_->log_path(node));
  std::string all, line;
  bool clean = true;
  while (std::getline(log, line)) {
    clean &= line.find("check failed") == std::string::npos &&
             line.find("Sanitizer") == std::string::npos &&
             line.find("runtime error") == std::string::npos;
    all += line + "\n";
  }
  if (!clean || ::testing::Test::HasFailure())
    fprintf(stderr, "%s:\n%s", node.name.c_str(), all.c_str());
  EXPECT_TRUE(clean) << node.name << " was stopped by a check or a sanitizer";
}

client::Client RunningCluster::connect(client::Options options) {
  options.endpoints = cluster_->endpoints();
  return connected(std::move(options));
}

client::Client RunningCluster::connect_to(const kvctl::LocalNode& node, client::Options options) {
  options.endpoints = {node.address};
  options.pinned = true;
  return connected(std::move(options));
}

bool RunningCluster::eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(kPollEvery);
  }
  return true;
}

void RunningCluster::configure(const std::string& section, const std::string& lines) {
  for (const kvctl::LocalNode& node : cluster_->nodes()) {
    const auto path = cluster_->config_path(node);
    std::string text = text_of(path);
    const std::string header = "[" + section + "]\n";
    size_t at = text.find(header);
    if (at == std::string::npos) {
      text += "\n";
      at = text.size();
      text += header;
    }
    std::ofstream(path) << text.insert(at + header.size(), lines + "\n");
  }
}

const kvctl::LocalNode& RunningCluster::leader() {
  const kvctl::LocalNode* found = nullptr;
  auto client = connect();
  EXPECT_TRUE(eventually([&] {
    const auto status = client.status();
    const client::NodeStatus* leader = status ? status->leader() : nullptr;
    for (const kvctl::LocalNode& node : cluster_->nodes()) {
      if (leader != nullptr && node.id == leader->member.id && cluster_->running(node))
        found = &node;
    }
    return found != nullptr;
  })) << "nobody leads";
  return *found;
}

const kvctl::LocalNode& RunningCluster::follower() {
  const uint64_t leading = leader().id;
  for (const kvctl::LocalNode& node : cluster_->nodes()) {
    if (node.id != leading && cluster_->running(node)) return node;
  }
  ADD_FAILURE() << "no follower runs";
  std::abort();
}

void RunningCluster::start(const kvctl::LocalNode& node) {
  const Status status = cluster_->start(node, BALLASTD);
  ASSERT_TRUE(status) << status.error().message;
}

void RunningCluster::start_all() {
  for (const kvctl::LocalNode& node : cluster_->nodes()) start(node);
}

void RunningCluster::kill(const kvctl::LocalNode& node) {
  const Status status = cluster_->kill(node);
  ASSERT_TRUE(status) << status.error().message;
}

void RunningCluster::kill_all() {
  for (const kvctl::LocalNode& node : cluster_->nodes()) kill(node);
}

void RunningCluster::make_sure_gone(const kvctl::LocalNode& node) {
  const auto target = cluster_->aim(node);
  if (!target) return;
  static_cast<void>(cluster_->strike(*target));
  const Status gone = cluster_->wait_gone(*target);
  ASSERT_TRUE(gone) << gone.error().message;
}

std::filesystem::path RunningCluster::data_directory(const kvctl::LocalNode& node) const {
  return cluster_->config_path(node).parent_path() / "data";
}

void RunningCluster::wipe(const kvctl::LocalNode& node) {
  std::filesystem::remove_all(data_directory(node));
}

std::string RunningCluster::move(const kvctl::LocalNode& node) {
  asio::io_context io;
  const tcp::acceptor probe(io, {asio::ip::address_v4::loopback(), 0});
  std::string address = "127.0.0.1:" + std::to_string(probe.local_endpoint().port());
  std::ifstream before(cluster_->config_path(node));
  std::string text(std::istreambuf_iterator<char>(before), {});
  for (size_t at; (at = text.find(node.address)) != std::string::npos;)
    text.replace(at, node.address.size(), address);
  std::ofstream(cluster_->config_path(node)) << text;
  return address;
}

kvctl::LocalNode RunningCluster::add() {
  auto node = cluster_->add();
  EXPECT_TRUE(node) << node.error().message;
  start(*node);
  return *node;
}

void RunningCluster::settle() {
  auto client = connect();
  EXPECT_TRUE(eventually([&] {
    const auto status = client.status();
    if (!status || status->leader() == nullptr) return false;
    const uint64_t applied = status->leader()->applied_index;
    return std::ranges::all_of(status->nodes, [&](const client::NodeStatus& node) {
      return !node.error && node.applied_index == applied && node.last_index == applied;
    });
  })) << "the nodes did not come to rest";
}

std::vector<float> make_values(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<float> values(count);
  for (float& value : values)
    value = static_cast<float>(static_cast<double>(random() >> 11) * 0x1p-53 - 0.5);
  return values;
}

client::TensorView view_of(const std::vector<float>& values) {
  return {.dtype = client::DType::kF32,
          .shape = {values.size()},
          .data = std::as_bytes(std::span(values))};
}

client::TensorSource source_of(std::string name, const std::vector<float>& values) {
  return {.name = std::move(name),
          .dtype = client::DType::kF32,
          .shape = {values.size()},
          .read = [&values](uint64_t offset, std::span<std::byte> out) -> Status {
            std::memcpy(out.data(), reinterpret_cast<const char*>(values.data()) + offset,
                        out.size());
            return {};
          }};
}

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace ballast::testing
