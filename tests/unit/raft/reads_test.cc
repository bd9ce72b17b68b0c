// ReadIndex and leadership transfer.

#include <gtest/gtest.h>

#include "tests/unit/raft/lone_core.h"

namespace ballast::raft::testing {
namespace {

TEST(Reads, no_leader_no_read) {
  LoneCore node(3);
  EXPECT_EQ(node.core.read_index().error().code, Errc::kUnavailable);
}

TEST(Reads, a_leader_is_confirmed_by_a_quorum_that_answers_the_round) {
  LoneCore node(3);
  node.lead_and_commit();
  const uint64_t id = node.core.read_index().value();
  EXPECT_EQ(texts(node.flush()),
            "1->2 Heartbeat term=1 commit=1 round=1\n1->3 Heartbeat term=1 commit=0 round=1\n");
  EXPECT_TRUE(node.reads.empty());
  node.hear(3, 1, HeartbeatReply{1});
  ASSERT_EQ(node.reads.size(), 1u);
  EXPECT_EQ(node.reads[0].id, id);
  EXPECT_EQ(node.reads[0].index, Index(1));
  EXPECT_FALSE(node.reads[0].refused);
  node.hear(2, 1, HeartbeatReply{1});
  EXPECT_EQ(node.reads.size(), 1u) << "once";
}

TEST(Reads, an_answer_to_an_earlier_round_does_not_confirm) {
  LoneCore node(3);
  node.lead_and_commit();
  ASSERT_TRUE(node.core.read_index());
  node.flush();
  const uint64_t second = node.core.read_index().value();
  node.flush();
  node.hear(2, 1, HeartbeatReply{1});
  ASSERT_EQ(node.reads.size(), 1u);
  node.hear(3, 1, HeartbeatReply{1});
  EXPECT_EQ(node.reads.size(), 1u);
  node.hear(3, 1, HeartbeatReply{2});
  ASSERT_EQ(node.reads.size(), 2u);
  EXPECT_EQ(node.reads[1].id, second);
}

TEST(Reads, the_same_follower_twice_is_no_quorum) {
  LoneCore node(5);
  node.lead();
  node.acknowledge(2, 1);
  node.acknowledge(3, 1);
  ASSERT_TRUE(node.core.read_index());
  node.flush();
  node.hear(2, 1, HeartbeatReply{1});
  node.hear(2, 1, HeartbeatReply{1});
  EXPECT_TRUE(node.reads.empty());
  node.hear(4, 1, HeartbeatReply{1});
  EXPECT_EQ(node.reads.size(), 1u);
}

TEST(Reads, reads_before_the_first_commit_of_the_term_wait_for_it) {
  LoneCore node(3, {1, 1});
  node.lead();
  ASSERT_TRUE(node.core.read_index());
  EXPECT_EQ(texts(node.flush()), "");
  EXPECT_EQ(texts(node.acknowledge(2, 3)),
            "1->2 Heartbeat term=2 commit=3 round=1\n1->3 Heartbeat term=2 commit=0 round=1\n");
  node.hear(2, 2, HeartbeatReply{1});
  ASSERT_EQ(node.reads.size(), 1u);
  EXPECT_EQ(node.reads[0].index, Index(3));
}

TEST(Reads, all_reads_between_two_readys_share_a_round) {
  LoneCore node(3);
  node.lead_and_commit();
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(node.core.read_index());
  EXPECT_EQ(node.flush().size(), 2u);
  node.hear(2, 1, HeartbeatReply{1});
  EXPECT_EQ(node.reads.size(), 10u);
}

TEST(Reads, a_single_node_confirms_itself) {
  LoneCore node(1);
  node.tick(1);
  ASSERT_TRUE(node.core.read_index());
  node.flush();
  ASSERT_EQ(node.reads.size(), 1u);
  EXPECT_EQ(node.reads[0].index, Index(1));
}

TEST(Reads, step_down_refuses_local_and_remote_reads) {
  LoneCore node(3);
  node.lead_and_commit();
  ASSERT_TRUE(node.core.read_index());
  node.flush();
  ASSERT_TRUE(node.core.read_index());
  node.core.step({NodeId(3), NodeId(1), Term(1), ReadIndexRequest{77}});
  const std::string sent = texts(node.tick(kElectionMin));
  EXPECT_EQ(node.core.role(), Role::kFollower);
  EXPECT_NE(sent.find("1->3 ReadIndexReply term=1 id=77 refused"), std::string::npos) << sent;
  ASSERT_EQ(node.reads.size(), 2u);
  EXPECT_TRUE(node.reads[0].refused);
  EXPECT_TRUE(node.reads[1].refused);
}

TEST(Reads, a_follower_asks_the_leader) {
  LoneCore node(3);
  node.hear(2, 1, Heartbeat{});
  const uint64_t id = node.core.read_index().value();
  ASSERT_EQ(node.take().messages.size(), 1u);
  node.hear(2, 1, ReadIndexReply{id, Index(5), false});
  node.hear(2, 1, ReadIndexReply{id, Index(5), false});
  ASSERT_EQ(node.reads.size(), 1u);
  EXPECT_EQ(node.reads[0].index, Index(5));
}

TEST(Reads, a_new_term_refuses_what_was_forwarded) {
  LoneCore node(3);
  node.hear(2, 1, Heartbeat{});
  const uint64_t id = node.core.read_index().value();
  node.hear(3, 2, Heartbeat{});
  ASSERT_EQ(node.reads.size(), 1u);
  EXPECT_EQ(node.reads[0].id, id);
  EXPECT_TRUE(node.reads[0].refused);
  node.hear(3, 2, ReadIndexReply{id, Index(5), false});
  EXPECT_EQ(node.reads.size(), 1u);
}

TEST(Reads, a_lost_leader_refuses_what_was_forwarded) {
  LoneCore node(3);
  node.hear(2, 1, Heartbeat{});
  ASSERT_TRUE(node.core.read_index());
  node.core.peer_lost(NodeId(2));
  node.flush();
  ASSERT_EQ(node.reads.size(), 1u);
  EXPECT_TRUE(node.reads[0].refused);
}

TEST(Reads, a_forwarded_read_without_answer_ends) {
  LoneCore node(3);
  node.hear(2, 1, Heartbeat{});
  ASSERT_TRUE(node.core.read_index());
  for (int i = 0; i < kElectionMax; ++i) {
    EXPECT_TRUE(node.reads.empty());
    node.hear(2, 1, Heartbeat{});
    node.tick(1);
  }
  ASSERT_EQ(node.reads.size(), 1u);
  EXPECT_TRUE(node.reads[0].refused);
}

TEST(Reads, who_does_not_lead_refuses_a_forwarded_read) {
  LoneCore node(3);
  EXPECT_EQ(texts(node.hear(2, 0, ReadIndexRequest{5})),
            "1->2 ReadIndexReply term=0 id=5 refused\n");
}

TEST(Reads, ids_of_two_lives_of_a_node_differ) {
  // An answer to a question of the life before must not fit a question of this one.
  std::vector<uint64_t> ids;
  for (uint64_t seed : {1, 2, 3}) {
    Options options;
    options.id = NodeId(1);
    options.seed = seed;
    Core core(options, {.configuration = voters(2)});
    core.step({NodeId(2), NodeId(1), Term(1), Heartbeat{}});
    ids.push_back(core.read_index().value());
  }
  EXPECT_NE(ids[0], ids[1]);
  EXPECT_NE(ids[1], ids[2]);
}

TEST(Transfer, errors) {
  LoneCore node(3);
  EXPECT_EQ(node.core.transfer_leadership(NodeId(2)).error().code, Errc::kNotLeader);
  node.lead_and_commit();
  EXPECT_EQ(node.core.transfer_leadership(NodeId(1)).error().code, Errc::kInvalidArgument);
  EXPECT_EQ(node.core.transfer_leadership(NodeId(9)).error().code, Errc::kInvalidArgument);
  EXPECT_EQ(node.core.transfer_leadership(NodeId(3)).error().code, Errc::kUnavailable)
      << "never heard from";
  EXPECT_TRUE(node.core.transfer_leadership(NodeId(2)));
  EXPECT_EQ(node.core.transfer_leadership(NodeId(2)).error().code, Errc::kUnavailable)
      << "under way";
  EXPECT_EQ(node.propose(1).error().code, Errc::kUnavailable);
}

TEST(Transfer, the_target_catches_up_first) {
  LoneCore node(3);
  node.lead_and_commit();
  ASSERT_TRUE(node.propose(10));
  EXPECT_TRUE(node.core.transfer_leadership(NodeId(2)));
  EXPECT_EQ(texts(node.flush()), "1->2 Append term=1 prev=1/1 commit=1 [2/1]\n");
  const std::string sent = texts(node.acknowledge(2, 2));
  EXPECT_NE(sent.find("1->2 TimeoutNow term=1"), std::string::npos) << sent;
}

TEST(Transfer, without_a_target_the_furthest_active_follower_is_taken) {
  LoneCore node(5);
  node.lead();
  node.acknowledge(2, 1);
  node.acknowledge(4, 1);
  ASSERT_TRUE(node.propose(10));
  node.flush();
  node.acknowledge(4, 2);
  EXPECT_TRUE(node.core.transfer_leadership(NodeId(0)));
  EXPECT_EQ(node.core.view().transfer_to, NodeId(4));
}

TEST(Transfer, ends_after_an_election_timeout) {
  LoneCore node(3);
  node.lead_and_commit();
  EXPECT_TRUE(node.core.transfer_leadership(NodeId(2)));
  for (int i = 0; i < kElectionMax; ++i) {
    EXPECT_EQ(node.core.view().transfer_to, NodeId(2));
    node.hear(3, 1, HeartbeatReply{});
    node.tick(1);
  }
  EXPECT_EQ(node.core.view().transfer_to, NodeId(0));
  EXPECT_TRUE(node.propose(1));
}

TEST(Transfer, ends_when_the_target_is_lost) {
  LoneCore node(3);
  node.lead_and_commit();
  EXPECT_TRUE(node.core.transfer_leadership(NodeId(2)));
  node.core.peer_lost(NodeId(2));
  EXPECT_TRUE(node.propose(1));
  EXPECT_EQ(node.core.transfer_leadership(NodeId(2)).error().code, Errc::kUnavailable);
}

TEST(Transfer, the_target_campaigns_at_once_without_pre_vote) {
  LoneCore node(3, {1});
  node.hear(2, 1, Heartbeat{});
  EXPECT_EQ(texts(node.hear(2, 1, TimeoutNow{})),
            "1->2 Vote term=2 last=1/1 transfer\n1->3 Vote term=2 last=1/1 transfer\n");
}

}  // namespace
}  // namespace ballast::raft::testing
