// Append, its answers, commit and flow control: one test per rule.

#include <gtest/gtest.h>

#include "tests/unit/raft/lone_core.h"

namespace ballast::raft::testing {
namespace {

std::vector<uint64_t> terms_of(const Core& core) {
  std::vector<uint64_t> terms;
  for (Index index(1); index <= core.last(); ++index) terms.push_back(core.term_at(index).value());
  return terms;
}
using Terms = std::vector<uint64_t>;

TEST(Replication, a_new_leader_appends_a_noop_of_its_term) {
  LoneCore node(3, {1, 1});
  EXPECT_EQ(texts(node.lead()),
            "1->2 Append term=2 prev=2/1 commit=0 [3/2]\n"
            "1->3 Append term=2 prev=2/1 commit=0 [3/2]\n");
  EXPECT_EQ(node.core.meta_at(Index(3)), (EntryMeta{Term(2), Index(3), EntryKind::kNoop, 0, 0}));
  EXPECT_FALSE(node.core.ready_to_serve());
  node.acknowledge(2, 3);
  EXPECT_TRUE(node.core.ready_to_serve());
  EXPECT_EQ(node.core.commit(), Index(3));
}

TEST(Replication, entries_of_older_terms_are_not_committed_by_count) {
  LoneCore node(3, {1, 1});
  node.lead();
  node.acknowledge(2, 2);
  node.acknowledge(3, 2);
  EXPECT_EQ(node.core.commit(), Index(0));
  node.acknowledge(2, 3);
  EXPECT_EQ(node.core.commit(), Index(3));
}

TEST(Replication, the_own_match_counts_when_it_is_durable) {
  LoneCore node(3);
  node.lead_and_commit();
  ASSERT_TRUE(node.propose(10));
  const Ready ready = node.take();
  EXPECT_EQ(ready.entries.size(), 1u);
  EXPECT_FALSE(ready.messages.empty()) << "followers get it while the own disk writes";
  node.core.step({NodeId(2), NodeId(1), Term(1), AppendReply{.index = Index(2)}});
  EXPECT_EQ(node.core.commit(), Index(1));
  node.core.storage_done(ready.ticket);
  EXPECT_EQ(node.core.commit(), Index(2));
}

TEST(Replication, a_quorum_of_others_commits_but_nothing_is_applied_before_it_is_durable_here) {
  LoneCore node(3);
  node.lead_and_commit();
  ASSERT_TRUE(node.propose(10));
  const Ready ready = node.take();
  for (uint64_t peer : {2, 3}) {
    node.core.step({NodeId(peer), NodeId(1), Term(1), AppendReply{.index = Index(2)}});
  }
  EXPECT_EQ(node.core.commit(), Index(2));
  EXPECT_EQ(node.take().commit, Index(1));
  node.core.storage_done(ready.ticket);
  EXPECT_EQ(node.take().commit, Index(2));
}

TEST(Replication, a_follower_commits_no_further_than_the_last_new_entry) {
  LoneCore node(3, {1, 1, 1});
  node.hear(2, 2, append_of(1, 1, {}, 9));
  EXPECT_EQ(node.core.commit(), Index(1));  // 2 and 3 may differ from the leader's
  node.hear(2, 2, append_of(1, 1, {1}, 9));
  EXPECT_EQ(node.core.commit(), Index(2));
}

TEST(Replication, an_append_behind_a_gap_is_refused_with_a_hint) {
  LoneCore node(3, {1, 1, 3});
  EXPECT_EQ(texts(node.hear(2, 5, append_of(9, 4, {5}))),
            "1->2 AppendReply term=5 rejected=9 hint=3/3\n");
  EXPECT_EQ(texts(node.hear(2, 5, append_of(9, 2, {5}))),
            "1->2 AppendReply term=5 rejected=9 hint=2/1\n");
  EXPECT_EQ(texts(node.hear(2, 5, append_of(3, 2, {5}))),
            "1->2 AppendReply term=5 rejected=3 hint=2/1\n");
}

TEST(Replication, a_conflict_replaces_what_follows) {
  LoneCore node(3, {1, 1, 2, 2});
  node.hear(2, 3, append_of(2, 1, {3}));
  EXPECT_EQ(terms_of(node.core), (Terms{1, 1, 3}));
}

TEST(Replication, a_late_or_double_append_takes_nothing_back) {
  LoneCore node(3, {1});
  node.hear(2, 1, append_of(1, 1, {1, 1, 1}));
  EXPECT_EQ(texts(node.hear(2, 1, append_of(1, 1, {1}))), "1->2 AppendReply term=1 index=2\n");
  EXPECT_EQ(texts(node.hear(2, 1, append_of(0, 0, {1}))), "1->2 AppendReply term=1 index=1\n");
  EXPECT_EQ(node.core.last(), Index(4));
  EXPECT_EQ(node.take().ticket, 0u) << "nothing is stored twice";
}

TEST(Replication, an_append_from_below_the_commit_is_taken) {
  LoneCore node(3, {1, 1});
  node.hear(2, 1, append_of(2, 1, {}, 2));
  ASSERT_EQ(node.core.commit(), Index(2));
  EXPECT_EQ(texts(node.hear(2, 1, append_of(0, 0, {1, 1, 1}, 3))),
            "1->2 AppendReply term=1 index=3\n");
  EXPECT_EQ(node.core.commit(), Index(3));
}

TEST(ReplicationDeath, a_conflict_with_a_committed_entry_stops_the_process) {
  LoneCore node(3, {1, 1});
  node.hear(2, 1, append_of(2, 1, {}, 2));
  EXPECT_DEATH(node.hear(2, 2, append_of(1, 1, {2})), "committed entry 2");
}

// Same index, same term: then both logs are the same up to there, or one of them is damaged.
TEST(ReplicationDeath, a_log_that_differs_before_an_equal_entry_stops_the_process) {
  LoneCore node(3, {1, 1, 1});
  Append append = append_of(2, 1, {1, 1});
  append.previous_chain = node.core.chain_at(Index(2)) + 1;
  EXPECT_DEATH(node.core.step({NodeId(2), NodeId(1), Term(1), append}),
               "entry 2 of term 1, but differ before it");
}

TEST(ReplicationDeath, an_equal_entry_with_other_bytes_stops_the_process) {
  LoneCore node(3, {1, 1, 1});
  Append append = append_of(1, 1, {1, 1, 1});
  append.entries[1].checksum = 77;
  EXPECT_DEATH(node.hear(2, 1, append), "entry 3 of term 1 is not the primary's");
}

TEST(ReplicationDeath, a_commit_beyond_the_log_stops_the_process) {
  LoneCore node(3, {1});
  EXPECT_DEATH(node.hear(2, 1, Heartbeat{Index(5), 0}), "was the disk wiped");
}

TEST(Replication, answers_acknowledge_only_what_is_durable) {
  LoneCore node(3, {1});
  node.receive(2, 1, append_of(1, 1, {1, 1}));
  const Ready first = node.take();
  EXPECT_TRUE(first.messages.empty());
  // An empty probe of what is not durable yet waits for the same write.
  node.receive(2, 1, append_of(3, 1, {}));
  EXPECT_TRUE(node.take().messages.empty());
  // One of what is durable is answered at once.
  node.receive(2, 1, append_of(1, 1, {}));
  EXPECT_EQ(texts(node.take().messages), "1->2 AppendReply term=1 index=1\n");
  node.core.storage_done(first.ticket);
  EXPECT_EQ(texts(node.take().messages),
            "1->2 AppendReply term=1 index=3\n1->2 AppendReply term=1 index=3\n");
}

TEST(Replication, heartbeats_carry_no_commit_beyond_match) {
  LoneCore node(3);
  node.lead_and_commit();
  const std::string sent = texts(node.tick(2));
  EXPECT_NE(sent.find("1->2 Heartbeat term=1 commit=1"), std::string::npos) << sent;
  EXPECT_NE(sent.find("1->3 Heartbeat term=1 commit=0"), std::string::npos) << sent;
}

TEST(Replication, rejections_move_next_by_terms) {
  // leader: 1 1 1 2 2 2 5(noop); the follower has 1 1 1 1 1 1 1 1
  LoneCore node(3, {1, 1, 1, 2, 2, 2}, 4);
  node.lead();
  const auto sent = node.hear(2, 5, AppendReply{true, Index(6), Index(6), Term(1)});
  EXPECT_EQ(texts(sent), "1->2 Append term=5 prev=3/1 commit=0 [4-6/2 7/5]\n");
}

TEST(Replication, replication_runs_ahead_and_is_bounded_in_entries) {
  Options options;
  options.inflight_entries_max = 3;
  options.append_entries_max = 2;
  LoneCore node(3, {}, 0, 0, options);
  node.lead_and_commit();
  ASSERT_TRUE(node.propose(10, 5));
  EXPECT_EQ(texts(node.flush()),
            "1->2 Append term=1 prev=1/1 commit=1 [2-3/1]\n"
            "1->2 Append term=1 prev=3/1 commit=1 [4/1]\n");
  EXPECT_EQ(node.core.view().peers[0].inflight_entries, 3u);
  EXPECT_EQ(texts(node.acknowledge(2, 3)), "1->2 Append term=1 prev=4/1 commit=3 [5-6/1]\n");
}

TEST(Replication, replication_is_bounded_in_bytes_but_one_entry_passes) {
  Options options;
  options.inflight_bytes_max = 100;
  options.append_bytes_max = 50;
  LoneCore node(3, {}, 0, 0, options);
  node.lead_and_commit();
  ASSERT_TRUE(node.propose(40, 3));
  EXPECT_EQ(texts(node.flush()),
            "1->2 Append term=1 prev=1/1 commit=1 [2/1]\n"
            "1->2 Append term=1 prev=2/1 commit=1 [3/1]\n");
  node.acknowledge(2, 4);
  ASSERT_TRUE(node.propose(500, 2));
  EXPECT_EQ(texts(node.flush()), "1->2 Append term=1 prev=4/1 commit=4 [5/1]\n");
  EXPECT_EQ(node.core.view().peers[0].inflight_bytes, 500u);
}

TEST(Replication, a_lost_peer_is_probed_again) {
  LoneCore node(3);
  node.lead_and_commit();
  ASSERT_TRUE(node.propose(10, 2));
  node.flush();
  node.core.peer_lost(NodeId(2));
  EXPECT_TRUE(node.core.view().peers[0].probing);
  EXPECT_EQ(node.core.view().peers[0].inflight_entries, 0u);
  EXPECT_EQ(texts(node.flush()), "");
  // First without entries: whether the connection carries megabytes is not known.
  EXPECT_EQ(texts(node.hear(2, 1, HeartbeatReply{})), "1->2 Append term=1 prev=1/1 commit=1 []\n");
  EXPECT_EQ(texts(node.acknowledge(2, 1)), "1->2 Append term=1 prev=1/1 commit=1 [2-3/1]\n");
}

TEST(Replication, propose_is_all_or_nothing_within_the_bound) {
  Options options;
  options.uncommitted_bytes_max = 100;
  LoneCore node(3, {}, 0, 0, options);
  EXPECT_EQ(node.propose(1).error().code, Errc::kNotLeader);
  node.lead_and_commit();
  EXPECT_EQ(node.core.propose({}).error().code, Errc::kInvalidArgument);
  EXPECT_EQ(node.propose(500).value(), Index(2)) << "alone, even a big one passes";
  EXPECT_EQ(node.propose(1).error().code, Errc::kOverloaded);
  EXPECT_EQ(node.core.last(), Index(2));
  node.flush();
  node.acknowledge(2, 2);
  EXPECT_EQ(node.core.view().uncommitted_bytes, 0u);
  EXPECT_EQ(node.propose(40, 2).value(), Index(3));
  EXPECT_EQ(node.propose(30).error().code, Errc::kOverloaded);
  EXPECT_EQ(node.propose(20).value(), Index(5));
}

TEST(Replication, a_single_node_commits_by_itself) {
  LoneCore node(1, {1, 1});
  node.tick(1);
  EXPECT_EQ(node.core.role(), Role::kLeader);
  EXPECT_TRUE(node.core.ready_to_serve());
  EXPECT_EQ(node.core.commit(), Index(3));
  ASSERT_TRUE(node.propose(7));
  const Ready ready = node.take();
  EXPECT_EQ(ready.commit, Index(3));
  node.core.storage_done(ready.ticket);
  EXPECT_EQ(node.take().commit, Index(4));
}

TEST(Replication, what_was_applied_is_committed_after_a_restart) {
  Options options;
  options.id = NodeId(1);
  InitialState initial;
  initial.configuration = voters(3);
  initial.hard_state = {Term(3), NodeId(2)};
  for (uint64_t i = 1; i <= 4; ++i)
    initial.log.push_back({Term(2), Index(i), EntryKind::kNoop, 0, 0});
  initial.applied = Index(3);
  Core core(options, initial);
  EXPECT_EQ(core.commit(), Index(3));
  EXPECT_EQ(core.ready().commit, Index(3));
  EXPECT_EQ(core.term(), Term(3));
  EXPECT_EQ(core.view().vote, NodeId(2));
}

}  // namespace
}  // namespace ballast::raft::testing
