// Who belongs to the group, with names, addresses and disks: what the log's configuration entries
// say, beside the numbers that the core knows.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "proto/base/bytes.h"
#include "proto/base/result.h"
#include "proto/membership.pb.h"
#include "server/raft/configuration.h"

namespace ballast::server {

// What the core knows of it. Sorted.
raft::Configuration configuration_of(const pb::ConfigurationEntry& entry);

// The header of a configuration entry. Error kCorrupt (no voter, an id twice or 0, not the
// message).
Result<pb::ConfigurationEntry> parse_configuration(const Bytes& header);

// The member with this id; null if there is none.
const pb::ConfigurationMember* find_member(const pb::ConfigurationEntry& entry, NodeId id);

// The entry that begins the change from `from` to `target`: joint if the voters differ, so that
// those who go are named as outgoing. Then leave() follows. REQUIRES: neither is joint.
pb::ConfigurationEntry enter(const pb::ConfigurationEntry& from,
                             const pb::ConfigurationEntry& target);
// What follows a joint configuration: its voters and learners, without those who go.
pb::ConfigurationEntry leave(const pb::ConfigurationEntry& joint);

// Whether a node may speak to another one. A member is a node with a disk: one that comes with
// another disk than the one that its promises were written to is a stranger with a known name.
// `from_disk` is the sender's own, `to_disk` the one that the sender's configuration gives for the
// receiver (empty: it doesn't know yet). `known` is the receiver's newest configuration, which may
// be old, and does not name the sender then. Error kRefused with what to do.
Status check_peer(const pb::ConfigurationEntry& known, NodeId from, const std::string& from_disk,
                  const std::string& to_disk, const std::string& own_disk);

// The configuration entries of the log, by index, as the log is now.
class Membership {
 public:
  // `founding` is in force before the first entry of the log.
  explicit Membership(pb::ConfigurationEntry founding);

  const pb::ConfigurationEntry& newest() const { return all_.back().entry; }
  Index newest_index() const { return all_.back().index; }
  // Those of the entries, as the core knows them.
  std::vector<raft::ConfigurationAt> configurations() const;
  // REQUIRES: index > newest_index().
  void append(Index index, pb::ConfigurationEntry entry);
  // The log's entries from `first` on are replaced.
  void replace_from(Index first);

 private:
  struct Held {
    Index index;
    pb::ConfigurationEntry entry;
  };
  std::deque<Held> all_;
};

}  // namespace ballast::server
