#include "server/node/freshness.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <vector>

namespace ballast::server {
namespace {

Freshness::Time at(int ms) { return Freshness::Time(std::chrono::milliseconds(ms)); }

struct Step {
  enum { kSent, kConfirmed, kRefused, kApplied } what;
  uint64_t number;  // a probe's id, or an index
  uint64_t value = 0;
};
Step sent(uint64_t id, uint64_t ms) { return {Step::kSent, id, ms}; }
Step confirmed(uint64_t id, uint64_t index) { return {Step::kConfirmed, id, index}; }
Step refused(uint64_t id) { return {Step::kRefused, id}; }
Step applied(uint64_t index) { return {Step::kApplied, index}; }

Freshness after(const std::vector<Step>& steps) {
  Freshness freshness(Index(5));
  for (const Step& step : steps) {
    switch (step.what) {
      case Step::kSent: freshness.sent(step.number, at(static_cast<int>(step.value))); break;
      case Step::kConfirmed: freshness.confirmed(step.number, Index(step.value)); break;
      case Step::kRefused: freshness.refused(step.number); break;
      case Step::kApplied: freshness.applied(Index(step.number)); break;
    }
  }
  return freshness;
}

constexpr int kUnknown = -1;
constexpr int kNothing = -1;

struct Row {
  const char* name;
  std::vector<Step> steps;
  int shown_ms;     // the rows show everything up to there
  int expected_ms;  // the newest moment that probes under way may bring
};

TEST(Freshness, is_the_moment_at_which_the_newest_probe_left_whose_index_is_applied) {
  const std::vector<Row> table = {
      {"a node that starts", {}, kUnknown, kNothing},
      {"asked", {sent(1, 10)}, kUnknown, 10},
      {"answered: the send counts", {sent(1, 10), confirmed(1, 5)}, 10, kNothing},
      {"answered, not applied", {sent(1, 10), confirmed(1, 7)}, kUnknown, 10},
      {"applied in part", {sent(1, 10), confirmed(1, 7), applied(6)}, kUnknown, 10},
      {"applied", {sent(1, 10), confirmed(1, 7), applied(7)}, 10, kNothing},
      {"applied beyond", {sent(1, 10), confirmed(1, 7), applied(9)}, 10, kNothing},
      {"applied before the answer", {sent(1, 10), applied(7), confirmed(1, 7)}, 10, kNothing},
      {"refused", {sent(1, 10), refused(1)}, kUnknown, kNothing},
      {"refused: what was known stays",
       {sent(1, 10), confirmed(1, 5), sent(2, 20), refused(2)},
       10,
       kNothing},
      {"one refused, one under way", {sent(1, 10), sent(2, 20), refused(2)}, kUnknown, 10},
      {"answers out of order",
       {sent(1, 10), sent(2, 20), confirmed(2, 5), confirmed(1, 5)},
       20,
       kNothing},
      {"the older answer first", {sent(1, 10), sent(2, 20), confirmed(1, 5)}, 10, 20},
      {"an answer that was lost is not expected for ever",
       {sent(1, 10), sent(2, 10'011), confirmed(2, 5)},
       10'011,
       kNothing},
      {"but as long as it may come", {sent(1, 10), sent(2, 10'010), confirmed(2, 5)}, 10'010, 10},
      {"two of the same index",
       {sent(1, 10), sent(2, 20), confirmed(1, 6), confirmed(2, 6), applied(6)},
       20,
       kNothing},
      {"the later probe overtook: it asks for less",
       {sent(1, 10), sent(2, 20), confirmed(1, 8), confirmed(2, 6), applied(6)},
       20,
       10},
      {"and the older one adds nothing",
       {sent(1, 10), sent(2, 20), confirmed(1, 8), confirmed(2, 6), applied(8)},
       20,
       kNothing},
      {"each when its index is applied",
       {sent(1, 10), sent(2, 20), confirmed(1, 6), confirmed(2, 8), applied(6)},
       10,
       20},
      {"an answer twice", {sent(1, 10), confirmed(1, 9), confirmed(1, 5)}, kUnknown, 10},
      {"an answer to nothing", {confirmed(3, 1)}, kUnknown, kNothing},
  };
  for (const Row& row : table) {
    SCOPED_TRACE(row.name);
    const Freshness freshness = after(row.steps);
    const auto shown = freshness.shown();
    EXPECT_EQ(shown.has_value(), row.shown_ms != kUnknown);
    if (shown) {
      EXPECT_EQ(*shown, at(row.shown_ms));
      EXPECT_TRUE(freshness.shows(at(row.shown_ms)));
      EXPECT_FALSE(freshness.shows(at(row.shown_ms + 1)));
    } else {
      EXPECT_FALSE(freshness.shows(at(0)));
    }
    EXPECT_EQ(freshness.expects(at(0)), row.expected_ms != kNothing);
    EXPECT_EQ(freshness.expects(at(row.expected_ms)), row.expected_ms != kNothing);
    EXPECT_FALSE(freshness.expects(at(row.expected_ms + 1)));
  }
}

}  // namespace
}  // namespace ballast::server
