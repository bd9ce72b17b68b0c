#include "server/node/membership.h"

#include <algorithm>
#include <utility>

#include "proto/base/check.h"
#include "proto/base/planted.h"
#include "storage/identity.h"

namespace ballast::server {

raft::Configuration configuration_of(const pb::ConfigurationEntry& entry) {
  raft::Configuration configuration;
  for (const pb::ConfigurationMember& member : entry.members()) {
    const NodeId id(member.id());
    if (member.voter()) configuration.voters.push_back(id);
    if (member.outgoing()) configuration.outgoing.push_back(id);
    if (!member.voter() && !member.outgoing()) configuration.learners.push_back(id);
  }
  for (auto* nodes : {&configuration.voters, &configuration.outgoing, &configuration.learners})
    std::ranges::sort(*nodes);
  return configuration;
}

Result<pb::ConfigurationEntry> parse_configuration(const Bytes& header) {
  pb::ConfigurationEntry entry;
  if (!entry.ParseFromArray(header.data(), static_cast<int>(header.size())))
    return fail(Errc::kCorrupt, "a configuration entry can't be parsed");
  if (const auto checked = raft::normalized(configuration_of(entry)); !checked)
    return fail(Errc::kCorrupt, "a configuration entry says {}", checked.error().message);
  return entry;
}

const pb::ConfigurationMember* find_member(const pb::ConfigurationEntry& entry, NodeId id) {
  const auto found = std::ranges::find(entry.members(), id.value(), &pb::ConfigurationMember::id);
  return found == entry.members().end() ? nullptr : &*found;
}

pb::ConfigurationEntry enter(const pb::ConfigurationEntry& from,
                             const pb::ConfigurationEntry& target) {
  if (configuration_of(from).voters == configuration_of(target).voters) return target;
  pb::ConfigurationEntry joint = target;
  for (const pb::ConfigurationMember& before : from.members()) {
    BALLAST_CHECK(!before.outgoing(), "a change out of a joint configuration");
    if (!before.voter()) continue;
    auto stays =
        std::ranges::find(*joint.mutable_members(), before.id(), &pb::ConfigurationMember::id);
    pb::ConfigurationMember& member =
        stays == joint.mutable_members()->end() ? *joint.add_members() : *stays;
    const bool votes = stays != joint.mutable_members()->end() && member.voter();
    member = before;
    member.set_voter(votes);
    member.set_outgoing(true);
  }
  std::ranges::sort(*joint.mutable_members(), {}, &pb::ConfigurationMember::id);
  return joint;
}

pb::ConfigurationEntry leave(const pb::ConfigurationEntry& joint) {
  pb::ConfigurationEntry left;
  for (const pb::ConfigurationMember& member : joint.members()) {
    if (member.outgoing() && !member.voter()) continue;
    *left.add_members() = member;
    left.mutable_members()->rbegin()->set_outgoing(false);
  }
  return left;
}

std::optional<pb::ConfigurationEntry> pinned(const pb::ConfigurationEntry& entry,
                                             const std::map<NodeId, ShownMember>& shown) {
  pb::ConfigurationEntry next = entry;
  bool changed = false;
  for (pb::ConfigurationMember& member : *next.mutable_members()) {
    const auto found = shown.find(NodeId(member.id()));
    if (found != shown.end() && member.disk().empty() && !found->second.joined) {
      member.set_disk(found->second.disk);
      changed = true;
    }
    if (member.disk().empty()) return std::nullopt;
    if (found == shown.end() || found->second.disk != member.disk() ||
        found->second.address.empty() || found->second.address == member.address())
      continue;
    member.set_address(found->second.address);
    changed = true;
  }
  return changed ? std::optional(std::move(next)) : std::nullopt;
}

Result<Trust> check_greeting(const Greeting& greeting, const pb::ConfigurationEntry& known,
                             Index known_index, const OwnDisk& own) {
  if (BALLAST_PLANTED(kDiskNotChecked)) return Trust::kEverything;
  const bool newer = greeting.configuration_index > known_index;
  const pb::ConfigurationMember* member = find_member(known, greeting.from);
  if (member == nullptr && !newer)
    return fail(Errc::kNotFound, "node {} is not a member of this cluster", greeting.from);
  const bool other_disk =
      member != nullptr &&
      (member->disk().empty() ? greeting.from_joined : member->disk() != greeting.from_disk);
  if (other_disk && !newer)
    return fail(
        Errc::kNotFound,
        "member {} '{}' comes with another disk than the one that its votes and "
        "acknowledgements were written to: run `kvctl member replace {}` if its data is gone",
        greeting.from, member->name(), member->name());
  // Each of the two would take what the other begins with for its own, and nothing shows later that
  // it was not.
  if (member != nullptr && member->disk().empty() && !own.joined &&
      storage::origin_of(greeting.from_disk) != storage::origin_of(own.uuid))
    return fail(Errc::kRefused,
                "founder {} '{}' and this node were not formatted from the same backup: empty the "
                "data directory of the one that is wrong and format it like the others",
                greeting.from, member->name());
  const bool knows_us = greeting.to_disk.empty() ? !own.joined : greeting.to_disk == own.uuid;
  if (knows_us) return Trust::kEverything;
  if (greeting.configuration_index < known_index) return Trust::kAnswers;
  return fail(Errc::kRefused,
              "this node's disk is not the one that the cluster knows: if its data was wiped, run "
              "`kvctl member replace` for it");
}

bool may_take(Trust trust, const raft::Message& message) {
  return trust == Trust::kEverything || std::holds_alternative<raft::VoteReply>(message.body) ||
         std::holds_alternative<raft::AppendReply>(message.body) ||
         std::holds_alternative<raft::HeartbeatReply>(message.body) ||
         std::holds_alternative<raft::ReadIndexRequest>(message.body) ||
         std::holds_alternative<raft::ReadIndexReply>(message.body);
}

Membership::Membership(pb::ConfigurationEntry first, Index index) {
  all_.push_back({index, std::move(first)});
}

raft::ConfigurationAt Membership::first() const {
  return {all_.front().index, configuration_of(all_.front().entry)};
}

std::vector<raft::ConfigurationAt> Membership::later() const {
  std::vector<raft::ConfigurationAt> configurations;
  for (size_t i = 1; i < all_.size(); ++i)
    configurations.push_back({all_[i].index, configuration_of(all_[i].entry)});
  return configurations;
}

void Membership::append(Index index, pb::ConfigurationEntry entry) {
  BALLAST_CHECK(index > newest_index());
  all_.push_back({index, std::move(entry)});
}

bool Membership::replace_from(Index first) {
  const size_t before = all_.size();
  while (all_.size() > 1 && newest_index() >= first) all_.pop_back();
  return all_.size() != before;
}

}  // namespace ballast::server
