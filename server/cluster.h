// The cluster that a node is configured for.
#pragma once

#include <string>
#include <vector>

#include "proto/base/strong_int.h"
#include "proto/base/uuid.h"
#include "proto/net/connection.h"

namespace ballast::server {

struct MemberConfig {
  NodeId id;
  std::string name;
  net::Endpoint address;
};

struct ClusterConfig {
  Uuid id;
  NodeId self;
  std::vector<MemberConfig> members;  // by id

  const MemberConfig* find(NodeId member) const {
    for (const MemberConfig& candidate : members) {
      if (candidate.id == member) return &candidate;
    }
    return nullptr;
  }
};

}  // namespace ballast::server
