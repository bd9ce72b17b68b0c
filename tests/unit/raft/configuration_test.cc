#include "server/raft/configuration.h"

#include <gtest/gtest.h>

#include "server/raft/prng.h"

namespace ballast::raft {
namespace {

std::vector<NodeId> ids(std::initializer_list<uint64_t> values) {
  std::vector<NodeId> nodes;
  for (uint64_t value : values) nodes.emplace_back(value);
  return nodes;
}

TEST(Configuration, a_vote_is_won_lost_or_pending) {
  const Configuration three{ids({1, 2, 3}), {}, ids({4})};
  const Configuration joint{ids({1, 4, 5}), ids({1, 2, 3}), {}};
  using Votes = std::map<NodeId, bool>;
  const NodeId a(1), b(2), c(3), d(4), e(5);
  EXPECT_EQ(vote_result({ids({1}), {}, {}}, Votes{{a, true}}), VoteResult::kWon);
  EXPECT_EQ(vote_result(three, Votes{}), VoteResult::kPending);
  EXPECT_EQ(vote_result(three, Votes{{a, true}, {b, false}}), VoteResult::kPending);
  EXPECT_EQ(vote_result(three, Votes{{a, true}, {c, true}}), VoteResult::kWon);
  EXPECT_EQ(vote_result(three, Votes{{b, false}, {c, false}}), VoteResult::kLost);
  EXPECT_EQ(vote_result(three, Votes{{a, true}, {d, true}}), VoteResult::kPending)
      << "a learner's vote counts nothing";
  EXPECT_EQ(vote_result(joint, Votes{{a, true}, {d, true}}), VoteResult::kPending)
      << "a majority of one half is none";
  EXPECT_EQ(vote_result(joint, Votes{{a, true}, {d, true}, {b, true}}), VoteResult::kWon);
  EXPECT_EQ(vote_result(joint, Votes{{a, true}, {d, true}, {b, false}, {c, false}}),
            VoteResult::kLost);
  EXPECT_EQ(vote_result(joint, Votes{{d, false}, {e, false}}), VoteResult::kLost);
}

TEST(Configuration, a_joint_majority_is_the_smaller_of_both) {
  const Configuration joint{ids({1, 4, 5}), ids({1, 2, 3}), {}};
  Prng chance(3);
  for (int round = 0; round < 500; ++round) {
    std::map<NodeId, uint64_t> reached;
    for (uint64_t id = 1; id <= 5; ++id) reached[NodeId(id)] = chance.below(5);
    const auto of = [&](NodeId node) { return reached.at(node); };
    const uint64_t both = majority_reached(joint, of);
    EXPECT_EQ(both, std::min(majority_reached({joint.voters, {}, {}}, of),
                             majority_reached({joint.outgoing, {}, {}}, of)));
    EXPECT_TRUE(has_majority(joint, [&](NodeId node) { return of(node) >= both; }));
    EXPECT_FALSE(has_majority(joint, [&](NodeId node) { return of(node) > both; }));
  }
}

TEST(Configuration, what_may_follow_what) {
  const Configuration old{ids({1, 2, 3}), {}, ids({4})};
  const Configuration fresh{ids({1, 2, 4}), {}, {}};
  const Configuration joint = enter(old, fresh);
  EXPECT_EQ(joint, (Configuration{ids({1, 2, 4}), ids({1, 2, 3}), {}}));
  EXPECT_TRUE(may_follow(old, joint));
  EXPECT_TRUE(may_follow(joint, fresh));
  EXPECT_TRUE(may_follow(old, {ids({1, 2, 3}), {}, {}})) << "learners come and go at once";
  EXPECT_FALSE(may_follow(old, fresh)) << "voters change by way of a joint configuration";
  EXPECT_FALSE(may_follow(joint, joint));
  EXPECT_FALSE(may_follow(joint, old)) << "it can't be taken back, only left";
  EXPECT_FALSE(may_follow(old, {ids({1, 2, 4}), ids({1, 2}), {}}));
}

TEST(Configuration, a_voter_becomes_a_learner_when_the_joint_one_is_left) {
  const Configuration joint = enter({ids({1, 2, 3}), {}, {}}, {ids({1, 2}), {}, ids({3, 4})});
  EXPECT_EQ(joint, (Configuration{ids({1, 2}), ids({1, 2, 3}), ids({4})}));
  EXPECT_TRUE(may_follow(joint, {ids({1, 2}), {}, ids({3, 4})}));
}

TEST(Configuration, nonsense_is_refused) {
  EXPECT_FALSE(normalized({{}, {}, ids({1})}));
  EXPECT_FALSE(normalized({ids({1, 1}), {}, {}}));
  EXPECT_FALSE(normalized({ids({0, 1}), {}, {}}));
  EXPECT_FALSE(normalized({ids({1, 2}), {}, ids({2})}));
  EXPECT_FALSE(normalized({ids({1, 2}), ids({3}), ids({3})}));
  EXPECT_EQ(normalized({ids({2, 1}), {}, {}}).value(), (Configuration{ids({1, 2}), {}, {}}));
}

TEST(Configuration, history_goes_back_with_the_log) {
  ConfigurationHistory history({Index(0), {ids({1}), {}, {}}},
                               {{Index(4), {ids({1}), {}, ids({2})}}});
  history.append(Index(7), {ids({1, 2}), ids({1}), {}});
  EXPECT_TRUE(history.newest().joint());
  history.truncate_behind(Index(7));
  EXPECT_EQ(history.newest_index(), Index(7));
  history.truncate_behind(Index(6));
  EXPECT_EQ(history.newest(), (Configuration{ids({1}), {}, ids({2})}));
  history.truncate_behind(Index(0));
  EXPECT_EQ(history.newest(), (Configuration{ids({1}), {}, {}}));
}

}  // namespace
}  // namespace ballast::raft
