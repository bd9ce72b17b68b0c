// Changes of the configuration at one core, with the test as its disk and its peers.

#include <gtest/gtest.h>

#include "tests/unit/raft/lone_core.h"

namespace ballast::raft::testing {
namespace {

std::vector<NodeId> ids(std::initializer_list<uint64_t> values) {
  std::vector<NodeId> nodes;
  for (uint64_t value : values) nodes.emplace_back(value);
  return nodes;
}

Result<Index> propose(LoneCore& node, const Configuration& next) {
  const Core::Proposal proposal{EntryKind::kConfiguration, 20, 0, 0, next};
  return node.core.propose({&proposal, 1});
}

// Node 1 leads term 1 of `nodes` voters, and its first entry is committed.
void lead(LoneCore& node, uint64_t nodes) {
  node.lead();
  for (uint64_t id = 2; id <= nodes; ++id) node.acknowledge(id, 1);
  ASSERT_TRUE(node.core.ready_to_serve());
}

TEST(Membership, a_learner_is_added_and_counts_for_nothing) {
  LoneCore node(3);
  lead(node, 3);
  ASSERT_EQ(propose(node, {ids({1, 2, 3}), {}, ids({4})}).value(), Index(2));
  node.flush();
  node.acknowledge(4, 2);
  EXPECT_EQ(node.core.commit(), Index(1));
  node.acknowledge(2, 2);
  EXPECT_EQ(node.core.commit(), Index(2));
  EXPECT_EQ(node.core.view().peers.size(), 3U);
}

TEST(Membership, a_configuration_waits_for_the_first_commit_of_the_term_and_for_the_one_before) {
  LoneCore node(3);
  node.lead();
  EXPECT_EQ(propose(node, {ids({1, 2, 3}), {}, ids({4})}).error().code, Errc::kUnavailable);
  node.acknowledge(2, 1);
  node.flush();
  ASSERT_TRUE(propose(node, {ids({1, 2, 3}), {}, ids({4})}));
  EXPECT_EQ(propose(node, {ids({1, 2, 3}), {}, {}}).error().code, Errc::kConflict);
}

TEST(Membership, a_learner_that_needs_a_snapshot_does_not_vote_yet) {
  LoneCore node(3);
  lead(node, 3);
  ASSERT_TRUE(propose(node, {ids({1, 2, 3}), {}, ids({4})}));
  ASSERT_TRUE(node.propose(10, 8));
  node.flush();
  node.acknowledge(2, 10);
  node.flush();
  node.core.compact(Index(8));
  node.hear(4, 1, HeartbeatReply{});
  const auto refused = propose(node, {ids({1, 2, 3, 4}), ids({1, 2, 3}), {}});
  EXPECT_EQ(refused.error().code, Errc::kRefused) << "what it lacks is no more in the log";
}

TEST(Membership, a_new_voter_must_be_a_learner_that_has_caught_up) {
  LoneCore node(3);
  lead(node, 3);
  const Configuration joint{ids({1, 2, 3, 4}), ids({1, 2, 3}), {}};
  EXPECT_EQ(propose(node, joint).error().code, Errc::kRefused) << "it is not even a learner";
  ASSERT_TRUE(propose(node, {ids({1, 2, 3}), {}, ids({4})}));
  ASSERT_TRUE(node.propose(10, 100));
  node.flush();
  node.acknowledge(2, 102);
  node.flush();
  EXPECT_EQ(propose(node, joint).error().code, Errc::kRefused) << "it was never heard";
  node.acknowledge(4, 3);
  node.flush();
  EXPECT_EQ(propose(node, joint).error().code, Errc::kRefused) << "it lacks 99 entries";
  node.acknowledge(4, 90);
  node.flush();
  EXPECT_TRUE(propose(node, joint));
}

TEST(Membership, a_joint_configuration_needs_a_majority_of_both_halves) {
  LoneCore node(3);
  lead(node, 3);
  ASSERT_TRUE(propose(node, {ids({1, 2, 3}), {}, ids({4, 5})}));
  node.flush();
  for (uint64_t id : {2, 3, 4, 5}) node.acknowledge(id, 2);
  node.flush();
  ASSERT_EQ(propose(node, {ids({1, 4, 5}), ids({1, 2, 3}), {}}).value(), Index(3));
  node.flush();
  node.acknowledge(4, 3);
  node.acknowledge(5, 3);
  EXPECT_EQ(node.core.commit(), Index(2)) << "all new voters, but of the old ones only the leader";
  node.acknowledge(2, 3);
  EXPECT_EQ(node.core.commit(), Index(3));
  ASSERT_EQ(propose(node, {ids({1, 4, 5}), {}, {}}).value(), Index(4));
  node.flush();
  EXPECT_EQ(node.core.view().peers.size(), 2U) << "the old voters are gone at once";
  node.acknowledge(4, 4);
  EXPECT_EQ(node.core.commit(), Index(4));
}

TEST(Membership, a_change_that_loses_the_quorum_is_refused) {
  LoneCore node(3);
  lead(node, 3);
  for (int i = 0; i < kElectionMin; ++i) {  // node 3 falls silent
    node.core.tick();
    node.hear(2, 1, HeartbeatReply{});
  }
  EXPECT_EQ(propose(node, {ids({1, 3}), ids({1, 2, 3}), {}}).error().code, Errc::kRefused);
  EXPECT_TRUE(propose(node, {ids({1, 2}), ids({1, 2, 3}), {}}));
}

TEST(Membership, a_removed_leader_hands_over_once_its_removal_is_committed) {
  LoneCore node(3);
  lead(node, 3);
  ASSERT_TRUE(propose(node, {ids({2, 3}), ids({1, 2, 3}), {}}));
  node.flush();
  node.acknowledge(2, 2);
  EXPECT_EQ(node.core.commit(), Index(1)) << "2 and 3 must both have it";
  node.acknowledge(3, 2);
  node.flush();
  ASSERT_TRUE(propose(node, {ids({2, 3}), {}, {}}));
  node.flush();
  node.acknowledge(3, 3);
  EXPECT_EQ(node.core.role(), Role::kLeader);
  EXPECT_NE(texts(node.acknowledge(2, 3)).find("TimeoutNow"), std::string::npos);
  EXPECT_EQ(node.core.role(), Role::kFollower);
  for (int i = 0; i < 5 * kElectionMax; ++i) node.core.tick();
  EXPECT_EQ(node.core.term(), Term(1)) << "it never campaigns again";
}

TEST(Membership, a_configuration_is_in_force_when_appended_and_goes_back_with_its_entry) {
  LoneCore node(3);
  Append append;
  append.entries.push_back({Term(1), Index(1), EntryKind::kConfiguration, 20, 0});
  append.configurations.push_back({Index(1), {ids({1, 2, 3}), {}, ids({4})}});
  node.hear(2, 1, append);
  EXPECT_EQ(node.core.view().configuration, (Configuration{ids({1, 2, 3}), {}, ids({4})}));
  node.hear(3, 2, append_of(0, 0, {2}));
  EXPECT_EQ(node.core.view().configuration, voters(3));
  EXPECT_EQ(node.core.view().configuration_index, Index(0));
}

// It may be a voter already: see voter_that_does_not_know_it_yet.txt of the scenarios.
TEST(Membership, a_node_without_a_configuration_votes_and_does_not_campaign) {
  LoneCore node(0);
  for (int i = 0; i < 5 * kElectionMax; ++i) node.core.tick();
  EXPECT_EQ(node.core.role(), Role::kFollower);
  EXPECT_EQ(texts(node.hear(2, 7, VoteRequest{.last_index = Index(9), .last_term = Term(6)})),
            "1->2 VoteReply term=7 granted\n");
}

TEST(Stall, a_leader_whose_disk_stalls_hands_over) {
  LoneCore node(3);
  lead(node, 3);
  node.core.set_resigned(true);
  EXPECT_NE(texts(node.flush()).find("TimeoutNow"), std::string::npos);
  EXPECT_EQ(node.propose(10).error().code, Errc::kUnavailable);
  for (int i = 0; i < kElectionMax; ++i) {
    EXPECT_EQ(node.core.role(), Role::kLeader);
    node.hear(2, 1, HeartbeatReply{});
    node.core.tick();
  }
  EXPECT_EQ(node.core.role(), Role::kFollower) << "nobody took over, it goes all the same";
}

TEST(Stall, a_node_whose_disk_stalls_does_not_campaign) {
  LoneCore node(3);
  node.core.set_resigned(true);
  for (int i = 0; i < 5 * kElectionMax; ++i) node.core.tick();
  EXPECT_EQ(texts(node.flush()), "");
  node.core.set_resigned(false);
  for (int i = 0; i < kElectionMax; ++i) node.core.tick();
  EXPECT_EQ(node.core.role(), Role::kPreCandidate);
}

TEST(Stall, nobody_hands_over_to_a_node_that_would_not_lead) {
  LoneCore node(3);
  lead(node, 3);
  node.hear(2, 1, HeartbeatReply{.resigned = true});
  EXPECT_TRUE(node.core.view().peers[0].resigned);
  EXPECT_EQ(node.core.transfer_leadership(NodeId(2)).error().code, Errc::kRefused);
  ASSERT_TRUE(node.core.transfer_leadership(NodeId()));
  EXPECT_EQ(node.core.view().transfer_to, NodeId(3));
}

TEST(FullDisk, is_told_to_the_leader_and_counted) {
  LoneCore node(3);
  lead(node, 3);
  EXPECT_TRUE(node.core.majority_has_space());
  node.hear(2, 1, HeartbeatReply{.full = true});
  EXPECT_TRUE(node.core.view().peers[0].full);
  EXPECT_TRUE(node.core.majority_has_space()) << "this node and node 3";
  EXPECT_EQ(node.core.successor_with_space(), NodeId(3));
  node.core.set_full(true);
  EXPECT_FALSE(node.core.majority_has_space());
  node.hear(2, 1, HeartbeatReply{});
  EXPECT_TRUE(node.core.majority_has_space()) << "nodes 2 and 3";
  node.hear(2, 1, HeartbeatReply{.full = true});
  node.hear(3, 1, HeartbeatReply{.full = true});
  EXPECT_EQ(node.core.successor_with_space(), NodeId());
  EXPECT_TRUE(node.propose(10)) << "what still fits is the node's to know";
}

TEST(FullDisk, a_follower_says_so_in_its_heartbeats) {
  LoneCore node(3);
  node.core.set_full(true);
  const auto sent = node.hear(2, 7, Heartbeat{});
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(std::get<HeartbeatReply>(sent[0].body), HeartbeatReply{.full = true});
}

TEST(FullDisk, who_has_space_is_handed_over_to_first) {
  LoneCore node(3);
  lead(node, 3);
  ASSERT_TRUE(node.propose(10));
  node.acknowledge(2, node.core.last().value());
  node.hear(2, 1, HeartbeatReply{.full = true});
  node.hear(3, 1, HeartbeatReply{});
  ASSERT_TRUE(node.core.transfer_leadership(NodeId()));
  EXPECT_EQ(node.core.view().transfer_to, NodeId(3)) << "though it has less of the log";
}

}  // namespace
}  // namespace ballast::raft::testing
