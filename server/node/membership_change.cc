#include "server/node/membership_change.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "server/node/membership.h"

namespace ballast::server {
namespace {

std::string add_step(const FoundNode& node) {
  return fmt::format("add '{}' (node {}, {}) as a learner", node.name, node.id, node.address);
}
std::string promote_step(const std::string& name) {
  return fmt::format("let '{}' vote, once it has caught up", name);
}

pb::ConfigurationEntry with_learner(const pb::ConfigurationEntry& now, const FoundNode& node) {
  pb::ConfigurationEntry target = now;
  pb::ConfigurationMember& member = *target.add_members();
  member.set_id(node.id.value());
  member.set_name(node.name);
  member.set_address(node.address);
  member.set_disk(node.disk);
  std::ranges::sort(*target.mutable_members(), {}, &pb::ConfigurationMember::id);
  return target;
}

pb::ConfigurationEntry without(const pb::ConfigurationEntry& now, uint64_t id) {
  pb::ConfigurationEntry target;
  for (const pb::ConfigurationMember& member : now.members())
    if (member.id() != id) *target.add_members() = member;
  return target;
}

pb::ConfigurationEntry with_vote(const pb::ConfigurationEntry& now, uint64_t id) {
  pb::ConfigurationEntry target = now;
  for (pb::ConfigurationMember& member : *target.mutable_members())
    if (member.id() == id) member.set_voter(true);
  return target;
}

Status check_new(const pb::ConfigurationEntry& now, const FoundNode& node) {
  if (now.members_size() >= kMembersMax)
    return fail(Errc::kRefused, "the cluster has {} members, which is the limit", kMembersMax);
  if (!node.joined)
    return fail(Errc::kRefused,
                "'{}' at {} was formatted as a founder of a cluster: empty its data directory and "
                "start it without --bootstrap",
                node.name, node.address);
  for (const pb::ConfigurationMember& member : now.members()) {
    if (NodeId(member.id()) == node.id)
      return fail(
          Errc::kConflict,
          "node {} is '{}' with another disk: `kvctl member replace {}` if that one is gone, "
          "else give the new node another id",
          node.id, member.name(), member.name());
    if (member.name() == node.name || member.address() == node.address)
      return fail(Errc::kConflict,
                  "member {} is '{}' at {}: the new node needs another name and "
                  "address",
                  member.id(), member.name(), member.address());
  }
  return {};
}

Status check_name(const std::string& name, const FoundNode& node) {
  if (name.empty() || node.name == name) return {};
  return fail(Errc::kInvalidArgument, "the node at {} is '{}', not '{}'", node.address, node.name,
              name);
}

Result<ChangePlan> plan_add(const pb::ConfigurationEntry& now, const pb::ChangeMembers& change,
                            const std::optional<FoundNode>& found) {
  if (!found) return fail(Errc::kInvalidArgument, "an address is needed");
  BALLAST_TRY_STATUS(check_name(change.name(), *found));
  const pb::ConfigurationMember* member = find_member(now, found->id);
  if (member != nullptr && member->disk() == found->disk) return ChangePlan{};
  BALLAST_TRY_STATUS(check_new(now, *found));
  return ChangePlan{with_learner(now, *found), {add_step(*found)}};
}

Result<ChangePlan> plan_promote(const pb::ConfigurationEntry& now,
                                const pb::ConfigurationMember* member, const std::string& name) {
  if (member == nullptr) return fail(Errc::kNotFound, "'{}' is no member: add it first", name);
  if (member->voter()) return ChangePlan{};
  return ChangePlan{with_vote(now, member->id()), {promote_step(name)}};
}

Result<ChangePlan> plan_remove(const pb::ConfigurationEntry& now,
                               const pb::ConfigurationMember* member) {
  if (member == nullptr) return ChangePlan{};
  const auto voters = std::ranges::count_if(now.members(), &pb::ConfigurationMember::voter) -
                      (member->voter() ? 1 : 0);
  if (voters == 0)
    return fail(Errc::kRefused, "'{}' is the only voter: nothing would be left", member->name());
  return ChangePlan{
      without(now, member->id()),
      {fmt::format("remove '{}' (node {}{})", member->name(), member->id(),
                   member->voter() ? fmt::format("; {} voters are left", voters) : ", a learner")}};
}

// The old disk goes, the new one is added as a learner, and votes when it has caught up.
Result<ChangePlan> plan_replace(const pb::ConfigurationEntry& now, const pb::ChangeMembers& change,
                                const pb::ConfigurationMember* member,
                                const std::optional<FoundNode>& found) {
  const std::string& name = change.name();
  if (!found)
    return fail(Errc::kRefused,
                "no new disk of '{}' asks to be let in: start it with an empty data directory, or "
                "say where it is with --address",
                name);
  BALLAST_TRY_STATUS(check_name(name, *found));
  ChangePlan plan;
  if (member != nullptr && member->disk() == found->disk) {
    if (member->voter() || change.learner()) return plan;
    return plan_promote(now, member, name);
  }
  if (member != nullptr) {
    BALLAST_TRY(plan, plan_remove(now, member));
    BALLAST_TRY_STATUS(check_new(*plan.target, *found));
  } else {
    BALLAST_TRY_STATUS(check_new(now, *found));
    plan.target = with_learner(now, *found);
  }
  plan.steps.push_back(add_step(*found));
  if (!change.learner()) plan.steps.push_back(promote_step(name));
  return plan;
}

}  // namespace

const pb::ConfigurationMember* find_member(const pb::ConfigurationEntry& entry,
                                           const std::string& name) {
  const auto found = std::ranges::find(entry.members(), name, &pb::ConfigurationMember::name);
  return found == entry.members().end() ? nullptr : &*found;
}

Result<ChangePlan> plan_change(const pb::ConfigurationEntry& now, const pb::ChangeMembers& change,
                               const std::optional<FoundNode>& found) {
  const pb::ConfigurationMember* member = find_member(now, change.name());
  switch (change.action()) {
    case pb::ChangeMembers::ADD: return plan_add(now, change, found);
    case pb::ChangeMembers::PROMOTE: return plan_promote(now, member, change.name());
    case pb::ChangeMembers::REMOVE: return plan_remove(now, member);
    case pb::ChangeMembers::REPLACE: return plan_replace(now, change, member, found);
    default:
      return fail(Errc::kInvalidArgument, "a change of a kind that this version does not know");
  }
}

}  // namespace ballast::server
