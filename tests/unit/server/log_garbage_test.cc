#include "server/node/log_garbage.h"

#include <gtest/gtest.h>

#include <vector>

namespace ballast::server {
namespace {

using Home = storage::LogStore::Home;
using Use = storage::StateMachine::SegmentUse;

TEST(LogGarbage, a_segment_goes_when_it_is_empty_and_moves_below_a_half) {
  struct Case {
    std::vector<Use> used;
    HomeFate fate;
  };
  const Case cases[] = {
      {{}, HomeFate::kRetires},          {{{6, 1000, 1}, {8, 1000, 1}}, HomeFate::kRetires},
      {{{7, 1, 1}}, HomeFate::kEmpties}, {{{7, 499, 3}}, HomeFate::kEmpties},
      {{{7, 500, 3}}, HomeFate::kStays}, {{{7, 0, 1}}, HomeFate::kEmpties}};
  for (const Case& one : cases) EXPECT_EQ(fate_of(Home{7, 1000}, one.used), one.fate);
}

TEST(LogGarbage, is_summed_over_homes_and_lives_over_all_segments) {
  const std::vector<Home> homes{{1, 1000}, {2, 2000}, {3, 1000}, {4, 1000}, {5, 1000}};
  const std::vector<Use> used{{2, 999, 9}, {3, 10, 1}, {4, 500, 1}, {9, 600, 2}};
  const pb::LogGarbage garbage = log_garbage(homes, used);
  EXPECT_EQ(garbage.live_bytes(), 999u + 10 + 500 + 600) << "the log's own segments too";
  EXPECT_EQ(garbage.empty_segments(), 2u);
  EXPECT_EQ(garbage.empty_bytes(), 2000u);
  EXPECT_EQ(garbage.sparse_segments(), 2u);
  EXPECT_EQ(garbage.sparse_bytes(), 3000u);
  EXPECT_EQ(garbage.moving_bytes(), 1009u);
}

TEST(LogGarbage, is_none_without_homes) {
  const pb::LogGarbage garbage = log_garbage({}, std::vector<Use>{{1, 5, 1}});
  EXPECT_EQ(garbage.live_bytes(), 5u);
  EXPECT_EQ(garbage.empty_segments() + garbage.sparse_segments(), 0u);
}

}  // namespace
}  // namespace ballast::server
