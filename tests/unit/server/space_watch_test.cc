#include "server/node/space_watch.h"

#include <gtest/gtest.h>

#include <vector>

#include "storage/log/record.h"

namespace ballast::server {
namespace {

using limits::kMiB;
using storage::LogRoom;
using storage::Outlook;

SpaceWatch watch(uint64_t free) {
  SpaceWatch watch({.name = "n1",
                    .directory = "/data",
                    .segment_bytes = 64 * kMiB,
                    .write_buffer_bytes = 64 * kMiB,
                    .measure = [free] { return storage::Space{free, 1000 * kMiB}; }});
  watch.note({free, 1000 * kMiB});
  return watch;
}

Errc outcome(const SpaceWatch& watch, const LogRoom& room, uint64_t record, Need need) {
  const Status status = watch.admit(room, std::vector{record}, need);
  return status ? Errc{} : status.error().code;
}

TEST(SpaceWatch, without_a_measure_refuses_nothing) {
  const SpaceWatch blind({});
  const LogRoom nothing{.next = Outlook::kLacking};
  EXPECT_FALSE(blind.full(nothing));
  EXPECT_TRUE(blind.admit(nothing, std::vector{kMiB}, Need::kGrow));
}

TEST(SpaceWatch, the_last_segment_is_used_up_in_steps) {
  const SpaceWatch some = watch(100 * kMiB);
  // A quarter of the segment for what is on its way, of that 2 MiB for deletes, 1 MiB for terms.
  const auto room = [](uint64_t left) { return LogRoom{.left = left, .next = Outlook::kLacking}; };
  constexpr uint64_t kFull = 16 * kMiB + storage::kRecordBytesMax;
  EXPECT_FALSE(some.full(room(kFull)));
  EXPECT_TRUE(some.full(room(kFull - 1)));
  struct Step {
    Need need;
    uint64_t least;  // of room, for a record of 1 MiB
  };
  for (const Step step : {Step{Need::kGrow, kFull}, Step{Need::kInFlight, 3 * kMiB},
                          Step{Need::kFree, 2 * kMiB}, Step{Need::kTerm, 1 * kMiB}}) {
    EXPECT_EQ(outcome(some, room(step.least), kMiB, step.need), Errc{});
    EXPECT_EQ(outcome(some, room(step.least - 1), kMiB, step.need), Errc::kNoSpace);
  }
}

TEST(SpaceWatch, a_segment_that_is_being_made_is_not_a_full_disk) {
  const SpaceWatch some = watch(500 * kMiB);
  const LogRoom coming{.left = kMiB, .next = Outlook::kComing};
  EXPECT_FALSE(some.full(coming));
  EXPECT_EQ(outcome(some, coming, kMiB, Need::kGrow), Errc{});
  EXPECT_EQ(outcome(some, coming, kMiB + 1, Need::kGrow), Errc::kOverloaded);
  const LogRoom assured{.left = 0, .ahead = 64 * kMiB, .next = Outlook::kAssured};
  EXPECT_EQ(outcome(some, assured, kMiB, Need::kGrow), Errc{});
}

TEST(SpaceWatch, without_place_for_a_term_nobody_should_stand_for_one) {
  const SpaceWatch some = watch(100 * kMiB);
  EXPECT_FALSE(some.stuck({.left = 4096, .next = Outlook::kLacking}));
  EXPECT_TRUE(some.stuck({.left = 4095, .next = Outlook::kLacking}));
  EXPECT_FALSE(some.stuck({.left = 0, .next = Outlook::kComing})) << "it is a matter of moments";
}

TEST(SpaceWatch, rows_are_flushed_while_there_is_some_space) {
  EXPECT_TRUE(watch(16 * kMiB).may_flush());
  EXPECT_FALSE(watch(16 * kMiB - 1).may_flush());
  EXPECT_TRUE(SpaceWatch({}).may_flush());
}

TEST(SpaceWatch, below_the_floor_only_what_frees_is_taken) {
  SpaceWatch low = watch(64 * kMiB - 1);
  const LogRoom room{.left = 0, .ahead = 64 * kMiB, .next = Outlook::kAssured};
  EXPECT_TRUE(low.full(room));
  EXPECT_EQ(outcome(low, room, 4096, Need::kGrow), Errc::kNoSpace);
  EXPECT_EQ(outcome(low, room, 4096, Need::kFree), Errc{});
  EXPECT_EQ(outcome(low, room, 4096, Need::kInFlight), Errc{});
  low.note({80 * kMiB - 1, 1000 * kMiB});
  EXPECT_TRUE(low.full(room)) << "a little more is not enough";
  low.note({80 * kMiB, 1000 * kMiB});
  EXPECT_FALSE(low.full(room));
}

TEST(SpaceWatch, a_segment_leaves_what_the_rows_need) {
  EXPECT_TRUE(watch(192 * kMiB).options().may_take(64 * kMiB));
  const Status refused = watch(192 * kMiB - 1).options().may_take(64 * kMiB);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kNoSpace);
}

TEST(SpaceWatch, says_who_lacks_what_where) {
  const std::string text = watch(12 * kMiB).complaint();
  for (const char* part : {"node n1", "12.0 MiB", "'/data'", "192.0 MiB", "free space there"})
    EXPECT_NE(text.find(part), std::string::npos) << text;
}

}  // namespace
}  // namespace ballast::server
