#include "server/raft/read_only.h"

#include <gtest/gtest.h>

namespace ballast::raft {
namespace {

TEST(ReadOnly, a_round_takes_all_that_wait) {
  ReadOnly reads;
  reads.add({NodeId(1), 10});
  reads.add({NodeId(2), 11});
  reads.start_round(Index(5));
  EXPECT_FALSE(reads.waiting());
  const auto confirmed = reads.confirm(1);
  ASSERT_EQ(confirmed.size(), 2u);
  EXPECT_EQ(confirmed[0].request.id, 10u);
  EXPECT_EQ(confirmed[1].request.id, 11u);
  EXPECT_EQ(confirmed[1].index, Index(5));
}

TEST(ReadOnly, a_later_round_confirms_earlier_ones_in_order_and_not_the_reverse) {
  ReadOnly reads;
  for (uint64_t id = 1; id <= 3; ++id) {
    reads.add({NodeId(1), id});
    reads.start_round(Index(id * 10));
  }
  EXPECT_TRUE(reads.confirm(0).empty());
  const auto confirmed = reads.confirm(2);
  ASSERT_EQ(confirmed.size(), 2u);
  EXPECT_EQ(confirmed[0].index, Index(10));
  EXPECT_EQ(confirmed[1].index, Index(20));
  EXPECT_EQ(reads.clear().size(), 1u);
}

TEST(ReadOnly, a_number_is_never_used_again) {
  ReadOnly reads;
  reads.add({NodeId(1), 1});
  reads.start_round(Index(1));
  EXPECT_EQ(reads.clear().size(), 1u);
  reads.add({NodeId(1), 2});
  reads.start_round(Index(1));
  EXPECT_EQ(reads.round(), 2u);
  EXPECT_TRUE(reads.confirm(1).empty());
}

}  // namespace
}  // namespace ballast::raft
