// Who belongs to the group, with names, addresses and disks: what the log's configuration entries
// say, beside the numbers that the core knows.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "proto/base/bytes.h"
#include "proto/base/result.h"
#include "proto/membership.pb.h"
#include "server/raft/configuration.h"
#include "server/raft/message.h"

namespace ballast::server {

inline constexpr int kMembersMax = 64;  // an entry names them all, in one header

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

// What a member has said of itself.
struct ShownMember {
  std::string disk;
  std::string address;  // empty: not said
  bool joined = false;  // the disk was not formatted as a founder's
};
// The entry that says of the founders which disks they have, and of everybody where they are now;
// nothing if it says so already, or if a founder has not shown its disk yet. A disk that joined is
// never taken for a founder's: that one's promises are gone.
std::optional<pb::ConfigurationEntry> pinned(const pb::ConfigurationEntry& entry,
                                             const std::map<NodeId, ShownMember>& shown);

struct OwnDisk {
  std::string uuid;     // 16 bytes
  bool joined = false;  // not formatted as a founder's
};

// How a node presents itself to another one.
struct Greeting {
  NodeId from;
  std::string from_disk;
  std::string to_disk;  // what the sender's configuration gives for the receiver; empty: nothing
  Index configuration_index;  // of the sender's configuration
  bool from_joined = false;   // as OwnDisk::joined
};

// What the receiver may take from it.
enum class Trust : uint8_t { kEverything, kAnswers };

// A member is a node with a disk: one that comes with another disk than the one that its promises
// were written to is a stranger with a known name, unless it has a newer configuration than the
// receiver (its disk was replaced, and the receiver lags). Whoever takes the receiver for another
// disk would count its votes and acknowledgements for that one: it may answer, if its configuration
// is the older one, but ask for nothing. Errors, with what to do: kNotFound (the sender is no
// member, or not with this disk), kRefused (this node is not the one that the sender knows; or both
// are founders whose disks are not known yet, and began with different backups).
Result<Trust> check_greeting(const Greeting& greeting, const pb::ConfigurationEntry& known,
                             Index known_index, const OwnDisk& own);
// Votes and acknowledgements are counted by whoever asked for them.
bool may_take(Trust trust, const raft::Message& message);

// The configuration entries of the log, by index, as the log is now.
class Membership {
 public:
  // `first` is in force where the log begins. Of the entry at `index`; 0: of none, the founders.
  explicit Membership(pb::ConfigurationEntry first, Index index = {});

  const pb::ConfigurationEntry& newest() const { return all_.back().entry; }
  Index newest_index() const { return all_.back().index; }
  raft::ConfigurationAt first() const;
  // Those behind the first, as the core knows them.
  std::vector<raft::ConfigurationAt> later() const;
  // REQUIRES: index > newest_index().
  void append(Index index, pb::ConfigurationEntry entry);
  // The log's entries from `first` on are replaced. True if that takes one of these away.
  bool replace_from(Index first);

 private:
  struct Held {
    Index index;
    pb::ConfigurationEntry entry;
  };
  std::deque<Held> all_;
};

}  // namespace ballast::server
