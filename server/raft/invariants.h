// What must always be true of a core and of a group of them (thesis section 3.2, figure 3.2).
//
// For tests and simulations: they call these after every step. Each function returns the sentences
// that are not true; an empty result is a good one.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "server/raft/core.h"

namespace ballast::raft {

using Violations = std::vector<std::string>;

// What holds at any moment at one node.
Violations check_core(const Core& core);

// What holds between two moments in one life of a node.
Violations check_progress(const View& before, const View& after);

// What holds among the nodes of a group, now and over time: one leader per term, one vote per term,
// log matching, committed entries never change, a leader holds everything committed before it.
class GroupInvariants {
 public:
  // `changed` has just taken an input; `running` are all nodes that run, it among them.
  Violations observe(const Core& changed, std::span<const Core* const> running);
  // The node has crashed: what it does next may fall behind what it did before, but a vote that it
  // has cast stays cast. `durable` is what its disk holds.
  void forget(NodeId node, const HardState& durable);

  // How many entries are known to be committed.
  Index committed() const { return Index(committed_.size()); }
  // REQUIRES: 1 <= index <= committed().
  EntryMeta committed_at(Index index) const { return committed_[index.value() - 1].entry; }

 private:
  struct Committed {
    EntryMeta entry;
    Term in;  // the term in which the commit was seen first; later leaders must have the entry
  };

  void check_one_leader(const View& view, Violations& out);
  void check_committed(const Core& core, const View& view, std::span<const Core* const> running,
                       Violations& out);
  void check_complete(const Core& leader, size_t from, Violations& out) const;

  std::map<Term, NodeId> leaders_;
  std::map<NodeId, View> before_;
  std::vector<Committed> committed_;
  std::map<NodeId, Index> checked_;  // the commit up to which a node was compared
};

// Terms never fall along the log. Apart from check_core, since it walks the whole log.
Violations check_log_order(const Core& core);

// Equal term at equal index: then everything before is equal (thesis section 3.5).
Violations check_log_matching(const Core& a, const Core& b);

}  // namespace ballast::raft
