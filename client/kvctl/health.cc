#include "client/kvctl/health.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace ballast::kvctl {
namespace {

using client::ClusterStatus;
using client::NodeStatus;
using client::PeerStatus;
using client::VerifyReport;

const PeerStatus* peer_at_leader(const NodeStatus& leader, const NodeStatus& node) {
  const auto peer = std::ranges::find(leader.peers, node.member.id, &PeerStatus::id);
  return peer == leader.peers.end() ? nullptr : &*peer;
}

// A node counts if we reach it and the leader does: either alone would promise too much.
bool is_up(const NodeStatus& node, const NodeStatus* leader) {
  if (node.error) return false;
  if (leader == nullptr || node.member.id == leader->member.id) return true;
  const PeerStatus* peer = peer_at_leader(*leader, node);
  return peer == nullptr || peer->active;
}

// They hold and serve what they have, but store nothing more.
std::vector<std::string> full_voters(const ClusterStatus& cluster) {
  std::vector<std::string> names;
  for (const NodeStatus& node : cluster.nodes) {
    if (!node.error && node.full && !node.member.learner) names.push_back(node.member.name);
  }
  return names;
}

std::string missing_text(const ClusterStatus& cluster, const NodeStatus* leader) {
  std::vector<std::string> silent;
  std::vector<std::string> unheard;
  for (const NodeStatus& node : cluster.nodes) {
    if (is_up(node, leader)) continue;
    (node.error ? silent : unheard).push_back(node.member.name);
  }
  std::string text;
  if (!silent.empty())
    text += fmt::format("{} {} not answer; ", fmt::join(silent, ", "),
                        silent.size() == 1 ? "does" : "do");
  if (!unheard.empty())
    text += fmt::format("the leader does not hear {}; ", fmt::join(unheard, ", "));
  if (const auto full = full_voters(cluster); !full.empty())
    text += fmt::format("the {} of {} {} full; ", full.size() == 1 ? "disk" : "disks",
                        fmt::join(full, ", "), full.size() == 1 ? "is" : "are");
  return text;
}

std::string losses_text(size_t losses) {
  if (losses == 0) return "no node can be lost now";
  return losses == 1 ? "one more node can be lost"
                     : fmt::format("{} more nodes can be lost", losses);
}

}  // namespace

Health health_of(const ClusterStatus& cluster) {
  const NodeStatus* leader = cluster.leader();
  // Learners are shown, but nothing depends on them.
  const auto count = static_cast<size_t>(std::ranges::count_if(
      cluster.nodes, [](const NodeStatus& node) { return !node.member.learner; }));
  Health health;
  health.quorum = count / 2 + 1;
  health.up = static_cast<size_t>(std::ranges::count_if(cluster.nodes, [&](const NodeStatus& node) {
    return !node.member.learner && is_up(node, leader);
  }));
  const std::string missing = missing_text(cluster, leader);
  if (leader == nullptr) {
    health.state = "down";
    health.text = fmt::format("no leader; {}{} of {} nodes answer, {} are needed", missing,
                              health.up, count, health.quorum);
    return health;
  }
  health.losses_tolerated = health.up > health.quorum ? health.up - health.quorum : 0;
  // A leader that has lost its majority says so for a moment more, but commits nothing.
  const bool impaired = health.up < count || !full_voters(cluster).empty();
  health.state = health.up < health.quorum ? "down" : impaired ? "degraded" : "healthy";
  health.text =
      fmt::format("{} leads since {} (term {}); {}{} of {} nodes are up, {}", leader->member.name,
                  duration_text(leader->leader_since_ms), leader->term, missing, health.up, count,
                  losses_text(health.losses_tolerated));
  return health;
}

std::optional<uint64_t> lag_bytes(const ClusterStatus& cluster, const NodeStatus& node) {
  const NodeStatus* leader = cluster.leader();
  if (leader == nullptr || leader->member.id == node.member.id) return std::nullopt;
  const PeerStatus* peer = peer_at_leader(*leader, node);
  return peer == nullptr ? std::nullopt : std::optional(peer->lag_bytes);
}

std::string duration_text(uint64_t ms) {
  const uint64_t seconds = ms / 1000;
  if (seconds < 60) return fmt::format("{} s", seconds);
  if (seconds < 3600) return fmt::format("{} min {} s", seconds / 60, seconds % 60);
  if (seconds < 86'400) return fmt::format("{} h {} min", seconds / 3600, seconds % 3600 / 60);
  return fmt::format("{} d {} h", seconds / 86'400, seconds % 86'400 / 3600);
}

std::string compare_states(const std::vector<VerifyReport>& reports) {
  std::map<uint64_t, Digest> state_at;
  for (const VerifyReport& report : reports) {
    if (report.error) continue;
    const auto [at, is_new] = state_at.emplace(report.applied_index, report.state);
    if (!is_new && at->second != report.state) return "differ";
  }
  return state_at.size() == 1 ? "equal" : "not_compared";
}

Status verdict_of(const std::vector<VerifyReport>& reports, const std::string& states) {
  std::vector<std::string> damaged;
  std::vector<std::string> silent;
  for (const VerifyReport& report : reports) {
    if (report.error)
      silent.push_back(fmt::format("{} ({})", report.member.name, report.error->to_string()));
    else if (report.damaged.size() > report.repaired.size())
      damaged.push_back(fmt::format("{} ({})", report.member.name,
                                    report.damaged.size() - report.repaired.size()));
  }
  if (states == "differ")
    return fail(Errc::kCorrupt,
                "nodes at the same index have different states; keep their folders and report it");
  if (!damaged.empty())
    return fail(Errc::kCorrupt,
                "damaged blocks on {} that no other node has given yet: see the nodes' logs",
                fmt::join(damaged, ", "));
  if (!silent.empty()) return fail(Errc::kUnavailable, "not verified: {}", fmt::join(silent, ", "));
  return {};
}

}  // namespace ballast::kvctl
