// Tickets: what is stored when, and what waits for it.

#include <gtest/gtest.h>

#include "tests/unit/raft/lone_core.h"

namespace ballast::raft::testing {
namespace {

TEST(Storage, nothing_to_store_is_no_ticket) {
  LoneCore node(3, {1});
  EXPECT_EQ(node.take().ticket, 0u);
  node.hear(2, 1, Heartbeat{});
  EXPECT_EQ(node.take().ticket, 0u);
}

TEST(Storage, a_hard_state_alone_makes_a_ticket) {
  LoneCore node(3, {1});
  node.core.step({NodeId(2), NodeId(1), Term(6), Heartbeat{}});
  const Ready ready = node.take();
  EXPECT_EQ(ready.hard_state, (HardState{Term(6), NodeId(0)}));
  EXPECT_TRUE(ready.entries.empty());
  EXPECT_NE(ready.ticket, 0u);
  EXPECT_TRUE(ready.messages.empty()) << "the term is not said before it is durable";
  node.core.storage_done(ready.ticket);
  EXPECT_EQ(texts(node.take().messages), "1->2 HeartbeatReply term=6 round=0\n");
}

TEST(Storage, a_later_ticket_covers_the_earlier_ones) {
  LoneCore node(3, {1});
  node.receive(2, 1, append_of(1, 1, {1}));
  const Ready first = node.take();
  node.receive(2, 1, append_of(2, 1, {1}));
  const Ready second = node.take();
  EXPECT_LT(first.ticket, second.ticket);
  node.core.storage_done(second.ticket);
  EXPECT_EQ(node.core.view().stable, Index(3));
  EXPECT_EQ(node.take().messages.size(), 2u);
  node.core.storage_done(first.ticket);  // late, and nothing new
  EXPECT_TRUE(node.take().messages.empty());
}

TEST(Storage, the_completion_of_an_overwritten_append_acknowledges_nothing) {
  LoneCore node(5, {1});
  node.receive(2, 2, append_of(1, 1, {2, 2}));
  const Ready old_write = node.take();
  node.receive(3, 3, append_of(1, 1, {3, 3}));
  const Ready new_write = node.take();
  EXPECT_EQ(new_write.entries.front().index, Index(2));
  node.core.storage_done(old_write.ticket);
  EXPECT_EQ(node.core.view().stable, Index(1));
  EXPECT_TRUE(node.take().messages.empty());
  node.core.storage_done(new_write.ticket);
  EXPECT_EQ(texts(node.take().messages), "1->3 AppendReply term=3 index=3\n");
}

TEST(Storage, an_overwrite_before_it_is_submitted_is_stored_once) {
  LoneCore node(3, {1});
  node.receive(2, 2, append_of(1, 1, {2, 2, 2}));
  node.receive(3, 3, append_of(2, 2, {3}));
  const Ready ready = node.take();
  EXPECT_EQ(to_string(ready.entries), "2/2 3/3");
  EXPECT_EQ(ready.hard_state, (HardState{Term(3), NodeId(0)}));
}

TEST(StorageDeath, an_unknown_ticket_stops_the_process) {
  LoneCore node(3);
  EXPECT_DEATH(node.core.storage_done(1), "never given");
}

}  // namespace
}  // namespace ballast::raft::testing
