// Who belongs to a group, and what a majority of it is (thesis chapter 4).
//
// A configuration takes effect when it is appended to a node's log, not when it is committed, and
// goes back if its entry is truncated. Voters change by joint consensus (section 4.3): from
// {voters: old} by way of {voters: new, outgoing: old}, in which every decision needs a majority of
// both, to {voters: new}.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "proto/base/result.h"
#include "proto/base/strong_int.h"

namespace ballast::raft {

struct Configuration {
  std::vector<NodeId> voters;    // sorted, like all lists here
  std::vector<NodeId> outgoing;  // voters of the configuration that is being left; empty: not joint
  std::vector<NodeId> learners;  // receive the log and count for nothing; no voters

  bool joint() const { return !outgoing.empty(); }
  bool is_voter(NodeId node) const;  // of either majority
  bool is_learner(NodeId node) const;
  bool contains(NodeId node) const { return is_voter(node) || is_learner(node); }
  std::vector<NodeId> all_voters() const;  // of either majority, sorted
  std::vector<NodeId> members() const;     // with the learners, sorted

  bool operator==(const Configuration&) const = default;
};

// A configuration and the log entry that holds it.
struct ConfigurationAt {
  Index index;
  Configuration configuration;
  bool operator==(const ConfigurationAt&) const = default;
};

// "voters 1 2 3, outgoing 1 2, learners 4"; what is empty is left out.
std::string to_string(const Configuration& configuration);

// Sorts the lists. Errors: kInvalidArgument (no voter, a node named twice, a learner that votes).
Result<Configuration> normalized(Configuration configuration);

// The entry that begins a change to `target`: joint if the voters differ. REQUIRES: neither is
// joint. A voter that becomes a learner is one only when the joint configuration is left.
Configuration enter(const Configuration& from, const Configuration& target);
// True if `to` may follow `from` in the log: another set of learners, a joint configuration whose
// outgoing voters are from's voters, or the leaving of a joint one.
bool may_follow(const Configuration& from, const Configuration& to);

// The largest value that a majority has reached; in a joint configuration a majority of each half.
uint64_t majority_reached(const Configuration& configuration,
                          const std::function<uint64_t(NodeId)>& reached);
// True if `holds` is true for a majority; in a joint configuration for a majority of each half.
bool has_majority(const Configuration& configuration, const std::function<bool(NodeId)>& holds);

enum class VoteResult : uint8_t { kPending, kWon, kLost };

// Of the votes that were given so far, true for granted; those of others than voters count nothing.
// Lost means that the votes still missing can't make a majority any more.
VoteResult vote_result(const Configuration& configuration, const std::map<NodeId, bool>& votes);

// The configurations of a log, oldest first.
class ConfigurationHistory {
 public:
  // `first` is in force where the log begins. REQUIRES: the indexes rise.
  ConfigurationHistory(ConfigurationAt first, std::vector<ConfigurationAt> later);

  const Configuration& newest() const { return all_.back().configuration; }
  Index newest_index() const { return all_.back().index; }
  // The last one up to this index. REQUIRES: index >= that of the first.
  const Configuration& in_force_at(Index index) const;
  // REQUIRES: the entry at the index holds one.
  const Configuration& at(Index index) const;
  // REQUIRES: index > newest_index().
  void append(Index index, Configuration configuration);
  // The log's entries behind `last` are gone.
  void truncate_behind(Index last);
  // The log's entries up to `upto` are gone; what is in force there stays.
  void compact(Index upto);

 private:
  std::deque<ConfigurationAt> all_;
};

}  // namespace ballast::raft
