#include "server/raft/progress.h"

#include <gtest/gtest.h>

namespace ballast::raft {
namespace {

TEST(Inflight, frees_whole_appends_only) {
  Inflight inflight;
  inflight.add(Index(3), 3, 300);
  inflight.add(Index(5), 2, 200);
  EXPECT_EQ(inflight.entries(), 5u);
  EXPECT_EQ(inflight.bytes(), 500u);
  inflight.free_up_to(Index(4));
  EXPECT_EQ(inflight.entries(), 2u);
  EXPECT_EQ(inflight.bytes(), 200u);
  inflight.free_up_to(Index(5));
  EXPECT_TRUE(inflight.empty());
  EXPECT_EQ(inflight.bytes(), 0u);
}

Progress replicating(uint64_t match) {
  Progress progress(NodeId(2), Index(match + 1));
  progress.sent(0, 0);
  progress.acknowledged(Index(match));
  return progress;
}

TEST(Progress, a_probe_waits_for_its_answer) {
  Progress progress(NodeId(2), Index(5));
  EXPECT_TRUE(progress.may_send());
  progress.sent(3, 30);
  EXPECT_FALSE(progress.may_send());
  EXPECT_EQ(progress.next(), Index(5));
  EXPECT_TRUE(progress.acknowledged(Index(7)));
  EXPECT_FALSE(progress.probing());
  EXPECT_EQ(progress.next(), Index(8));
}

TEST(Progress, a_heartbeat_answer_repeats_the_probe_without_entries) {
  Progress progress(NodeId(2), Index(5));
  EXPECT_FALSE(progress.send_empty());
  progress.sent(3, 30);
  EXPECT_FALSE(progress.heartbeat_answered(Index(9)));
  EXPECT_TRUE(progress.may_send());
  EXPECT_TRUE(progress.send_empty());
}

TEST(Progress, sends_ahead_of_the_answers) {
  Progress progress = replicating(4);
  progress.sent(2, 20);
  progress.sent(1, 10);
  EXPECT_EQ(progress.next(), Index(8));
  EXPECT_EQ(progress.inflight().entries(), 3u);
  progress.acknowledged(Index(6));
  EXPECT_EQ(progress.match(), Index(6));
  EXPECT_EQ(progress.next(), Index(8));
  EXPECT_EQ(progress.inflight().entries(), 1u);
}

TEST(Progress, a_stale_rejection_is_ignored) {
  Progress progress = replicating(4);
  EXPECT_FALSE(progress.rejected(Index(4), Index(2)));
  EXPECT_FALSE(progress.probing());
  EXPECT_TRUE(progress.rejected(Index(6), Index(2)));
  EXPECT_TRUE(progress.probing());
  EXPECT_EQ(progress.next(), Index(5));
  // now it probes behind 4: an answer about 6 is an old one
  EXPECT_FALSE(progress.rejected(Index(6), Index(2)));
}

TEST(Progress, a_rejection_never_goes_below_match) {
  Progress progress = replicating(4);
  progress.lost();
  EXPECT_TRUE(progress.rejected(Index(4), Index(0)));
  EXPECT_EQ(progress.next(), Index(5));
}

TEST(Progress, an_old_acknowledgement_does_not_end_probing) {
  Progress progress = replicating(4);
  progress.lost();
  EXPECT_FALSE(progress.acknowledged(Index(3)));
  EXPECT_TRUE(progress.probing());
  EXPECT_EQ(progress.match(), Index(4));
}

// A new leader's connections to a follower that restarts break and come back before it has heard
// from it: it must not send the whole log.
TEST(Progress, lost_while_probing_goes_on_where_it_was) {
  Progress progress(NodeId(2), Index(100));
  progress.lost();
  progress.lost();
  EXPECT_EQ(progress.next(), Index(100));
  EXPECT_TRUE(progress.probing());
}

TEST(Progress, lost_clears_the_window_and_waits_for_a_heartbeat) {
  Progress progress = replicating(4);
  progress.sent(5, 500);
  progress.lost();
  EXPECT_TRUE(progress.probing());
  EXPECT_TRUE(progress.inflight().empty());
  EXPECT_EQ(progress.next(), Index(5));
  EXPECT_FALSE(progress.may_send());
  EXPECT_FALSE(progress.connected());
  progress.heard();
  progress.heartbeat_answered(Index(9));
  EXPECT_TRUE(progress.may_send());
  EXPECT_TRUE(progress.connected());
}

TEST(Progress, stalls_only_if_match_stood_still_for_a_heartbeat) {
  Progress progress = replicating(4);
  progress.sent(2, 20);
  progress.heartbeat_sent();  // match moved since the beginning
  EXPECT_FALSE(progress.heartbeat_answered(Index(6)));
  progress.heartbeat_sent();
  EXPECT_TRUE(progress.heartbeat_answered(Index(6)));
  EXPECT_FALSE(progress.heartbeat_answered(Index(6)));  // once per heartbeat
  progress.acknowledged(Index(6));
  progress.heartbeat_sent();
  progress.heartbeat_sent();
  EXPECT_FALSE(progress.heartbeat_answered(Index(6)));  // nothing is missing
}

}  // namespace
}  // namespace ballast::raft
