// The requests about members, and the disks that wait to become some.
//
// On the node's executor.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "proto/net/asio.h"
#include "proto/peer.pb.h"
#include "proto/service.pb.h"
#include "server/cluster.h"
#include "server/node/membership_change.h"
#include "server/node/node.h"

namespace ballast::server {

class MemberRequests {
 public:
  MemberRequests(Node& node, const ClusterConfig& cluster) : node_(node), cluster_(cluster) {}

  // The members of the newest configuration; before there is one, those of the configuration file.
  std::vector<pb::Member> members() const;
  // A node that is no member, or not with this disk, has greeted. Returns what to tell it.
  std::string refuse(const pb::Hello& hello, const Error& why);

  pb::ListMembersReply list() const;
  // Takes one step. Errors: those of plan_change() and Node::change_members(); kConflict if the
  // configuration is another one than the request expects. What will pass is no error, but stands
  // in the reply's `waiting`.
  asio::awaitable<Result<pb::ChangeMembersReply>> change(pb::ChangeMembers request,
                                                         Clock::time_point deadline);

 private:
  struct Waiting {
    FoundNode node;
    Clock::time_point seen;
  };
  asio::awaitable<Result<std::optional<FoundNode>>> find_node(const pb::ChangeMembers& request,
                                                              Clock::time_point deadline);
  std::string address_of(const pb::ChangeMembers& request) const;
  std::string not_ready() const;

  Node& node_;
  const ClusterConfig& cluster_;
  std::map<std::string, Waiting> waiting_;  // by disk
};

}  // namespace ballast::server
