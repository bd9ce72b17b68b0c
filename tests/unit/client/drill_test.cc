// The verdict of a drill: what it takes to pass, and that nothing else does.
#include "client/kvctl/drill.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "client/kvctl/drill_writers.h"

namespace ballast::kvctl {
namespace {

DrillReport good() {
  DrillReport report;
  report.summary.acknowledged = 100;
  report.summary.rounds.push_back({.round = 1,
                                   .node = "n2",
                                   .in_flight = 3,
                                   .steady_at_us = 2,
                                   .undone_at_us = 3,
                                   .caught_up_at_us = 4});
  for (uint64_t id = 1; id <= 3; ++id) {
    NodeFindings node;
    node.member = {.id = id, .name = "n" + std::to_string(id), .address = "127.0.0.1:1"};
    node.report.applied_index = 50;
    report.findings.nodes.push_back(node);
  }
  return report;
}

void expect(DrillReport report, Verdict verdict, const std::string& reason) {
  judge(report);
  EXPECT_EQ(verdict_name(report.verdict), verdict_name(verdict)) << reason;
  ASSERT_EQ(report.reasons.size(), 1U) << reason;
  EXPECT_NE(report.reasons[0].find(reason), std::string::npos) << report.reasons[0];
}

TEST(Judge, passes_what_is_good) {
  DrillReport report = good();
  report.summary.unknown = 2;
  report.findings.unknown_present = 1;  // there or not, both are allowed
  report.summary.failed = 3;
  judge(report);
  EXPECT_EQ(report.verdict, Verdict::kPass);
  EXPECT_TRUE(report.reasons.empty());
  EXPECT_TRUE(report.findings.intact());
}

TEST(Judge, fails_for_a_lost_write) {
  DrillReport report = good();
  report.findings.lost = 1;
  EXPECT_FALSE(report.findings.intact());
  expect(report, Verdict::kFail, "1 acknowledged writes are lost");
}

TEST(Judge, fails_for_wrong_bytes_and_damaged_blocks) {
  DrillReport report = good();
  report.findings.wrong = 1;
  report.findings.nodes[1].wrong = 1;
  report.findings.nodes[2].report.damaged.resize(2);
  EXPECT_EQ(report.findings.corrupt(), 4U);
  EXPECT_FALSE(report.findings.intact());
  expect(report, Verdict::kFail, "4 wrong contents or damaged blocks");
}

TEST(Judge, fails_for_a_write_that_one_node_lacks) {
  DrillReport report = good();
  report.findings.nodes[2].missing = 5;
  EXPECT_FALSE(report.findings.intact());
  expect(report, Verdict::kFail, "'n3' lacks 5");
}

TEST(Judge, fails_for_a_write_that_was_said_to_have_failed) {
  DrillReport report = good();
  report.findings.failed_present = 1;
  expect(report, Verdict::kFail, "reported as failed");
}

TEST(Judge, fails_for_states_that_differ_or_are_not_compared) {
  DrillReport other_state = good();
  other_state.findings.nodes[1].report.state.bytes[0] = std::byte{1};
  expect(other_state, Verdict::kFail, "'n2' and 'n1' have different states at index 50");
  DrillReport other_index = good();
  other_index.findings.nodes[1].report.applied_index = 49;
  expect(other_index, Verdict::kFail, "'n2' stays at index 49");
  for (const size_t silent : {0U, 1U}) {
    DrillReport unverified = good();
    unverified.findings.nodes[silent].report.error = Error{Errc::kUnavailable, "no answer"};
    expect(unverified, Verdict::kFail, "was not verified: no answer");
  }
  DrillReport nobody = good();
  nobody.findings.nodes.clear();
  expect(nobody, Verdict::kFail, "no node was checked");
}

TEST(Judge, fails_for_a_round_that_did_not_end) {
  DrillReport report = good();
  report.summary.rounds[0].caught_up_at_us.reset();
  expect(report, Verdict::kFail, "round 1 did not end");
}

TEST(Judge, fails_for_whatever_else_went_wrong) {
  DrillReport report = good();
  report.problems.emplace_back("round 1: nobody was elected");
  expect(report, Verdict::kFail, "nobody was elected");
}

TEST(Judge, is_inconclusive_without_a_write_in_flight) {
  DrillReport report = good();
  report.summary.rounds.push_back(report.summary.rounds[0]);
  report.summary.rounds[1].round = 2;
  report.summary.rounds[1].in_flight = 0;
  expect(report, Verdict::kInconclusive, "no write was in flight at the fault of round 2");
}

TEST(Judge, is_inconclusive_without_a_round) {
  DrillReport report = good();
  report.summary.rounds.clear();
  expect(report, Verdict::kInconclusive, "there was no round");
}

TEST(Judge, a_failure_is_never_hidden_by_being_inconclusive) {
  DrillReport report = good();
  report.summary.rounds[0].in_flight = 0;
  report.findings.lost = 1;
  expect(report, Verdict::kFail, "lost");
}

TEST(Scenario, names_read_back) {
  for (const Scenario scenario :
       {Scenario::kKill, Scenario::kTransfer, Scenario::kPause, Scenario::kRestartAll}) {
    const auto parsed = parse_scenario(scenario_name(scenario));
    ASSERT_TRUE(parsed) << scenario_name(scenario);
    EXPECT_EQ(*parsed, scenario);
  }
  for (const char* name : {"", "KILL", "restart", "restart_all"}) {
    const auto parsed = parse_scenario(name);
    ASSERT_FALSE(parsed) << name;
    EXPECT_EQ(parsed.error().code, Errc::kInvalidArgument);
  }
}

TEST(DrillWriters, a_write_is_still_open_if_it_is_the_same_one) {
  using Open = DrillWriters::Open;
  EXPECT_TRUE(DrillWriters::any_in_both(Open{0, 7}, Open{0, 7}));
  EXPECT_FALSE(DrillWriters::any_in_both(Open{0, 7}, Open{0, 0})) << "it was answered";
  EXPECT_FALSE(DrillWriters::any_in_both(Open{0, 7}, Open{0, 8})) << "the next one has begun";
  EXPECT_FALSE(DrillWriters::any_in_both(Open{0, 0}, Open{0, 0}));
  EXPECT_TRUE(DrillWriters::any_in_both(Open{3, 7}, Open{4, 7}));
}

TEST(Percentile, is_the_nearest_rank) {
  EXPECT_EQ(percentile({7}, 50), 7U);
  EXPECT_EQ(percentile({7}, 99), 7U);
  EXPECT_EQ(percentile({1, 2, 3, 4}, 0), 1U);
  EXPECT_EQ(percentile({1, 2, 3, 4}, 50), 2U);
  EXPECT_EQ(percentile({1, 2, 3, 4}, 51), 3U);
  EXPECT_EQ(percentile({1, 2, 3, 4}, 100), 4U);
}

}  // namespace
}  // namespace ballast::kvctl
