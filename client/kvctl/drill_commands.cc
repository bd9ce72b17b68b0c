// kvctl drill run|verify: break a cluster on purpose and prove that nothing is lost.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <utility>

#include "client/kvctl/command.h"
#include "client/kvctl/drill.h"

namespace ballast::kvctl {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kTensorBytesMax = 256ULL << 20;

struct RunOptions {
  std::string scenario;
  std::string dir;
  std::string codec = "f32";
  std::string ack = "sync";
  std::string ledger;
  double seconds_before = 1;
  double seconds_paused = 3;
  DrillOptions drill;
};

Result<DrillOptions> checked(const RunOptions& given, const Context& context) {
  DrillOptions options = given.drill;
  options.dir = given.dir;
  options.ledger = given.ledger;
  options.deadline = context.deadline;
  options.before = std::chrono::milliseconds(static_cast<int64_t>(given.seconds_before * 1000));
  options.pause = std::chrono::milliseconds(static_cast<int64_t>(given.seconds_paused * 1000));
  BALLAST_TRY(options.scenario, parse_scenario(given.scenario));
  BALLAST_TRY(options.codec, quant::parse_codec(given.codec));
  if (options.codec.id != quant::CodecId::kF32 && options.codec.id != quant::CodecId::kRaw) {
    return fail(Errc::kInvalidArgument,
                "codec '{}' loses bits, and the drill compares bytes: choose f32 or raw",
                given.codec);
  }
  BALLAST_TRY(options.ack, client::parse_ack(given.ack));
  if (options.ack == client::Ack::kAsync) {
    return fail(Errc::kInvalidArgument,
                "async writes may be lost, so there is nothing to prove: choose sync or sync_all");
  }
  if (options.bytes == 0 || options.bytes % sizeof(float) != 0 || options.bytes > kTensorBytesMax) {
    return fail(Errc::kInvalidArgument, "--size is {} bytes: choose a multiple of 4 up to {}",
                options.bytes, human_bytes(kTensorBytesMax));
  }
  return options;
}

// Quiet in a pipe.
DrillNotes terminal_notes() {
  if (::isatty(STDERR_FILENO) == 0) return [](const std::string&) {};
  return [](const std::string& what) { fmt::print(stderr, "{}\n", what); };
}

double to_ms(uint64_t us) { return static_cast<double>(us) / 1000; }

Json optional_ms(const std::optional<uint64_t>& us) { return us ? Json(to_ms(*us)) : Json(); }

std::string ms_cell(const std::optional<uint64_t>& us) {
  return us ? fmt::format("{:.1f}", to_ms(*us)) : "-";
}

std::vector<uint64_t> sorted_gaps(const LedgerSummary& summary) {
  std::vector<uint64_t> gaps;
  for (const RoundSummary& round : summary.rounds) gaps.push_back(round.gap_us);
  std::ranges::sort(gaps);
  return gaps;
}

Json rounds_json(const LedgerSummary& summary) {
  Json rounds = Json::array();
  for (const RoundSummary& round : summary.rounds) {
    rounds.push_back({{"round", round.round},
                      {"node", round.node},
                      {"in_flight", round.in_flight},
                      {"gap_ms", to_ms(round.gap_us)},
                      {"struck_at_ms", to_ms(round.struck_at_us)},
                      {"first_ack_after_ms", to_ms(round.first_ack_after_us)},
                      {"steady_at_ms", optional_ms(round.steady_at_us)},
                      {"undone_at_ms", optional_ms(round.undone_at_us)},
                      {"caught_up_at_ms", optional_ms(round.caught_up_at_us)},
                      {"rejoin_gap_ms", to_ms(round.rejoin_gap_us)}});
  }
  return rounds;
}

Json nodes_json(const DrillFindings& findings) {
  Json nodes = Json::array();
  for (const NodeFindings& node : findings.nodes) {
    Json entry{{"name", node.member.name},
               {"missing", node.missing},
               {"wrong", node.wrong},
               {"blocks_verified", node.report.blocks},
               {"bytes_verified", node.report.bytes},
               {"damaged", node.report.damaged.size()},
               {"applied_index", node.report.applied_index},
               {"state", node.report.state.hex()}};
    if (node.report.error) entry["error"] = node.report.error->to_string();
    nodes.push_back(std::move(entry));
  }
  return nodes;
}

void print_report_json(const DrillReport& report) {
  const LedgerSummary& summary = report.summary;
  Json gap;
  if (const auto gaps = sorted_gaps(summary); !gaps.empty()) {
    gap = {{"p50", to_ms(percentile(gaps, 50))},
           {"p99", to_ms(percentile(gaps, 99))},
           {"max", to_ms(gaps.back())}};
  }
  print_json({{"scenario", summary.header.scenario},
              {"verdict", verdict_name(report.verdict)},
              {"reasons", report.reasons},
              {"run", summary.header.run},
              {"ledger", report.ledger.string()},
              {"ack", summary.header.ack},
              {"rounds", summary.rounds.size()},
              {"writes_acknowledged", summary.acknowledged},
              {"acknowledged_lost", report.findings.lost},
              {"unknown", summary.unknown},
              {"unknown_present", report.findings.unknown_present},
              {"failed", summary.failed},
              {"failed_present", report.findings.failed_present},
              {"corrupt", report.findings.corrupt()},
              {"gap_ms", std::move(gap)},
              {"timeline", rounds_json(summary)},
              {"nodes", nodes_json(report.findings)}});
}

void print_report_table(const DrillReport& report) {
  const LedgerSummary& summary = report.summary;
  Table rounds{.header = {"ROUND", "PRIMARY", "IN FLIGHT", "GAP MS", "REJOIN GAP MS",
                          "STRUCK AT MS", "FIRST ACK AT MS", "CAUGHT UP AT MS"}};
  for (const RoundSummary& round : summary.rounds) {
    rounds.rows.push_back({std::to_string(round.round), round.node, std::to_string(round.in_flight),
                           ms_cell(round.gap_us), ms_cell(round.rejoin_gap_us),
                           ms_cell(round.struck_at_us), ms_cell(round.first_ack_after_us),
                           ms_cell(round.caught_up_at_us)});
  }
  rounds.print();
  fmt::print("\n");

  Table nodes{
      .header = {"NODE", "MISSING", "WRONG", "BLOCKS VERIFIED", "DAMAGED", "APPLIED", "STATE"}};
  for (const NodeFindings& node : report.findings.nodes) {
    nodes.rows.push_back({node.member.name, std::to_string(node.missing),
                          std::to_string(node.wrong), std::to_string(node.report.blocks),
                          std::to_string(node.report.damaged.size()),
                          std::to_string(node.report.applied_index),
                          node.report.error ? "not verified" : node.report.state.brief()});
  }
  nodes.print();

  fmt::print(
      "\nrounds {}, writes acknowledged {}, acknowledged and lost {}, unknown {} ({} of them "
      "applied), failed {}, corrupt {}\n",
      summary.rounds.size(), summary.acknowledged, report.findings.lost, summary.unknown,
      report.findings.unknown_present, summary.failed, report.findings.corrupt());
  if (const auto gaps = sorted_gaps(summary); !gaps.empty()) {
    fmt::print("gap in acknowledged writes: p50 {:.1f} ms, p99 {:.1f} ms, max {:.1f} ms\n",
               to_ms(percentile(gaps, 50)), to_ms(percentile(gaps, 99)), to_ms(gaps.back()));
  }
  fmt::print("ledger: {}\nverdict: {}\n", report.ledger.string(), verdict_name(report.verdict));
}

Status conclude(const DrillReport& report, const Context& context) {
  if (context.json) {
    print_report_json(report);
  } else {
    print_report_table(report);
  }
  if (report.keys_left) {
    fmt::print(stderr, "warning: keys under 'drill/{}/' are left: {}\n", report.summary.header.run,
               report.keys_left->message);
  }
  if (report.verdict == Verdict::kPass) return {};
  if (report.verdict == Verdict::kInconclusive) {
    return fail(Errc::kRefused, "the drill proves nothing: {}; run it again",
                fmt::join(report.reasons, "; "));
  }
  // A cluster that took too long has lost nothing yet.
  const Errc code = report.findings.intact() ? Errc::kIo : Errc::kCorrupt;
  return fail(code, "the drill failed: {}; the ledger is '{}'", fmt::join(report.reasons, "; "),
              report.ledger.string());
}

void add_run(CLI::App& drill, Context& context) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* const command = drill.add_subcommand(
      "run", "Break a local cluster under load, again and again, and check every write");
  command
      ->add_option("SCENARIO", options->scenario,
                   "kill: SIGKILL to the primary; transfer: it hands over; pause: SIGSTOP to it, "
                   "and SIGCONT later; restart-all: SIGKILL to all nodes")
      ->required()
      ->check(CLI::IsMember({"kill", "transfer", "pause", "restart-all"}));
  command->add_option("--dir", options->dir, "The folder of the local cluster")->required();
  command->add_option("--rounds", options->drill.rounds, "Faults, one after the other")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  command->add_option("--writers", options->drill.writers, "Threads that write")
      ->check(CLI::Range(1U, kDrillWritersMax))
      ->capture_default_str();
  command->add_option("--size", options->drill.bytes, "Bytes of a tensor (default 256KiB)")
      ->transform(CLI::AsSizeValue(false));
  command->add_option("--codec", options->codec, "f32 or raw")->capture_default_str();
  command->add_option("--ack", options->ack, "sync or sync_all")->capture_default_str();
  command->add_option("--seconds-before", options->seconds_before, "Of writing before each fault")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  command
      ->add_option("--for", options->seconds_paused,
                   "pause: seconds of writing without the frozen primary")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  command->add_option("--ledger", options->ledger, "The ledger (default: ./drill-RUN.ledger)");
  command->add_option("--ballastd", options->drill.ballastd,
                      "The server (default: $BALLASTD, else beside kvctl)");
  command->add_flag("--keep", options->drill.keep, "Leave the keys, for drill verify");
  command->callback([options, &context] {
    context.run = [options, &context]() -> Status {
      BALLAST_TRY(const auto drill_options, checked(*options, context));
      BALLAST_TRY(const auto report, run_drill(drill_options, terminal_notes()));
      return conclude(report, context);
    };
  });
}

void add_verify(CLI::App& drill, Context& context) {
  auto ledger = std::make_shared<std::string>();
  CLI::App* const command =
      drill.add_subcommand("verify", "Check the writes of a ledger against the cluster again");
  command->add_option("LEDGER", *ledger, "What drill run --keep has written")->required();
  command->callback([ledger, &context] {
    context.run = [ledger, &context]() -> Status {
      if (context.endpoints.empty()) {
        return fail(Errc::kInvalidArgument,
                    "no endpoint is given: use --endpoints or set BALLAST_ENDPOINTS");
      }
      client::Options options;
      options.endpoints = context.endpoints;
      options.deadline = context.deadline;
      BALLAST_TRY(const auto report, verify_drill(*ledger, options, terminal_notes()));
      return conclude(report, context);
    };
  });
}

}  // namespace

void add_drill_commands(CLI::App& app, Context& context) {
  CLI::App* const drill =
      app.add_subcommand("drill", "Break a cluster on purpose and prove that nothing is lost");
  drill->require_subcommand(1);
  add_run(*drill, context);
  add_verify(*drill, context);
}

}  // namespace ballast::kvctl
