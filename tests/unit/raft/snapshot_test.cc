// Where the log begins, and who needs more than it holds.

#include <gtest/gtest.h>

#include "tests/unit/raft/lone_core.h"

namespace ballast::raft::testing {
namespace {

// Node 1 leads three, entries 1 to 10 are committed, and its log begins behind 8.
LoneCore compacted_leader() {
  LoneCore node(3);
  node.lead_and_commit();
  EXPECT_TRUE(node.propose(5, 9));
  node.flush();
  node.acknowledge(2, 10);
  node.core.compact(Index(8));
  return node;
}

TEST(Snapshot, a_compacted_log_knows_the_place_where_it_begins) {
  LoneCore node = compacted_leader();
  EXPECT_EQ(node.core.base(), (Position{Index(8), Term(1)}));
  EXPECT_EQ(node.core.term_at(Index(8)), Term(1));
  EXPECT_EQ(node.core.term_at(Index(7)), Term());
  EXPECT_EQ(node.core.last(), Index(10));
  node.core.compact(Index(3));
  EXPECT_EQ(node.core.base().index, Index(8)) << "it never grows at its beginning";
}

TEST(Snapshot, a_follower_behind_the_base_is_told_so_and_then_left_alone) {
  LoneCore node = compacted_leader();
  const AppendReply lacks{.rejected = true, .index = Index(0), .hint_index = Index(0)};
  node.core.peer_lost(NodeId(3));  // probed again, from what is known of it: nothing
  node.hear(3, 1, HeartbeatReply{});
  EXPECT_EQ(node.core.view().peers[1].snapshot, Index(8));
  EXPECT_EQ(texts(node.hear(3, 1, HeartbeatReply{})), "1->3 InstallSnapshot term=1 at=8/1\n");
  ASSERT_TRUE(node.propose(5));
  EXPECT_EQ(texts(node.flush()).find("1->3"), std::string::npos);
  EXPECT_EQ(texts(node.hear(3, 1, lacks)), "") << "an old refusal changes nothing";
  // It came back with more than was asked for.
  EXPECT_EQ(texts(node.acknowledge(3, 9)), "1->3 Append term=1 prev=9/1 commit=10 [10-11/1]\n");
}

TEST(Snapshot, a_follower_asks_its_driver_and_goes_on_behind_what_was_installed) {
  LoneCore node(3, {1, 1, 2});
  node.core.step({NodeId(2), NodeId(1), Term(5), InstallSnapshot{{Index(8), Term(4)}}});
  Ready ready = node.core.ready();
  EXPECT_EQ(ready.snapshot_needed, Index(8));
  node.core.storage_done(ready.ticket);
  const Configuration four = voters(4);
  node.core.snapshot_installed({{Index(9), Term(4)}, 0x9999, four, Index(6)});
  EXPECT_EQ(texts(node.flush()), "1->2 AppendReply term=5 index=9\n");
  EXPECT_EQ(node.core.base(), (Position{Index(9), Term(4)}));
  EXPECT_EQ(node.core.chain_at(Index(9)), 0x9999u);
  EXPECT_EQ(node.core.last(), Index(9));
  EXPECT_EQ(node.core.commit(), Index(9));
  EXPECT_EQ(node.core.view().configuration, four);
  EXPECT_EQ(texts(node.hear(2, 5, append_of(9, 4, {5}))), "1->2 AppendReply term=5 index=10\n");
}

TEST(Snapshot, a_log_that_holds_the_place_is_kept) {
  LoneCore node(3, {1, 1, 2, 2});
  EXPECT_EQ(texts(node.hear(2, 3, InstallSnapshot{{Index(3), Term(2)}})),
            "1->2 AppendReply term=3 index=3\n")
      << "it has the entries already";
  node.core.snapshot_installed(
      {{Index(4), Term(2)}, node.core.chain_at(Index(4)), voters(3), Index(0)});
  EXPECT_EQ(node.core.commit(), Index(4));
  EXPECT_EQ(node.core.base(), Position{});
  EXPECT_EQ(node.core.last(), Index(4));
}

TEST(Snapshot, an_append_that_begins_before_the_base_is_taken_from_there_on) {
  InitialState initial;
  initial.hard_state = {Term(3), NodeId()};
  initial.base = {Index(5), Term(2)};
  initial.log = {{Term(2), Index(6), EntryKind::kBlock, 0, 0}};
  initial.applied = Index(5);
  initial.configuration = voters(3);
  Core core({.id = NodeId(1)}, initial);
  core.step({NodeId(2), NodeId(1), Term(3), append_of(3, 1, {2, 2, 2, 3})});
  Ready ready = core.ready();
  ASSERT_EQ(ready.entries.size(), 1U);
  EXPECT_EQ(ready.entries[0].index, Index(7));
  EXPECT_EQ(core.commit(), Index(5));
}

TEST(SnapshotDeath, a_snapshot_of_another_history_stops_the_process) {
  LoneCore node(3, {1, 1, 2, 2});
  EXPECT_DEATH(node.core.snapshot_installed(
                   {{Index(3), Term(2)}, node.core.chain_at(Index(3)) + 1, voters(3), Index(0)}),
               "was made of another log");
}

TEST(SnapshotDeath, what_is_not_committed_or_not_durable_is_not_compacted) {
  LoneCore node(3);
  node.lead_and_commit();
  ASSERT_TRUE(node.propose(5));
  EXPECT_DEATH(node.core.compact(Index(2)), "committed is 1");
}

}  // namespace
}  // namespace ballast::raft::testing
