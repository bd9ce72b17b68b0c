// status, leader transfer, verify.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "client/kvctl/arguments.h"
#include "client/kvctl/figures.h"
#include "client/kvctl/health.h"

namespace ballast::kvctl {
namespace {

using client::ClusterStatus;
using client::NodeStatus;
using client::VerifyReport;
using nlohmann::ordered_json;

// ---- status ----

struct NoArguments {};

ordered_json peer_json(const client::PeerStatus& peer) {
  return {{"id", peer.id},
          {"match", peer.match},
          {"lag_bytes", peer.lag_bytes},
          {"active", peer.active}};
}

ordered_json upkeep_json(const client::Upkeep& upkeep) {
  return {{"scrub_passes", upkeep.scrub_passes},
          {"scrubbed_blocks", upkeep.scrubbed_blocks},
          {"scrubbed_bytes", upkeep.scrubbed_bytes},
          {"damaged_found", upkeep.damaged_found},
          {"repaired", upkeep.repaired},
          {"damaged_now", upkeep.waiting},
          {"fetch_index", upkeep.fetch_index},
          {"fetch_block_bytes", upkeep.fetch_block_bytes},
          {"fetched_bytes", upkeep.fetched_bytes}};
}

ordered_json node_json(const NodeStatus& node) {
  ordered_json json = {{"id", node.member.id},
                       {"name", node.member.name},
                       {"address", node.member.address},
                       {"answers", !node.error.has_value()}};
  if (node.error) {
    json["error"] = node.error->to_string();
    return json;
  }
  json.update({{"node_uuid", node.node_uuid},
               {"role", node.role},
               {"term", node.term},
               {"leader", node.leader},
               {"commit_index", node.commit_index},
               {"applied_index", node.applied_index},
               {"last_index", node.last_index},
               {"exposure_bytes", node.exposure_bytes},
               {"log_bytes", node.log_bytes},
               {"blocks", node.blocks},
               {"block_bytes", node.block_bytes},
               {"disk_bytes_free", node.disk_bytes_free},
               {"disk_bytes_total", node.disk_bytes_total},
               {"full", node.full},
               {"last_append_us", node.last_append_us},
               {"read_probes", node.read_probes},
               {"bounded_reads", node.bounded_reads},
               {"uptime_ms", node.uptime_ms},
               {"leader_since_ms", node.leader_since_ms},
               {"learner", node.member.learner},
               {"drained", node.drained},
               {"rows_lost", node.rows_lost},
               {"upkeep", upkeep_json(node.upkeep)},
               {"version", node.version}});
  json["peers"] = ordered_json::array();
  for (const client::PeerStatus& peer : node.peers) json["peers"].push_back(peer_json(peer));
  return json;
}

std::string role_text(const NodeStatus& node) {
  return (node.member.learner ? "learner" : node.role) + (node.drained ? ", drained" : "") +
         (node.full ? ", full" : "") + (node.rows_lost ? ", without rows" : "") +
         (node.upkeep.fetch_index > 0
              ? fmt::format(", {} of {} fetched", human_bytes(node.upkeep.fetched_bytes),
                            human_bytes(node.upkeep.fetch_block_bytes))
              : "") +
         (node.upkeep.waiting > 0 ? fmt::format(", {} damaged", node.upkeep.waiting) : "");
}

const std::vector<std::string> kStatusHeader = {"NAME",    "ADDRESS", "ROLE",     "TERM",
                                                "APPLIED", "LAG",     "LOG",      "FREE",
                                                "BLOCKS",  "BYTES",   "EXPOSURE", "APPEND"};

std::vector<std::string> node_row(const NodeStatus& node, const ClusterStatus& cluster) {
  if (node.error) {
    std::vector<std::string> row{node.member.name, node.member.address, "no answer"};
    row.resize(kStatusHeader.size(), "-");
    return row;
  }
  const std::optional<uint64_t> lag = lag_bytes(cluster, node);
  return {node.member.name,
          node.member.address,
          role_text(node),
          std::to_string(node.term),
          std::to_string(node.applied_index),
          lag ? human_bytes(*lag) : "-",
          human_bytes(node.log_bytes),
          human_bytes(node.disk_bytes_free),
          std::to_string(node.blocks),
          human_bytes(node.block_bytes),
          human_bytes(node.exposure_bytes),
          fmt::format("{:.2f} ms", static_cast<double>(node.last_append_us) / 1000)};
}

Status status(const Context& context, const NoArguments&) {
  BALLAST_TRY(client::Client client, context.connect());
  BALLAST_TRY(const ClusterStatus cluster, client.status());
  const Health health = health_of(cluster);
  if (context.json) {
    ordered_json json = {{"cluster_uuid", cluster.cluster_uuid},
                         {"health", health.state},
                         {"message", health.text},
                         {"nodes_up", health.up},
                         {"quorum", health.quorum},
                         {"losses_tolerated", health.losses_tolerated}};
    json["leader"] = cluster.leader() == nullptr ? ordered_json(nullptr)
                                                 : ordered_json(cluster.leader()->member.name);
    json["nodes"] = ordered_json::array();
    for (const NodeStatus& node : cluster.nodes) json["nodes"].push_back(node_json(node));
    print_json(json);
  } else {
    fmt::print("{}: {}\n\n", health.state, health.text);
    Table table{.header = kStatusHeader, .rows = {}};
    for (const NodeStatus& node : cluster.nodes) table.rows.push_back(node_row(node, cluster));
    table.print();
  }
  if (cluster.leader() == nullptr)
    return fail(Errc::kUnavailable, "the cluster has no leader; {} of {} nodes answer",
                cluster.reachable(), cluster.nodes.size());
  return {};
}

// ---- leader transfer ----

struct TransferArguments {
  std::string to;
};

Status leader_transfer(const Context& context, const TransferArguments& arguments) {
  BALLAST_TRY(client::Client client, context.connect());
  BALLAST_TRY(const client::Member leader, client.transfer_leadership(arguments.to));
  if (context.json)
    print_json({{"leader", leader.name}, {"id", leader.id}, {"address", leader.address}});
  else
    fmt::print("{} leads now ({})\n", leader.name, leader.address);
  return {};
}

// ---- verify ----

struct VerifyArguments {
  bool deep = false;
};

ordered_json verify_json(const std::vector<VerifyReport>& reports, const std::string& states) {
  ordered_json json = {{"states", states}, {"nodes", ordered_json::array()}};
  for (const VerifyReport& report : reports) {
    ordered_json node = {{"id", report.member.id},
                         {"name", report.member.name},
                         {"answers", !report.error.has_value()}};
    if (report.error) {
      node["error"] = report.error->to_string();
    } else {
      node.update({{"blocks", report.blocks},
                   {"bytes", report.bytes},
                   {"applied_index", report.applied_index},
                   {"state", report.state.hex()}});
      node["damaged"] = ordered_json::array();
      for (const Digest& digest : report.damaged) node["damaged"].push_back(digest.hex());
      node["repaired"] = ordered_json::array();
      for (const Digest& digest : report.repaired) node["repaired"].push_back(digest.hex());
    }
    json["nodes"].push_back(std::move(node));
  }
  return json;
}

void print_verify(const std::vector<VerifyReport>& reports, const std::string& states) {
  Table table{.header = {"NAME", "BLOCKS", "BYTES", "DAMAGED", "APPLIED", "STATE"}, .rows = {}};
  for (const VerifyReport& report : reports) {
    if (report.error)
      table.rows.push_back({report.member.name, "-", "-", "-", "-", "no answer"});
    else
      table.rows.push_back({report.member.name, std::to_string(report.blocks),
                            human_bytes(report.bytes), std::to_string(report.damaged.size()),
                            std::to_string(report.applied_index), report.state.brief()});
  }
  table.print();
  for (const VerifyReport& report : reports)
    for (const Digest& digest : report.damaged) {
      const bool repaired = std::ranges::find(report.repaired, digest) != report.repaired.end();
      fmt::print("damaged on {}: block {}{}\n", report.member.name, digest.hex(),
                 repaired ? "; repaired" : "");
    }
  if (states == "not_compared")
    fmt::print(
        "states: not compared, since the nodes stand at different indexes; verify again "
        "when nothing is written\n");
  else
    fmt::print("states: {}\n", states);
}

Status verify(const Context& context, const VerifyArguments& arguments) {
  BALLAST_TRY(client::Client client, context.connect());
  BALLAST_TRY(const std::vector<VerifyReport> reports, client.verify(arguments.deep));
  const std::string states = compare_states(reports);
  if (context.json)
    print_json(verify_json(reports, states));
  else
    print_verify(reports, states);
  return verdict_of(reports, states);
}

}  // namespace

void add_cluster_commands(CLI::App& app, Context& context) {
  add_command(app, context, "status", "the cluster's health and its nodes", status);

  CLI::App* leader = app.add_subcommand("leader", "leadership");
  leader->require_subcommand(1);
  const auto transfer =
      add_command(*leader, context, "transfer", "hand leadership to another node", leader_transfer);
  transfer.app->add_option("--to", transfer.arguments->to,
                           "the node's name; default: the one that is furthest");

  const auto verify_command = add_command(
      app, context, "verify", "compare the nodes' states; with --deep their blocks too", verify);
  verify_command.app->add_flag(
      "--deep", verify_command.arguments->deep,
      "let every node read all its blocks, compare SHA-256, and repair from the others");
}

}  // namespace ballast::kvctl
