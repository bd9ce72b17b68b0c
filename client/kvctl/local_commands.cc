// kvctl local up|down|status: a cluster on this machine.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "client/kvctl/command.h"
#include "client/kvctl/local_cluster.h"
#include "proto/backup/directory.h"

namespace ballast::kvctl {
namespace {

using client::Client;
using client::ClusterStatus;
using client::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kPollEvery{50};
// Of one question while nodes are starting: a node that does not answer must not hold up the watch
// on the processes.
constexpr milliseconds kAskDeadline{1000};
constexpr milliseconds kStopPatience{5000};

struct UpOptions {
  std::string dir;
  std::string ballastd;
  LocalPlan plan;
  const CLI::Option* nodes = nullptr;  // whether they were given
  const CLI::Option* base_port = nullptr;
  const CLI::Option* segment_mib = nullptr;
};

// The name of the newest one is looked up once: all founders must begin with the same backup.
Result<LocalPlan> with_backup_name(LocalPlan plan) {
  if (plan.backup_dir.empty()) return plan;
  BALLAST_TRY(const auto manifest, backup::BackupDirectory(plan.backup_dir).find(plan.backup));
  plan.backup = manifest.name;
  return plan;
}

// What was asked for must be what the folder holds; what was not asked for is not compared.
Status check_same_plan(const UpOptions& options, const LocalCluster& cluster) {
  const auto check = [&](const CLI::Option* option, unsigned asked, unsigned held) -> Status {
    if (option->count() == 0 || asked == held) return {};
    return fail(Errc::kInvalidArgument,
                "'{}' holds a cluster with {} {}, not {}: leave the option out, or choose another "
                "--dir",
                options.dir, option->get_name(), held, asked);
  };
  BALLAST_TRY_STATUS(check(options.nodes, options.plan.nodes, cluster.plan().nodes));
  BALLAST_TRY_STATUS(check(options.base_port, options.plan.base_port, cluster.plan().base_port));
  BALLAST_TRY_STATUS(
      check(options.segment_mib, options.plan.segment_mib, cluster.plan().segment_mib));
  const LocalPlan& asked = options.plan;
  const bool same_backup =
      asked.backup_dir.empty() || (asked.backup_dir == cluster.plan().backup_dir &&
                                   (asked.backup.empty() || asked.backup == cluster.plan().backup));
  if (same_backup) return {};
  return fail(Errc::kInvalidArgument,
              "'{}' holds a cluster that did not begin with this backup: choose another --dir",
              options.dir);
}

Result<LocalCluster> load_or_create(UpOptions options) {
  LocalPlan& plan = options.plan;
  if (plan.backup_dir.empty() && !plan.backup.empty())
    return fail(Errc::kInvalidArgument, "--backup goes with --from-backup alone");
  // The nodes run elsewhere.
  if (!plan.backup_dir.empty())
    plan.backup_dir = std::filesystem::absolute(plan.backup_dir).lexically_normal();
  if (!LocalCluster::holds_cluster(options.dir)) {
    BALLAST_TRY(const LocalPlan whole, with_backup_name(plan));
    return LocalCluster::create(options.dir, whole);
  }
  BALLAST_TRY(auto cluster, LocalCluster::load(options.dir));
  BALLAST_TRY_STATUS(check_same_plan(options, cluster));
  return cluster;
}

Result<ClusterStatus> ask(const LocalCluster& cluster) {
  client::Options options;
  options.endpoints = cluster.endpoints();
  options.deadline = kAskDeadline;
  options.attempt_timeout = kAskDeadline;
  BALLAST_TRY(auto client, Client::connect(options));
  BALLAST_TRY(auto status, client.status());
  if (status.cluster_uuid == cluster.uuid()) return status;
  return fail(Errc::kRefused, "the nodes at {} belong to cluster {}, not to {} of '{}'",
              fmt::join(cluster.endpoints(), ","), status.cluster_uuid, cluster.uuid(),
              cluster.dir().string());
}

// Why the cluster can't be used yet; empty: it can.
std::string not_ready(const Result<ClusterStatus>& status) {
  if (!status) return status.error().message;
  for (const client::NodeStatus& node : status->nodes) {
    if (node.error) return fmt::format("'{}': {}", node.member.name, node.error->message);
  }
  return status->leader() == nullptr ? "no leader is elected" : std::string();
}

// Starts the nodes that do not run and have not been started here yet.
Status start_missing(LocalCluster& cluster, const std::filesystem::path& ballastd,
                     std::vector<LocalNode>& started) {
  for (const LocalNode& node : cluster.nodes()) {
    const bool tried = std::ranges::find(started, node.id, &LocalNode::id) != started.end();
    if (tried || cluster.running(node)) continue;
    BALLAST_TRY_STATUS(cluster.start(node, ballastd));
    started.push_back(node);
  }
  return {};
}

// Starts what does not run and waits until every node answers and one leads. A process that was
// dying when it was first looked at is started, too, once it is gone.
Result<ClusterStatus> start_all(LocalCluster& cluster, const std::filesystem::path& ballastd,
                                milliseconds patience, std::vector<LocalNode>& started) {
  const auto deadline = Clock::now() + patience;
  for (;;) {
    BALLAST_TRY_STATUS(start_missing(cluster, ballastd, started));
    BALLAST_TRY_STATUS(cluster.check_started());
    auto status = ask(cluster);
    if (!status && status.error().code == Errc::kRefused) return status;
    const std::string reason = not_ready(status);
    if (reason.empty()) return status;
    if (Clock::now() > deadline) {
      return fail(Errc::kDeadline, "the cluster is not ready after {} s: {}",
                  std::chrono::duration<double>(patience).count(), reason);
    }
    std::this_thread::sleep_for(kPollEvery);
  }
}

const client::NodeStatus* find_status(const std::optional<ClusterStatus>& status, uint64_t id) {
  if (!status) return nullptr;
  const auto node =
      std::ranges::find(status->nodes, id, [](const auto& entry) { return entry.member.id; });
  return node == status->nodes.end() || node->error ? nullptr : &*node;
}

void print_cluster_json(const LocalCluster& cluster, const std::optional<ClusterStatus>& status) {
  nlohmann::ordered_json nodes = nlohmann::ordered_json::array();
  for (const LocalNode& node : cluster.nodes()) {
    const auto pid = cluster.pid(node);
    const client::NodeStatus* const answer = find_status(status, node.id);
    nlohmann::ordered_json entry{{"id", node.id}, {"name", node.name}, {"address", node.address}};
    entry["running"] = pid.has_value();
    entry["pid"] = pid ? nlohmann::ordered_json(*pid) : nlohmann::ordered_json();
    entry["answers"] = answer != nullptr;
    if (answer != nullptr) {
      entry["role"] = answer->role;
      entry["term"] = answer->term;
      entry["applied_index"] = answer->applied_index;
    }
    entry["log"] = cluster.log_path(node).string();
    nodes.push_back(std::move(entry));
  }
  const client::NodeStatus* const leader = status ? status->leader() : nullptr;
  print_json({{"dir", cluster.dir().string()},
              {"cluster", cluster.uuid()},
              {"leader", leader != nullptr ? nlohmann::ordered_json(leader->member.name)
                                           : nlohmann::ordered_json()},
              {"endpoints", cluster.endpoints()},
              {"nodes", std::move(nodes)}});
}

void print_cluster_table(const LocalCluster& cluster, const std::optional<ClusterStatus>& status) {
  Table table{.header = {"NODE", "ENDPOINT", "PID", "PROCESS", "ROLE", "TERM", "APPLIED"}};
  for (const LocalNode& node : cluster.nodes()) {
    const auto pid = cluster.pid(node);
    const client::NodeStatus* const answer = find_status(status, node.id);
    std::vector<std::string> row{node.name, node.address, pid ? std::to_string(*pid) : "-",
                                 pid ? "running" : "stopped"};
    if (answer != nullptr) {
      row.insert(row.end(), {answer->role, std::to_string(answer->term),
                             std::to_string(answer->applied_index)});
    } else {
      row.insert(row.end(), {pid ? "no answer" : "-", "-", "-"});
    }
    table.rows.push_back(std::move(row));
  }
  table.print();
}

void print_cluster(const LocalCluster& cluster, const std::optional<ClusterStatus>& status,
                   const Context& context) {
  if (context.json) {
    print_cluster_json(cluster, status);
  } else {
    print_cluster_table(cluster, status);
  }
}

Status up(const UpOptions& options, const Context& context) {
  BALLAST_TRY(const auto ballastd, find_ballastd(options.ballastd));
  BALLAST_TRY(auto cluster, load_or_create(options));
  std::vector<LocalNode> started;
  auto status = start_all(cluster, ballastd, context.deadline, started);
  if (!status) {
    // The first error is what matters; what ran before stays as it was.
    (void)cluster.stop(started, kStopPatience);
    return std::unexpected(status.error());
  }
  print_cluster(cluster, *status, context);
  if (!context.json) {
    fmt::print("\nexport BALLAST_ENDPOINTS={}\n", fmt::join(cluster.endpoints(), ","));
  }
  return {};
}

Status down(const std::string& dir, bool purge, const Context& context) {
  BALLAST_TRY(auto cluster, LocalCluster::load(dir));
  std::vector<std::string> stopped;
  for (const LocalNode& node : cluster.nodes()) {
    if (cluster.running(node)) stopped.push_back(node.name);
  }
  BALLAST_TRY(const auto killed, cluster.stop(cluster.nodes(), kStopPatience));
  for (const std::string& name : killed) {
    fmt::print(stderr, "warning: '{}' did not end within {} s and was killed; its data is kept\n",
               name, kStopPatience.count() / 1000);
  }
  bool gone = false;
  if (purge) {
    BALLAST_TRY(gone, cluster.purge());
    if (!gone) {
      fmt::print(stderr, "warning: '{}' stays, because it holds files that are not the cluster's\n",
                 cluster.dir().string());
    }
  }
  if (context.json) {
    print_json({{"dir", cluster.dir().string()},
                {"stopped", stopped},
                {"killed", killed},
                {"purged", purge}});
  } else if (stopped.empty()) {
    fmt::print("no node ran{}\n", purge ? "; the data is removed" : "");
  } else {
    fmt::print("stopped {}{}\n", fmt::join(stopped, ", "), purge ? "; the data is removed" : "");
  }
  return {};
}

Status show_status(const std::string& dir, const Context& context) {
  BALLAST_TRY(const auto cluster, LocalCluster::load(dir));
  const bool any = std::ranges::any_of(
      cluster.nodes(), [&cluster](const LocalNode& node) { return cluster.running(node); });
  std::optional<ClusterStatus> answer;
  if (any) {
    auto status = ask(cluster);
    if (status) {
      answer = *std::move(status);
    } else {
      fmt::print(stderr, "warning: no status: {}\n", status.error().message);
    }
  }
  print_cluster(cluster, answer, context);
  return {};
}

void add_up(CLI::App& local, Context& context) {
  auto options = std::make_shared<UpOptions>();
  CLI::App* const command = local.add_subcommand(
      "up", "Make a cluster in a folder and start it, or start the nodes of one that is there");
  command->add_option("--dir", options->dir, "The cluster's folder")->required();
  options->nodes =
      command->add_option("--nodes", options->plan.nodes, "Number of nodes")->capture_default_str();
  options->base_port =
      command->add_option("--base-port", options->plan.base_port, "Port of the first node")
          ->capture_default_str();
  options->segment_mib =
      command->add_option("--segment-mib", options->plan.segment_mib, "Size of a log segment")
          ->capture_default_str();
  command->add_option("--from-backup", options->plan.backup_dir,
                      "A new cluster begins with a backup of this directory");
  command->add_option("--backup", options->plan.backup, "Its name; default: the newest");
  command->add_option("--ballastd", options->ballastd,
                      "The server (default: $BALLASTD, else beside kvctl)");
  command->callback(
      [options, &context] { context.run = [options, &context] { return up(*options, context); }; });
}

Status add_node(const std::string& dir, const std::string& program, const Context& context) {
  BALLAST_TRY(const auto ballastd, find_ballastd(program));
  BALLAST_TRY(auto cluster, LocalCluster::load(dir));
  BALLAST_TRY(const LocalNode node, cluster.add());
  BALLAST_TRY_STATUS(cluster.start(node, ballastd));
  // Until it answers or is gone.
  client::Options options{.endpoints = {node.address}, .pinned = true};
  const auto deadline = Clock::now() + context.deadline;
  for (;;) {
    BALLAST_TRY_STATUS(cluster.check_started());
    const auto connected = client::Client::connect(options);
    if (connected) break;
    if (Clock::now() > deadline) return std::unexpected(connected.error());
    std::this_thread::sleep_for(kPollEvery);
  }
  if (context.json)
    print_json({{"id", node.id}, {"name", node.name}, {"address", node.address}});
  else
    fmt::print("{} runs and waits to be let in:\nkvctl member add {} --address {}\n", node.name,
               node.name, node.address);
  return {};
}

void add_add(CLI::App& local, Context& context) {
  auto dir = std::make_shared<std::string>();
  auto ballastd = std::make_shared<std::string>();
  CLI::App* const command =
      local.add_subcommand("add", "Make and start one more node, which waits to become a member");
  command->add_option("--dir", *dir, "The cluster's folder")->required();
  command->add_option("--ballastd", *ballastd,
                      "The server (default: $BALLASTD, else beside kvctl)");
  command->callback([dir, ballastd, &context] {
    context.run = [dir, ballastd, &context] { return add_node(*dir, *ballastd, context); };
  });
}

void add_down(CLI::App& local, Context& context) {
  auto dir = std::make_shared<std::string>();
  auto purge = std::make_shared<bool>(false);
  CLI::App* const command =
      local.add_subcommand("down", "Stop all nodes of a local cluster; the data stays");
  command->add_option("--dir", *dir, "The cluster's folder")->required();
  command->add_flag("--purge", *purge, "Remove the cluster and its data");
  command->callback([dir, purge, &context] {
    context.run = [dir, purge, &context] { return down(*dir, *purge, context); };
  });
}

void add_status(CLI::App& local, Context& context) {
  auto dir = std::make_shared<std::string>();
  CLI::App* const command =
      local.add_subcommand("status", "Show which nodes of a local cluster run and what they say");
  command->add_option("--dir", *dir, "The cluster's folder")->required();
  command->callback(
      [dir, &context] { context.run = [dir, &context] { return show_status(*dir, context); }; });
}

}  // namespace

void add_local_commands(CLI::App& app, Context& context) {
  CLI::App* const local = app.add_subcommand("local", "Run a cluster on this machine");
  local->require_subcommand(1);
  add_up(*local, context);
  add_add(*local, context);
  add_down(*local, context);
  add_status(*local, context);
}

}  // namespace ballast::kvctl
