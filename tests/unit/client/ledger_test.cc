#include "client/kvctl/ledger.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace ballast::kvctl {
namespace {

constexpr uint64_t kMs = 1000;

LedgerHeader two_writers() {
  return {.run = "4f1c09ab",
          .scenario = "pause",
          .cluster = "9b2f0000-0000-4000-8000-000000000001",
          .writers = 2,
          .bytes = 64,
          .codec = "f32",
          .ack = "sync",
          .started_ms = 1'712'345'678'901};
}

LedgerEvent invoke(unsigned writer, uint64_t seq, uint64_t t_us) {
  return {.op = LedgerOp::kInvoke,
          .writer = writer,
          .seq = seq,
          .key = drill_key("4f1c09ab", writer, seq),
          .sha256 = "00ff",
          .t_us = t_us};
}

LedgerEvent outcome(LedgerOp op, unsigned writer, uint64_t seq, uint64_t t_us) {
  return {.op = op, .writer = writer, .seq = seq, .t_us = t_us};
}

LedgerEvent round_event(LedgerOp op, uint64_t round, uint64_t t_us) {
  return {.op = op, .round = round, .node = "n2", .t_us = t_us};
}

class LedgerFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "ledger_test_XXXXXX";
    dir_ = ::mkdtemp(pattern.data());
    path_ = dir_ / "drill.ledger";
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  void write(const std::string& text) { std::ofstream(path_, std::ios::binary) << text; }

  std::vector<LedgerWrite> writes() {
    std::vector<LedgerWrite> found;
    const Status read = read_ledger_writes(path_, [&found](const LedgerWrite& entry) -> Status {
      found.push_back(entry);
      return {};
    });
    EXPECT_TRUE(read) << read.error().to_string();
    return found;
  }

  std::filesystem::path dir_;
  std::filesystem::path path_;
};

TEST(LedgerLine, header_reads_back_as_written) {
  const auto parsed = parse_ledger_header(ledger_line(two_writers()));
  ASSERT_TRUE(parsed) << parsed.error().to_string();
  EXPECT_EQ(*parsed, two_writers());
}

TEST(LedgerLine, every_event_reads_back_as_written) {
  LedgerEvent ok = outcome(LedgerOp::kOk, 0, 7, 30);
  ok.index = 412;
  LedgerEvent unknown = outcome(LedgerOp::kUnknown, 0, 7, 30);
  unknown.error = "unknown_outcome: the deadline passed with \"quotes\"";
  LedgerEvent removed;
  removed.op = LedgerOp::kRemoved;
  for (const LedgerEvent& event :
       {invoke(1, 7, 20), ok, unknown, outcome(LedgerOp::kFail, 1, 2, 3),
        round_event(LedgerOp::kStrike, 1, 4), round_event(LedgerOp::kStruck, 1, 5),
        round_event(LedgerOp::kEffect, 1, 5), round_event(LedgerOp::kSteady, 1, 6),
        round_event(LedgerOp::kUndone, 1, 7), round_event(LedgerOp::kCaughtUp, 1, 8), removed}) {
    const auto parsed = parse_ledger_event(ledger_line(event));
    ASSERT_TRUE(parsed) << ledger_line(event);
    EXPECT_EQ(*parsed, event) << ledger_line(event);
  }
}

TEST(LedgerLine, ledgers_of_the_first_scenario_read_as_well) {
  for (const auto& [name, op] :
       std::vector<std::pair<std::string, LedgerOp>>{{"kill", LedgerOp::kStrike},
                                                     {"signalled", LedgerOp::kStruck},
                                                     {"killed", LedgerOp::kEffect},
                                                     {"restart", LedgerOp::kUndone}}) {
    const auto event =
        parse_ledger_event(R"({"op":")" + name + R"(","round":1,"node":"n2","t_us":7})");
    ASSERT_TRUE(event) << name;
    EXPECT_EQ(*event, round_event(op, 1, 7)) << name;
  }
  const auto header = parse_ledger_header(
      R"({"op":"run","run":"4f1c09ab","cluster":"9b2f","writers":4,"bytes":64,"codec":"f32",)"
      R"("ack":"sync","started_ms":1})");
  ASSERT_TRUE(header) << header.error().to_string();
  EXPECT_EQ(header->scenario, "kill");
}

TEST(LedgerLine, one_line_whatever_the_error_says) {
  LedgerEvent event = outcome(LedgerOp::kFail, 0, 1, 2);
  event.error = "two\nlines, and \xff which is not UTF-8";
  const std::string line = ledger_line(event);
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  EXPECT_TRUE(parse_ledger_event(line));
}

TEST(LedgerLine, refuses_what_is_no_line_of_a_ledger) {
  for (const char* line :
       {"", "{", "[]", "7", "{}", R"({"op":"boom"})", R"({"op":"ok","writer":0,"seq":1})",
        R"({"op":"ok","writer":64,"seq":1,"index":1,"t_us":1})",
        R"({"op":"ok","writer":-1,"seq":1,"index":1,"t_us":1})",
        R"({"op":"kill","round":"one","node":"n1","t_us":1})"}) {
    const auto parsed = parse_ledger_event(line);
    ASSERT_FALSE(parsed) << line;
    EXPECT_EQ(parsed.error().code, Errc::kCorrupt) << line;
  }
  LedgerHeader odd = two_writers();
  odd.bytes = 6;
  EXPECT_FALSE(parse_ledger_header(ledger_line(odd))) << "not whole f32 values";
  LedgerHeader nobody = two_writers();
  nobody.writers = 0;
  EXPECT_FALSE(parse_ledger_header(ledger_line(nobody)));
}

TEST_F(LedgerFile, a_ledger_is_never_overwritten) {
  ASSERT_TRUE(Ledger::create(path_, two_writers()));
  const auto again = Ledger::create(path_, two_writers());
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, Errc::kConflict);
}

TEST_F(LedgerFile, times_never_decrease_and_no_line_is_lost_between_threads) {
  constexpr uint64_t kWrites = 500;
  auto ledger = Ledger::create(path_, two_writers());
  ASSERT_TRUE(ledger) << ledger.error().to_string();
  std::vector<std::thread> threads;
  for (unsigned writer = 0; writer < 2; ++writer) {
    threads.emplace_back([&ledger, writer] {
      for (uint64_t seq = 1; seq <= kWrites; ++seq) {
        EXPECT_TRUE((*ledger)->append(invoke(writer, seq, 0)));
        EXPECT_TRUE((*ledger)->append(outcome(LedgerOp::kOk, writer, seq, 0)));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE((*ledger)->sync());

  uint64_t last_us = 0;
  const auto header = read_ledger(path_, [&last_us](const LedgerEvent& event) -> Status {
    EXPECT_GE(event.t_us, last_us);
    last_us = event.t_us;
    return {};
  });
  ASSERT_TRUE(header) << header.error().to_string();
  EXPECT_EQ(*header, two_writers());
  EXPECT_EQ(writes().size(), 2 * kWrites);
}

TEST_F(LedgerFile, writes_come_with_their_outcomes_and_open_ones_are_unknown) {
  write(ledger_line(two_writers()) + ledger_line(invoke(0, 1, 10)) + ledger_line(invoke(1, 1, 11)) +
        ledger_line(outcome(LedgerOp::kFail, 1, 1, 12)) +
        ledger_line(round_event(LedgerOp::kStrike, 1, 13)) +
        ledger_line(outcome(LedgerOp::kOk, 0, 1, 14)) + ledger_line(invoke(1, 2, 15)));
  const auto found = writes();
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(found[0].outcome, LedgerOp::kFail);
  EXPECT_EQ(found[1].outcome, LedgerOp::kOk);
  EXPECT_EQ(found[1].key, "drill/4f1c09ab/w0/1");
  EXPECT_EQ(found[1].sha256, "00ff");
  EXPECT_EQ(found[2].outcome, LedgerOp::kUnknown);
  EXPECT_EQ(found[2].seq, 2U);
}

TEST_F(LedgerFile, a_last_line_without_its_end_does_not_count) {
  const std::string ok = ledger_line(outcome(LedgerOp::kOk, 0, 1, 14));
  const std::string before = ledger_line(two_writers()) + ledger_line(invoke(0, 1, 10));
  for (size_t kept = 0; kept < ok.size(); ++kept) {
    write(before + ok.substr(0, kept));
    const auto found = writes();
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found[0].outcome, LedgerOp::kUnknown) << kept;
  }
}

TEST_F(LedgerFile, damage_is_an_error_that_names_the_line) {
  write(ledger_line(two_writers()) + ledger_line(invoke(0, 1, 10)) + "{\"op\":\"o\n" +
        ledger_line(outcome(LedgerOp::kOk, 0, 1, 14)));
  const auto read = summarize_ledger(path_);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Errc::kCorrupt);
  EXPECT_NE(read.error().message.find("line 3"), std::string::npos) << read.error().message;
}

TEST_F(LedgerFile, an_outcome_nobody_asked_for_is_an_error) {
  const auto ignore = [](const LedgerWrite&) -> Status { return {}; };
  write(ledger_line(two_writers()) + ledger_line(outcome(LedgerOp::kOk, 0, 1, 14)));
  EXPECT_FALSE(read_ledger_writes(path_, ignore));
  write(ledger_line(two_writers()) + ledger_line(invoke(0, 1, 10)) +
        ledger_line(outcome(LedgerOp::kOk, 0, 2, 14)));
  EXPECT_FALSE(read_ledger_writes(path_, ignore));
  write(ledger_line(two_writers()) + ledger_line(invoke(0, 1, 10)) + ledger_line(invoke(0, 2, 11)));
  EXPECT_FALSE(read_ledger_writes(path_, ignore));
}

TEST_F(LedgerFile, a_missing_or_empty_file_is_an_error) {
  const auto missing = summarize_ledger(path_);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Errc::kIo);
  write("");
  const auto empty = summarize_ledger(path_);
  ASSERT_FALSE(empty);
  EXPECT_EQ(empty.error().code, Errc::kCorrupt);
}

LedgerSummary analyse(const std::vector<LedgerEvent>& events) {
  LedgerAnalysis analysis;
  for (const LedgerEvent& event : events) analysis.add(event);
  return analysis.finish(two_writers());
}

TEST(LedgerAnalysis, counts_outcomes_and_open_writes) {
  const auto summary = analyse({invoke(0, 1, 1), invoke(1, 1, 2), outcome(LedgerOp::kOk, 0, 1, 3),
                                outcome(LedgerOp::kFail, 1, 1, 4), invoke(0, 2, 5), invoke(1, 2, 6),
                                outcome(LedgerOp::kUnknown, 0, 2, 7)});
  EXPECT_EQ(summary.acknowledged, 1U);
  EXPECT_EQ(summary.failed, 1U);
  EXPECT_EQ(summary.unknown, 2U) << "one was reported so, one never came back";
  EXPECT_TRUE(summary.rounds.empty());
}

TEST(LedgerAnalysis, a_write_is_in_flight_only_if_it_is_open_before_and_after_the_signal) {
  const auto summary = analyse({
      invoke(0, 1, 1),
      invoke(1, 1, 2),
      round_event(LedgerOp::kStrike, 1, 3),
      outcome(LedgerOp::kOk, 1, 1, 4),  // answered before the signal was sent
      invoke(1, 2, 5),                  // begun after the line
      round_event(LedgerOp::kStruck, 1, 6),
      outcome(LedgerOp::kOk, 1, 2, 7),
      round_event(LedgerOp::kEffect, 1, 8),
      outcome(LedgerOp::kOk, 0, 1, 700),
      round_event(LedgerOp::kSteady, 1, 702),
      round_event(LedgerOp::kStrike, 2, 800),  // nothing under way
      round_event(LedgerOp::kStruck, 2, 801),
      invoke(0, 2, 802),
      round_event(LedgerOp::kEffect, 2, 803),
  });
  ASSERT_EQ(summary.rounds.size(), 2U);
  EXPECT_EQ(summary.rounds[0].in_flight, 1U);
  EXPECT_EQ(summary.rounds[1].in_flight, 0U);
}

TEST(LedgerAnalysis, an_election_may_be_faster_than_the_end_of_the_killed_process) {
  const auto summary = analyse({
      invoke(0, 1, 1),
      round_event(LedgerOp::kStrike, 1, 2),
      round_event(LedgerOp::kStruck, 1, 3),
      outcome(LedgerOp::kOk, 0, 1, 40),  // by the next primary
      round_event(LedgerOp::kEffect, 1, 50),
  });
  ASSERT_EQ(summary.rounds.size(), 1U);
  EXPECT_EQ(summary.rounds[0].in_flight, 1U);
}

TEST(LedgerAnalysis, a_look_again_begins_the_round_anew) {
  const auto summary = analyse({
      invoke(0, 1, 1),
      outcome(LedgerOp::kOk, 0, 1, 10 * kMs),
      invoke(0, 2, 11 * kMs),
      round_event(LedgerOp::kStrike, 1, 12 * kMs),
      outcome(LedgerOp::kOk, 0, 2, 110 * kMs),  // answered before the signal: it was not sent
      invoke(0, 3, 111 * kMs),
      round_event(LedgerOp::kStrike, 1, 112 * kMs),
      round_event(LedgerOp::kStruck, 1, 113 * kMs),
      round_event(LedgerOp::kEffect, 1, 114 * kMs),
      outcome(LedgerOp::kOk, 0, 3, 120 * kMs),
  });
  ASSERT_EQ(summary.rounds.size(), 1U);
  EXPECT_EQ(summary.rounds[0].struck_at_us, 112 * kMs);
  EXPECT_EQ(summary.rounds[0].in_flight, 1U);
  EXPECT_EQ(summary.rounds[0].gap_us, 10 * kMs) << "what was before the last look is no gap";
}

TEST(LedgerAnalysis, reads_ledgers_that_do_not_tell_of_the_signal) {
  const auto summary = analyse({
      invoke(0, 1, 1),
      invoke(1, 1, 2),
      round_event(LedgerOp::kStrike, 1, 3),
      outcome(LedgerOp::kOk, 1, 1, 4),
      round_event(LedgerOp::kEffect, 1, 6),
  });
  ASSERT_EQ(summary.rounds.size(), 1U);
  EXPECT_EQ(summary.rounds[0].in_flight, 1U);
}

TEST(LedgerAnalysis, gap_spans_the_blow) {
  const auto summary = analyse({
      invoke(0, 1, 1 * kMs), outcome(LedgerOp::kOk, 0, 1, 10 * kMs), invoke(0, 2, 11 * kMs),
      round_event(LedgerOp::kStrike, 1, 15 * kMs), round_event(LedgerOp::kEffect, 1, 16 * kMs),
      outcome(LedgerOp::kOk, 0, 2, 900 * kMs), invoke(0, 3, 901 * kMs),
      outcome(LedgerOp::kOk, 0, 3, 910 * kMs), round_event(LedgerOp::kSteady, 1, 911 * kMs),
      round_event(LedgerOp::kUndone, 1, 950 * kMs), invoke(0, 4, 951 * kMs),
      outcome(LedgerOp::kOk, 0, 4, 970 * kMs), round_event(LedgerOp::kCaughtUp, 1, 980 * kMs),
      invoke(0, 5, 981 * kMs), outcome(LedgerOp::kOk, 0, 5, 5000 * kMs),  // belongs to no round
  });
  ASSERT_EQ(summary.rounds.size(), 1U);
  const RoundSummary& round = summary.rounds[0];
  EXPECT_TRUE(round.complete());
  EXPECT_EQ(round.node, "n2");
  EXPECT_EQ(round.gap_us, 890 * kMs) << "from the last acknowledgement before to the first after";
  EXPECT_EQ(round.first_ack_after_us, 900 * kMs);
  EXPECT_EQ(round.rejoin_gap_us, 60 * kMs);
  EXPECT_EQ(round.struck_at_us, 15 * kMs);
  EXPECT_EQ(round.caught_up_at_us, 980 * kMs);
}

TEST(LedgerAnalysis, an_answer_already_under_way_does_not_hide_the_gap) {
  const auto summary = analyse({
      invoke(0, 1, 1),
      outcome(LedgerOp::kOk, 0, 1, 10 * kMs),
      invoke(0, 2, 11 * kMs),
      invoke(1, 1, 11 * kMs),
      round_event(LedgerOp::kStrike, 1, 15 * kMs),
      round_event(LedgerOp::kEffect, 1, 16 * kMs),
      outcome(LedgerOp::kOk, 0, 2, 17 * kMs),   // was in the socket's buffer
      outcome(LedgerOp::kOk, 1, 1, 817 * kMs),  // the new primary's first
      round_event(LedgerOp::kSteady, 1, 818 * kMs),
  });
  ASSERT_EQ(summary.rounds.size(), 1U);
  EXPECT_EQ(summary.rounds[0].gap_us, 800 * kMs);
  EXPECT_EQ(summary.rounds[0].first_ack_after_us, 817 * kMs);
  EXPECT_FALSE(summary.rounds[0].complete()) << "the node never came back";
}

TEST(LedgerAnalysis, knows_that_the_keys_are_removed) {
  EXPECT_FALSE(analyse({invoke(0, 1, 1)}).removed);
  EXPECT_TRUE(analyse({round_event(LedgerOp::kRemoved, 0, 1)}).removed);
}

TEST(DrillContent, is_finite_and_decided_by_its_arguments_alone) {
  const auto content = drill_content("4f1c09ab", 1, 7, 4096);
  ASSERT_EQ(content.size(), 4096U);
  EXPECT_EQ(content, drill_content("4f1c09ab", 1, 7, 4096));
  for (size_t at = 0; at < content.size(); at += sizeof(float)) {
    float value = 0;
    std::memcpy(&value, content.data() + at, sizeof value);
    ASSERT_TRUE(std::isfinite(value));
    ASSERT_GE(value, -1.0F);
    ASSERT_LT(value, 1.0F);
  }
}

// `drill verify` of an old ledger computes the content again, so the generator must never change.
TEST(DrillContent, never_changes) {
  EXPECT_EQ(sha256(drill_content("4f1c09ab", 1, 7, 4096)).hex(),
            "6ca55567d0129e1b874d4d4faef035b5c92b968989186cba4b06b068feb774fe");
}

TEST(DrillContent, differs_between_runs_writers_and_writes) {
  std::set<std::string> digests;
  for (const char* run : {"4f1c09ab", "4f1c09ac"}) {
    for (unsigned writer = 0; writer < 8; ++writer) {
      for (uint64_t seq = 1; seq <= 64; ++seq) {
        digests.insert(sha256(drill_content(run, writer, seq, 64)).hex());
      }
    }
  }
  EXPECT_EQ(digests.size(), 2U * 8U * 64U);
}

}  // namespace
}  // namespace ballast::kvctl
