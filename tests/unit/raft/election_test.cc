// Votes, terms and timers: one test per rule.

#include <gtest/gtest.h>

#include "tests/unit/raft/lone_core.h"

namespace ballast::raft::testing {
namespace {

VoteRequest vote_for(uint64_t last_index, uint64_t last_term, bool transfer = false) {
  return {.pre_vote = false,
          .transfer = transfer,
          .last_index = Index(last_index),
          .last_term = Term(last_term)};
}
VoteRequest pre_vote_for(uint64_t last_index, uint64_t last_term) {
  return {.pre_vote = true,
          .transfer = false,
          .last_index = Index(last_index),
          .last_term = Term(last_term)};
}

TEST(Election, timeout_lies_between_min_and_max) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Options options;
    options.id = NodeId(1);
    options.seed = seed;
    Core core(options, {.configuration = voters(3)});
    int ticks = 0;
    for (; core.role() == Role::kFollower; ++ticks) core.tick();
    EXPECT_GE(ticks, limits::kElectionTicksMin);
    EXPECT_LT(ticks, limits::kElectionTicksMax);
  }
}

TEST(Election, pre_vote_changes_neither_term_nor_vote) {
  LoneCore node(3);
  node.core.campaign();
  EXPECT_EQ(texts(node.flush()), "1->2 PreVote term=1 last=0/0\n1->3 PreVote term=1 last=0/0\n");
  EXPECT_EQ(node.core.term(), Term(0));
  EXPECT_EQ(node.core.view().vote, NodeId(0));
}

TEST(Election, requests_wait_until_the_own_vote_is_durable) {
  LoneCore node(3);
  node.core.campaign();
  node.flush();
  node.core.step({NodeId(2), NodeId(1), Term(1), VoteReply{.pre_vote = true, .granted = true}});
  const Ready ready = node.take();
  EXPECT_EQ(ready.hard_state, (HardState{Term(1), NodeId(1)}));
  EXPECT_TRUE(ready.entries.empty());
  EXPECT_NE(ready.ticket, 0u);
  EXPECT_TRUE(ready.messages.empty());
  node.core.storage_done(ready.ticket);
  EXPECT_EQ(texts(node.take().messages), "1->2 Vote term=1 last=0/0\n1->3 Vote term=1 last=0/0\n");
}

TEST(Election, a_vote_is_said_when_it_is_durable) {
  LoneCore node(3);
  node.core.step({NodeId(2), NodeId(1), Term(4), vote_for(0, 0)});
  const Ready ready = node.take();
  EXPECT_EQ(ready.hard_state, (HardState{Term(4), NodeId(2)}));
  EXPECT_TRUE(ready.messages.empty());
  node.core.storage_done(ready.ticket);
  EXPECT_EQ(texts(node.take().messages), "1->2 VoteReply term=4 granted\n");
}

TEST(Election, a_vote_is_not_said_if_the_term_has_moved_on) {
  LoneCore node(3);
  node.core.step({NodeId(2), NodeId(1), Term(4), vote_for(0, 0)});
  const Ready first = node.take();
  node.core.step({NodeId(3), NodeId(1), Term(5), vote_for(0, 0)});
  const Ready second = node.take();
  node.core.storage_done(first.ticket);
  EXPECT_TRUE(node.take().messages.empty());
  node.core.storage_done(second.ticket);
  EXPECT_EQ(texts(node.take().messages), "1->3 VoteReply term=5 granted\n");
}

TEST(Election, one_vote_per_term) {
  LoneCore node(3);
  EXPECT_EQ(texts(node.hear(2, 1, vote_for(0, 0))), "1->2 VoteReply term=1 granted\n");
  EXPECT_EQ(texts(node.hear(3, 1, vote_for(0, 0))), "1->3 VoteReply term=1 refused\n");
  EXPECT_EQ(texts(node.hear(2, 1, vote_for(0, 0))), "1->2 VoteReply term=1 granted\n");
}

TEST(Election, the_vote_survives_a_restart) {
  LoneCore node(3, {}, 5, 3);
  EXPECT_EQ(texts(node.hear(2, 5, vote_for(0, 0))), "1->2 VoteReply term=5 refused\n");
  EXPECT_EQ(texts(node.hear(3, 5, vote_for(0, 0))), "1->3 VoteReply term=5 granted\n");
}

TEST(Election, votes_only_for_logs_that_are_up_to_date) {
  struct Case {
    uint64_t last_index, last_term;
    bool granted;
  };
  // own log: index 3, term 2
  for (const Case& one :
       {Case{3, 2, true}, {4, 2, true}, {1, 3, true}, {2, 2, false}, {9, 1, false}}) {
    LoneCore node(3, {1, 2, 2});
    const auto sent = node.hear(2, 7, vote_for(one.last_index, one.last_term));
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_EQ(std::get<VoteReply>(sent[0].body).granted, one.granted) << one.last_index;
  }
}

TEST(Election, who_hears_from_a_leader_refuses_votes_and_keeps_its_term) {
  LoneCore node(3);
  node.hear(2, 1, Heartbeat{});
  node.tick(kElectionMin - 1);
  EXPECT_EQ(texts(node.hear(3, 2, pre_vote_for(9, 9))), "1->3 PreVoteReply term=1 refused\n");
  EXPECT_EQ(texts(node.hear(3, 9, vote_for(9, 9))), "");
  EXPECT_EQ(node.core.term(), Term(1));
  EXPECT_EQ(node.core.leader(), NodeId(2));
}

TEST(Election, silence_of_the_leader_ends_the_refusal) {
  LoneCore node(3);
  node.hear(2, 1, Heartbeat{});
  // The own timeout may come first, which is as good.
  node.tick(kElectionMin);
  EXPECT_EQ(texts(node.hear(3, 2, pre_vote_for(9, 9))), "1->3 PreVoteReply term=2 granted\n");
}

TEST(Election, a_transfer_is_not_refused) {
  LoneCore node(3);
  node.hear(2, 1, Heartbeat{});
  EXPECT_EQ(texts(node.hear(3, 2, vote_for(9, 9, true))), "1->3 VoteReply term=2 granted\n");
}

TEST(Election, a_leader_refuses_votes_but_for_a_transfer) {
  LoneCore node(3);
  node.lead_and_commit();
  EXPECT_EQ(texts(node.hear(3, 9, vote_for(9, 9))), "");
  EXPECT_EQ(node.core.role(), Role::kLeader);
  node.hear(3, 9, vote_for(9, 9, true));
  EXPECT_EQ(node.core.role(), Role::kFollower);
  EXPECT_EQ(node.core.view().vote, NodeId(3));
}

TEST(Election, a_granted_pre_vote_restarts_no_timer) {
  LoneCore node(3, {1, 1});
  int ticks = 0;
  while (node.core.role() == Role::kFollower && ticks < 100) {
    node.hear(2, 2, pre_vote_for(2, 1));
    node.tick(1);
    ++ticks;
  }
  EXPECT_LT(ticks, kElectionMax);
}

TEST(Election, a_refused_pre_vote_with_a_higher_term_is_learned_from) {
  LoneCore node(3, {1}, 3);
  node.core.campaign();
  node.flush();
  node.hear(2, 8, VoteReply{.pre_vote = true, .granted = false});
  EXPECT_EQ(node.core.role(), Role::kFollower);
  EXPECT_EQ(node.core.term(), Term(8));
}

TEST(Election, a_pre_vote_of_an_older_term_is_told_the_newer_one) {
  LoneCore node(3, {1}, 8);
  EXPECT_EQ(texts(node.hear(2, 4, pre_vote_for(9, 3))), "1->2 PreVoteReply term=8 refused\n");
  EXPECT_EQ(texts(node.hear(2, 4, vote_for(9, 3))), "");
}

TEST(Election, a_leader_of_an_older_term_is_told_the_newer_one) {
  LoneCore node(3, {1}, 8);
  EXPECT_EQ(texts(node.hear(2, 4, Heartbeat{Index(0), 5})), "1->2 HeartbeatReply term=8 round=5\n");
  EXPECT_EQ(texts(node.hear(2, 4, append_of(1, 1, {4}))),
            "1->2 AppendReply term=8 rejected=1 hint=0/0\n");
  EXPECT_EQ(node.core.last(), Index(1));
}

TEST(Election, other_messages_of_an_older_term_are_ignored) {
  LoneCore node(3, {1}, 8);
  EXPECT_EQ(texts(node.hear(2, 4, TimeoutNow{})), "");
  EXPECT_EQ(texts(node.hear(2, 4, ReadIndexRequest{1})), "");
  EXPECT_EQ(node.core.role(), Role::kFollower);
}

TEST(Election, a_majority_of_refusals_ends_a_candidacy) {
  LoneCore node(3);
  node.core.campaign();
  node.flush();
  node.hear(2, 1, VoteReply{.pre_vote = true, .granted = true});
  ASSERT_EQ(node.core.role(), Role::kCandidate);
  node.hear(2, 1, VoteReply{});
  EXPECT_EQ(node.core.role(), Role::kCandidate);
  node.hear(2, 1, VoteReply{});  // the same one again
  EXPECT_EQ(node.core.role(), Role::kCandidate);
  node.hear(3, 1, VoteReply{});
  EXPECT_EQ(node.core.role(), Role::kFollower);
  EXPECT_EQ(node.core.view().vote, NodeId(1)) << "a step-down within the term clears no vote";
}

TEST(Election, a_candidate_follows_the_leader_of_its_term_and_keeps_its_vote) {
  LoneCore node(3);
  node.core.campaign();
  node.flush();
  node.hear(2, 1, VoteReply{.pre_vote = true, .granted = true});
  node.hear(3, 1, Heartbeat{});
  EXPECT_EQ(node.core.role(), Role::kFollower);
  EXPECT_EQ(node.core.leader(), NodeId(3));
  EXPECT_EQ(texts(node.hear(2, 1, vote_for(9, 9))), "1->2 VoteReply term=1 refused\n");
}

TEST(Election, pre_votes_for_an_older_election_do_not_count) {
  LoneCore node(3, {}, 4);
  node.core.campaign();
  node.flush();
  node.hear(2, 4, VoteReply{.pre_vote = true, .granted = true});
  EXPECT_EQ(node.core.role(), Role::kPreCandidate);
  node.hear(2, 5, VoteReply{.pre_vote = true, .granted = true});
  EXPECT_EQ(node.core.role(), Role::kCandidate);
}

TEST(Election, check_quorum_steps_down_and_keeps_term_and_vote) {
  LoneCore node(3);
  node.lead_and_commit();
  node.tick(kElectionMin - 1);
  EXPECT_EQ(node.core.role(), Role::kLeader);
  node.tick(1);
  EXPECT_EQ(node.core.role(), Role::kFollower);
  EXPECT_EQ(node.core.term(), Term(1));
  EXPECT_EQ(node.core.view().vote, NodeId(1));
}

TEST(Election, one_of_two_followers_is_quorum_enough) {
  LoneCore node(3);
  node.lead_and_commit();
  for (int i = 0; i < 10; ++i) {
    node.tick(kElectionMin - 1);
    node.hear(2, 1, HeartbeatReply{});
  }
  EXPECT_EQ(node.core.role(), Role::kLeader);
  EXPECT_TRUE(node.core.view().peers[0].active);
  EXPECT_FALSE(node.core.view().peers[1].active);
}

TEST(Election, a_lost_leader_connection_starts_a_pre_vote_soon) {
  for (int round = 0; round < 20; ++round) {
    LoneCore node(3);
    node.hear(2, 1, Heartbeat{});
    node.tick(round % 7);
    node.core.peer_lost(NodeId(3));
    EXPECT_EQ(node.core.leader(), NodeId(2)) << "it was not the leader's connection";
    node.core.peer_lost(NodeId(2));
    EXPECT_EQ(node.core.leader(), NodeId(0));
    EXPECT_EQ(texts(node.hear(3, 2, pre_vote_for(9, 9))), "1->3 PreVoteReply term=2 granted\n");
    int ticks = 0;
    while (node.core.role() == Role::kFollower && ticks < 100) {
      node.tick(1);
      ++ticks;
    }
    EXPECT_GE(ticks, 1);
    EXPECT_LE(ticks, 5);
    EXPECT_EQ(node.core.role(), Role::kPreCandidate);
    EXPECT_EQ(node.core.term(), Term(1));
  }
}

TEST(Election, a_node_without_a_vote_never_campaigns) {
  Options options;
  options.id = NodeId(9);
  Core core(options, {.configuration = voters(2)});
  for (int i = 0; i < 1000; ++i) core.tick();
  core.campaign();
  core.step({NodeId(1), NodeId(9), Term(0), TimeoutNow{}});
  EXPECT_EQ(core.role(), Role::kFollower);
  EXPECT_TRUE(core.ready().messages.empty());
}

TEST(Election, a_leader_that_the_own_configuration_does_not_name_is_followed) {
  LoneCore node(3);  // its configuration may be an old one
  EXPECT_EQ(texts(node.hear(8, 99, Heartbeat{})), "1->8 HeartbeatReply term=99 round=0\n");
  EXPECT_EQ(node.core.leader(), NodeId(8));
}

TEST(ElectionDeath, two_leaders_in_a_term_stop_the_process) {
  LoneCore node(3);
  node.hear(2, 1, Heartbeat{});
  EXPECT_DEATH(node.hear(3, 1, Heartbeat{}), "has the leaders 2 and 3");
  LoneCore leader(3);
  leader.lead();
  EXPECT_DEATH(leader.hear(3, 1, Heartbeat{}), "has the leaders 1 and 3");
}

TEST(ElectionDeath, a_forgotten_leader_is_still_the_only_one_of_its_term) {
  LoneCore node(3);
  node.hear(2, 1, Heartbeat{});
  node.core.peer_lost(NodeId(2));
  EXPECT_DEATH(node.hear(3, 1, Heartbeat{}), "has the leaders 2 and 3");
}

}  // namespace
}  // namespace ballast::raft::testing
