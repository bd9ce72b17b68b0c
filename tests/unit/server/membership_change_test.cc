#include "server/node/membership_change.h"

#include <gtest/gtest.h>

#include "server/node/membership.h"
#include "tests/unit/server/member_entries.h"

namespace ballast::server {
namespace {

FoundNode node(uint64_t id, const std::string& disk) {
  const std::string number = std::to_string(id);
  return {NodeId(id), "n" + number, "h" + number + ":1", disk, true};
}

pb::ChangeMembers change(pb::ChangeMembers::Action action, const std::string& name) {
  pb::ChangeMembers change;
  change.set_action(action);
  change.set_name(name);
  return change;
}

// What becomes of the members: "done", the configuration after the first step, or the error.
std::string outcome(const Result<ChangePlan>& plan) {
  if (!plan) return std::string(errc_name(plan.error().code)) + ": " + plan.error().message;
  if (!plan->target) return "done";
  return raft::to_string(configuration_of(*plan->target)) + ", in " +
         std::to_string(plan->steps.size());
}

struct Case {
  const char* what;
  std::string members;
  pb::ChangeMembers change;
  std::optional<FoundNode> found;
  std::string expected;  // the beginning of the outcome
};

void expect_outcomes(const std::vector<Case>& table) {
  for (const Case& one : table) {
    const std::string was = outcome(plan_change(entry_of(one.members), one.change, one.found));
    EXPECT_TRUE(was.starts_with(one.expected)) << one.what << ": " << was;
  }
}

TEST(MembershipChange, a_new_node_comes_as_a_learner) {
  using pb::ChangeMembers;
  FoundNode founder = node(4, "disk 4");
  founder.joined = false;
  FoundNode same_name = node(5, "disk 5");
  same_name.name = "n2";
  expect_outcomes({
      {"a new one", "1v 2v", change(ChangeMembers::ADD, "n4"), node(4, "disk 4"),
       "voters 1 2, learners 4, in 1"},
      {"again", "1v 2v 4l", change(ChangeMembers::ADD, "n4"), node(4, "disk 4"), "done"},
      {"it votes already", "1v 2v 4v", change(ChangeMembers::ADD, "n4"), node(4, "disk 4"), "done"},
      {"another node is there", "1v 2v", change(ChangeMembers::ADD, "n5"), node(4, "disk 4"),
       "invalid_argument"},
      {"its id is taken", "1v 2v", change(ChangeMembers::ADD, "n2"), node(2, "new"),
       "conflict: node 2 is 'n2' with another disk: `kvctl member replace n2`"},
      {"its name is taken", "1v 2v", change(ChangeMembers::ADD, "n2"), same_name, "conflict"},
      {"a founder of another start", "1v 2v", change(ChangeMembers::ADD, "n4"), founder, "refused"},
      {"without an address", "1v", change(ChangeMembers::ADD, "n4"), std::nullopt,
       "invalid_argument"},
  });
}

TEST(MembershipChange, a_learner_is_let_vote_and_a_member_is_taken_out) {
  using pb::ChangeMembers;
  expect_outcomes({
      {"a learner", "1v 2l", change(ChangeMembers::PROMOTE, "n2"), {}, "voters 1 2, in 1"},
      {"a voter", "1v 2v", change(ChangeMembers::PROMOTE, "n2"), {}, "done"},
      {"nobody", "1v", change(ChangeMembers::PROMOTE, "n2"), {}, "not_found"},
      {"a voter goes", "1v 2v 3v", change(ChangeMembers::REMOVE, "n2"), {}, "voters 1 3, in 1"},
      {"a learner goes", "1v 2l", change(ChangeMembers::REMOVE, "n2"), {}, "voters 1, in 1"},
      {"nobody goes", "1v", change(ChangeMembers::REMOVE, "n2"), {}, "done"},
      {"the last voter", "1v 2l", change(ChangeMembers::REMOVE, "n1"), {}, "refused"},
  });
}

TEST(MembershipChange, a_lost_disk_is_replaced_step_by_step_from_wherever_it_stands) {
  using pb::ChangeMembers;
  const auto replace = change(ChangeMembers::REPLACE, "n2");
  auto as_learner = replace;
  as_learner.set_learner(true);
  expect_outcomes({
      {"the old disk goes first", "1v 2v 3v", replace, node(2, "new"), "voters 1 3, in 3"},
      {"then the new one comes", "1v 3v", replace, node(2, "new"), "voters 1 3, learners 2, in 2"},
      {"then it votes", "1v 3v 2l", replace, node(2, "disk 2"), "voters 1 2 3, in 1"},
      {"then all is done", "1v 2v 3v", replace, node(2, "disk 2"), "done"},
      {"a learner stays one", "1v 2l 3v", as_learner, node(2, "disk 2"), "done"},
      {"a learner's disk", "1v 2l", as_learner, node(2, "new"), "voters 1, in 2"},
      {"nobody stands in", "1v 2v 3v", replace, std::nullopt, "refused"},
      {"the only voter", "2v", replace, node(2, "new"), "refused"},
      {"another node is there", "1v 2v 3v", replace, node(7, "new"), "invalid_argument"},
  });
}

}  // namespace
}  // namespace ballast::server
