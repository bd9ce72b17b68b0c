// What a change of the members that an operator asks for means now: pure.
//
// A change is asked for again and again until nothing is left of it, and each time the plan is made
// from the members as they are: whoever asks may die in between, and somebody else go on.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "proto/base/result.h"
#include "proto/base/strong_int.h"
#include "proto/membership.pb.h"
#include "proto/service.pb.h"

namespace ballast::server {

// A node as it presents itself, at the address where it was asked.
struct FoundNode {
  NodeId id;
  std::string name;
  std::string address;
  std::string disk;
  bool joined = false;  // its disk was not formatted as a founder's
};

struct ChangePlan {
  std::optional<pb::ConfigurationEntry> target;  // of the first step; nothing: all is done
  std::vector<std::string> steps;                // in order, for people
};

// `found`: for ADD the node to add; for REPLACE the one that stands in for the member, if it
// answers. Errors, with what to do: kRefused, kNotFound (no such member), kConflict (id, name or
// address are taken), kInvalidArgument.
Result<ChangePlan> plan_change(const pb::ConfigurationEntry& now, const pb::ChangeMembers& change,
                               const std::optional<FoundNode>& found);

// The member with this name; null if there is none.
const pb::ConfigurationMember* find_member(const pb::ConfigurationEntry& entry,
                                           const std::string& name);

}  // namespace ballast::server
