#include "server/raft/configuration.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "proto/base/check.h"
#include "server/raft/quorum.h"

namespace ballast::raft {
namespace {

bool contains(const std::vector<NodeId>& sorted, NodeId node) {
  return std::ranges::binary_search(sorted, node);
}

std::vector<NodeId> merged(const std::vector<NodeId>& a, const std::vector<NodeId>& b) {
  std::vector<NodeId> all;
  std::ranges::set_union(a, b, std::back_inserter(all));
  return all;
}

std::vector<NodeId> without(const std::vector<NodeId>& from, const std::vector<NodeId>& taken) {
  std::vector<NodeId> left;
  std::ranges::set_difference(from, taken, std::back_inserter(left));
  return left;
}

std::string list(std::string_view name, const std::vector<NodeId>& nodes) {
  return nodes.empty() ? "" : fmt::format("{} {}", name, fmt::join(nodes, " "));
}

uint64_t majority_of(const std::vector<NodeId>& voters,
                     const std::function<uint64_t(NodeId)>& reached) {
  std::vector<uint64_t> values;
  values.reserve(voters.size());
  for (NodeId node : voters) values.push_back(reached(node));
  return majority_reached(values);
}

bool majority_of(const std::vector<NodeId>& voters, const std::function<bool(NodeId)>& holds) {
  return static_cast<size_t>(std::ranges::count_if(voters, holds)) >= majority(voters.size());
}

}  // namespace

bool Configuration::is_voter(NodeId node) const {
  return raft::contains(voters, node) || raft::contains(outgoing, node);
}
bool Configuration::is_learner(NodeId node) const { return raft::contains(learners, node); }
std::vector<NodeId> Configuration::all_voters() const { return merged(voters, outgoing); }
std::vector<NodeId> Configuration::members() const { return merged(all_voters(), learners); }

std::string to_string(const Configuration& configuration) {
  std::string text = list("voters", configuration.voters);
  for (const auto& more :
       {list("outgoing", configuration.outgoing), list("learners", configuration.learners)}) {
    if (!more.empty()) text += (text.empty() ? "" : ", ") + more;
  }
  return text.empty() ? "nobody" : text;
}

Result<Configuration> normalized(Configuration configuration) {
  if (configuration.voters.empty())
    return fail(Errc::kInvalidArgument, "a configuration without a voter");
  for (auto* nodes : {&configuration.voters, &configuration.outgoing, &configuration.learners}) {
    std::ranges::sort(*nodes);
    if (std::ranges::adjacent_find(*nodes) != nodes->end())
      return fail(Errc::kInvalidArgument, "a configuration names a node twice: {}",
                  to_string(configuration));
    if (contains(*nodes, NodeId())) return fail(Errc::kInvalidArgument, "there is no node 0");
  }
  for (NodeId node : configuration.learners) {
    if (configuration.is_voter(node))
      return fail(Errc::kInvalidArgument, "node {} can't be a voter and a learner", node);
  }
  return configuration;
}

Configuration enter(const Configuration& from, const Configuration& target) {
  BALLAST_CHECK(!from.joint() && !target.joint());
  if (from.voters == target.voters) return target;
  return {target.voters, from.voters, without(target.learners, from.voters)};
}

bool may_follow(const Configuration& from, const Configuration& to) {
  if (!from.joint()) return to.joint() ? to.outgoing == from.voters : to.voters == from.voters;
  return !to.joint() && to.voters == from.voters;
}

VoteResult vote_result(const Configuration& configuration, const std::map<NodeId, bool>& votes) {
  const auto is = [&](bool granted) {
    return [&votes, granted](NodeId node) {
      const auto vote = votes.find(node);
      return vote == votes.end() ? !granted : vote->second;
    };
  };
  if (has_majority(configuration, is(true))) return VoteResult::kWon;
  return has_majority(configuration, is(false)) ? VoteResult::kPending : VoteResult::kLost;
}

ConfigurationHistory::ConfigurationHistory(ConfigurationAt first,
                                           std::vector<ConfigurationAt> later) {
  all_.push_back(std::move(first));
  for (ConfigurationAt& one : later) append(one.index, std::move(one.configuration));
}

const Configuration& ConfigurationHistory::in_force_at(Index index) const {
  const auto behind = std::ranges::upper_bound(all_, index, {}, &ConfigurationAt::index);
  BALLAST_CHECK(behind != all_.begin());
  return std::prev(behind)->configuration;
}

const Configuration& ConfigurationHistory::at(Index index) const {
  const auto found = std::ranges::find(all_, index, &ConfigurationAt::index);
  BALLAST_CHECK(found != all_.end(), "entry {} holds no configuration", index);
  return found->configuration;
}

void ConfigurationHistory::append(Index index, Configuration configuration) {
  BALLAST_CHECK(index > newest_index());
  all_.push_back({index, std::move(configuration)});
}

void ConfigurationHistory::truncate_behind(Index last) {
  while (newest_index() > last) all_.pop_back();
  BALLAST_CHECK(!all_.empty());
}

void ConfigurationHistory::compact(Index upto) {
  while (all_.size() > 1 && all_[1].index <= upto) all_.pop_front();
}

uint64_t majority_reached(const Configuration& configuration,
                          const std::function<uint64_t(NodeId)>& reached) {
  const uint64_t incoming = majority_of(configuration.voters, reached);
  return configuration.joint() ? std::min(incoming, majority_of(configuration.outgoing, reached))
                               : incoming;
}

bool has_majority(const Configuration& configuration, const std::function<bool(NodeId)>& holds) {
  return majority_of(configuration.voters, holds) &&
         (!configuration.joint() || majority_of(configuration.outgoing, holds));
}

}  // namespace ballast::raft
