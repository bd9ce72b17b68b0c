#include "client/kvctl/drill.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <thread>
#include <utility>

#include "client/kvctl/drill_check.h"
#include "client/kvctl/drill_faults.h"
#include "client/kvctl/drill_writers.h"
#include "client/kvctl/local_cluster.h"
#include "proto/base/check.h"
#include "proto/base/uuid.h"

namespace ballast::kvctl {
namespace {

using client::Ack;
using client::Client;
using client::ClusterStatus;
using client::ReadLevel;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kPollEvery{20};
// Looks for a write under way before the fault strikes all the same.
constexpr int kLooksMax = 100;
constexpr milliseconds kConvergeMax{600'000};
// Of every writer, before a fault: enough that all of them are in full flow.
constexpr uint64_t kAcksBefore = 3;
// Of every writer, after a fault. The first may belong to a write that was under way; a writer does
// one write after the other, so the second was begun after the fault.
constexpr uint64_t kAcksAfter = 2;
// Between two writes of a writer from then until all nodes have caught up: enough of them to see a
// pause, and few enough that a hundred rounds do not fill the disk.
constexpr milliseconds kPaceAfter{50};
constexpr std::array<std::pair<Scenario, std::string_view>, 4> kScenarioNames{{
    {Scenario::kKill, "kill"},
    {Scenario::kTransfer, "transfer"},
    {Scenario::kPause, "pause"},
    {Scenario::kRestartAll, "restart-all"},
}};
constexpr size_t kNodesMin = 3;  // with fewer, no majority outlives the primary

// ---- waiting for the cluster ----

// What keeps the nodes from having all applied `target`; empty: nothing.
std::string behind(const ClusterStatus& status, std::optional<uint64_t>& target) {
  for (const client::NodeStatus& node : status.nodes) {
    if (node.error) return fmt::format("'{}': {}", node.member.name, node.error->message);
  }
  const client::NodeStatus* const leader = status.leader();
  if (leader == nullptr) return "there is no leader";
  for (const client::NodeStatus& node : status.nodes) {
    if (node.role != leader->role || node.member.id == leader->member.id) continue;
    return fmt::format("'{}' still takes itself for the primary", node.member.name);
  }
  // The log grows while the writers write, so what counts is where it stood first.
  if (!target) target = leader->commit_index;
  for (const client::NodeStatus& node : status.nodes) {
    if (node.applied_index >= *target) continue;
    return fmt::format("'{}' has applied {} of {}", node.member.name, node.applied_index, *target);
  }
  return {};
}

// Until every node answers and has applied what the leader had committed. A node that was down
// may have much to catch up with while the writers go on, so it is given up only when it makes no
// progress. `cluster` may be null: it is asked whether a process that was started has exited.
Status wait_converged(Client& client, LocalCluster* cluster) {
  const auto end = Clock::now() + kConvergeMax;
  auto deadline = Clock::now() + kDrillPatience;
  std::optional<uint64_t> target;
  std::string last_reason;
  for (;;) {
    if (cluster != nullptr) BALLAST_TRY_STATUS(cluster->check_started());
    const auto status = client.status();
    std::string reason = status ? behind(*status, target) : status.error().message;
    if (reason.empty()) return {};
    const auto now = Clock::now();
    if (now > std::min(deadline, end)) {
      return fail(Errc::kDeadline, "the nodes do not catch up: {}", reason);
    }
    if (reason != last_reason) deadline = now + kDrillPatience;
    last_reason = std::move(reason);
    std::this_thread::sleep_for(kPollEvery);
  }
}

// ---- the drill ----

class Drill {
 public:
  Drill(const DrillOptions& options, const DrillNotes& notes, LocalCluster cluster,
        std::filesystem::path ballastd, Client client)
      : options_(options),
        notes_(notes),
        cluster_(std::move(cluster)),
        ballastd_(std::move(ballastd)),
        client_(std::move(client)),
        fault_(make_fault(options_, cluster_, client_, ballastd_)) {}
  Drill(const Drill&) = delete;
  Drill& operator=(const Drill&) = delete;

  Status preflight() {
    if (cluster_.nodes().size() < kNodesMin) {
      return fail(Errc::kRefused, "'{}' has {} nodes: to outlive its primary a cluster needs {}",
                  cluster_.dir().string(), cluster_.nodes().size(), kNodesMin);
    }
    BALLAST_TRY(const auto status, client_.status());
    if (status.cluster_uuid != cluster_.uuid()) {
      return fail(Errc::kRefused, "{} is answered by cluster {}, but '{}' holds {}",
                  cluster_.nodes().front().address, status.cluster_uuid, cluster_.dir().string(),
                  cluster_.uuid());
    }
    std::optional<uint64_t> target;
    if (const std::string reason = behind(status, target);
        status.leader() == nullptr || status.reachable() < status.nodes.size()) {
      return fail(Errc::kRefused,
                  "the cluster is not healthy, and a drill would make it worse: {}; see `kvctl "
                  "local status --dir {}`",
                  reason, cluster_.dir().string());
    }
    return {};
  }

  Result<DrillReport> run() {
    const std::string run_id = Uuid::random().to_string().substr(0, 8);
    DrillReport report;
    report.ledger = options_.ledger;
    if (report.ledger.empty()) report.ledger = fmt::format("drill-{}.ledger", run_id);
    const auto wall = std::chrono::system_clock::now().time_since_epoch();
    BALLAST_TRY(ledger_,
                Ledger::create(report.ledger,
                               {.run = run_id,
                                .scenario = std::string(scenario_name(options_.scenario)),
                                .cluster = cluster_.uuid(),
                                .writers = options_.writers,
                                .bytes = options_.bytes,
                                .codec = quant::codec_name(options_.codec),
                                .ack = std::string(client::ack_name(options_.ack)),
                                .started_ms = static_cast<uint64_t>(
                                    std::chrono::duration_cast<milliseconds>(wall).count())}));
    note_problem(report, attack(run_id));
    notes_("waiting for all nodes to have applied the same");
    note_problem(report, heal());
    note_problem(report, ledger_->sync());

    auto finished = finish(report);
    if (finished) return report;
    return fail_within(finished.error(),
                       "the drill can't be judged now; `kvctl drill verify {}` tries again",
                       report.ledger.string());
  }

 private:
  client::Options client_options() const {
    client::Options options;
    options.endpoints = cluster_.endpoints();
    options.deadline = options_.deadline;
    return options;
  }

  static void note_problem(DrillReport& report, const Status& status) {
    if (!status) report.problems.push_back(status.error().message);
  }

  Status attack(const std::string& run_id) {
    DrillWriters writers(options_, run_id, *ledger_);
    BALLAST_TRY_STATUS(writers.start(client_options()));
    for (uint64_t round = 1; round <= options_.rounds; ++round) {
      if (auto done = run_round(writers, round); !done) {
        return fail_within(done.error(), "round {}", round);
      }
    }
    return writers.stop();
  }

  Result<LocalNode> primary() {
    BALLAST_TRY(const auto status, client_.status());
    const client::NodeStatus* const leader = status.leader();
    if (leader == nullptr) return fail(Errc::kUnavailable, "there is no primary to strike");
    const auto node = std::ranges::find(cluster_.nodes(), leader->member.id, &LocalNode::id);
    if (node != cluster_.nodes().end()) return *node;
    return fail(Errc::kRefused, "the primary '{}' is no node of '{}'", leader->member.name,
                cluster_.dir().string());
  }

  Status note(LedgerOp op, uint64_t round, const LocalNode& node) {
    LedgerEvent event;
    event.op = op;
    event.round = round;
    event.node = node.name;
    return ledger_->append(event);
  }

  // Nothing that takes time stands between the line, the last look and the blow: a write that was
  // open at the line and was answered before the blow proves nothing.
  Status strike(DrillWriters& writers, uint64_t round, const LocalNode& node) {
    BALLAST_TRY_STATUS(fault_->aim(node));
    for (int look = 1;; ++look) {
      BALLAST_TRY(const DrillWriters::Open open, writers.wait_in_flight());
      BALLAST_TRY_STATUS(note(LedgerOp::kStrike, round, node));
      if (writers.any_still_open(open) || look == kLooksMax) break;
    }
    BALLAST_TRY_STATUS(fault_->strike());
    BALLAST_TRY_STATUS(note(LedgerOp::kStruck, round, node));
    BALLAST_TRY_STATUS(fault_->await_effect());
    return note(LedgerOp::kEffect, round, node);
  }

  Status run_round(DrillWriters& writers, uint64_t round) {
    notes_(fmt::format("round {} of {}: writing", round, options_.rounds));
    const DrillWriters::Counts at_begin = writers.acks();
    BALLAST_TRY_STATUS(writers.run_for(options_.before));
    BALLAST_TRY_STATUS(writers.wait_for_acks(at_begin, kAcksBefore, "before the fault"));
    BALLAST_TRY(const LocalNode node, primary());

    BALLAST_TRY_STATUS(strike(writers, round, node));
    const DrillWriters::Counts at_fault = writers.acks();
    notes_(fmt::format("round {} of {}: '{}' was the primary and {}", round, options_.rounds,
                       node.name, fault_->deed()));

    const auto recover = [&]() -> Status {
      BALLAST_TRY_STATUS(writers.wait_for_acks(at_fault, kAcksAfter, "after the fault"));
      BALLAST_TRY_STATUS(note(LedgerOp::kSteady, round, node));
      writers.set_pace(kPaceAfter);
      return writers.run_for(fault_->hold());
    };
    // sync_all is acknowledged by every voter, so it can't go on before the node is back.
    const bool goes_on = options_.ack == Ack::kSync && fault_->survivable();
    if (goes_on) BALLAST_TRY_STATUS(recover());
    BALLAST_TRY_STATUS(fault_->undo());
    BALLAST_TRY_STATUS(note(LedgerOp::kUndone, round, node));
    if (!goes_on) BALLAST_TRY_STATUS(recover());
    notes_(fmt::format("round {} of {}: the nodes catch up", round, options_.rounds));
    BALLAST_TRY_STATUS(wait_converged(client_, &cluster_));
    writers.set_pace({});
    BALLAST_TRY_STATUS(note(LedgerOp::kCaughtUp, round, node));
    return ledger_->sync();
  }

  // Whatever went wrong, the cluster is left with all of its nodes.
  Status heal() {
    BALLAST_TRY_STATUS(fault_->undo());
    for (const LocalNode& node : cluster_.nodes()) {
      BALLAST_TRY_STATUS(cluster_.start(node, ballastd_));
    }
    return wait_converged(client_, &cluster_);
  }

  Status finish(DrillReport& report) {
    BALLAST_TRY(report.summary, summarize_ledger(report.ledger));
    BALLAST_TRY(report.findings, check_cluster(client_, client_options(), report.ledger,
                                               report.summary.header, notes_));
    judge(report);
    // The keys of a drill that failed are the evidence.
    if (options_.keep || report.verdict == Verdict::kFail) return {};
    notes_("removing the keys");
    if (auto removed = remove_keys(client_, report.ledger, report.summary.header); !removed) {
      report.keys_left = removed.error();
      return {};
    }
    LedgerEvent event;
    event.op = LedgerOp::kRemoved;
    BALLAST_TRY_STATUS(ledger_->append(event));
    return ledger_->sync();
  }

  const DrillOptions& options_;
  const DrillNotes& notes_;
  LocalCluster cluster_;
  std::filesystem::path ballastd_;
  Client client_;
  std::unique_ptr<Fault> fault_;
  std::unique_ptr<Ledger> ledger_;
};

}  // namespace

std::string_view scenario_name(Scenario scenario) {
  for (const auto& [known, name] : kScenarioNames) {
    if (known == scenario) return name;
  }
  return {};
}

Result<Scenario> parse_scenario(std::string_view name) {
  for (const auto& [scenario, known] : kScenarioNames) {
    if (known == name) return scenario;
  }
  return fail(Errc::kInvalidArgument,
              "'{}' is no scenario: choose kill, transfer, pause or restart-all", name);
}

uint64_t DrillFindings::corrupt() const {
  uint64_t sum = wrong;
  for (const NodeFindings& node : nodes) sum += node.wrong + node.report.damaged.size();
  return sum;
}

bool DrillFindings::intact() const {
  return lost == 0 && corrupt() == 0 &&
         std::ranges::all_of(nodes, [](const NodeFindings& node) { return node.missing == 0; });
}

std::string_view verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPass: return "PASS";
    case Verdict::kFail: return "FAIL";
    case Verdict::kInconclusive: return "INCONCLUSIVE";
  }
  return "unknown";
}

namespace {

std::vector<std::string> failures(const DrillReport& report) {
  std::vector<std::string> reasons = report.problems;
  const DrillFindings& findings = report.findings;
  if (findings.lost > 0) {
    reasons.push_back(fmt::format("{} acknowledged writes are lost", findings.lost));
  }
  if (findings.corrupt() > 0) {
    reasons.push_back(fmt::format("{} wrong contents or damaged blocks", findings.corrupt()));
  }
  if (findings.failed_present > 0) {
    reasons.push_back(fmt::format("{} writes are there although they were reported as failed",
                                  findings.failed_present));
  }
  if (findings.nodes.empty()) reasons.push_back("no node was checked");
  for (const NodeFindings& node : findings.nodes) {
    const client::VerifyReport& first = findings.nodes.front().report;
    const std::string& name = node.member.name;
    if (node.missing > 0) {
      reasons.push_back(fmt::format("'{}' lacks {} acknowledged writes", name, node.missing));
    }
    if (node.report.error) {
      reasons.push_back(fmt::format("'{}' was not verified: {}", name, node.report.error->message));
    } else if (!first.error && node.report.applied_index != first.applied_index) {
      reasons.push_back(fmt::format("'{}' stays at index {}, not {}", name,
                                    node.report.applied_index, first.applied_index));
    } else if (!first.error && node.report.state != first.state) {
      reasons.push_back(fmt::format("'{}' and '{}' have different states at index {}", name,
                                    findings.nodes.front().member.name, first.applied_index));
    }
  }
  for (const RoundSummary& round : report.summary.rounds) {
    if (!round.complete()) reasons.push_back(fmt::format("round {} did not end", round.round));
  }
  return reasons;
}

}  // namespace

void judge(DrillReport& report) {
  report.reasons = failures(report);
  report.verdict = report.reasons.empty() ? Verdict::kPass : Verdict::kFail;
  if (report.verdict == Verdict::kFail) return;
  if (report.summary.rounds.empty()) report.reasons.push_back("there was no round");
  for (const RoundSummary& round : report.summary.rounds) {
    if (round.in_flight > 0) continue;
    report.reasons.push_back(
        fmt::format("no write was in flight at the fault of round {}", round.round));
  }
  if (!report.reasons.empty()) report.verdict = Verdict::kInconclusive;
}

uint64_t percentile(const std::vector<uint64_t>& sorted, double percent) {
  BALLAST_CHECK(!sorted.empty(), "a percentile of nothing");
  const double rank = std::ceil(percent * static_cast<double>(sorted.size()) / 100);
  return sorted[static_cast<size_t>(std::clamp(rank, 1.0, static_cast<double>(sorted.size()))) - 1];
}

Result<DrillReport> run_drill(const DrillOptions& options, const DrillNotes& notes) {
  BALLAST_TRY(auto cluster, LocalCluster::load(options.dir));
  BALLAST_TRY(auto ballastd, find_ballastd(options.ballastd));
  for (const LocalNode& node : cluster.nodes()) {
    if (cluster.running(node)) continue;
    return fail(Errc::kRefused, "node '{}' does not run: start it with `kvctl local up --dir {}`",
                node.name, options.dir.string());
  }
  client::Options connection;
  connection.endpoints = cluster.endpoints();
  connection.deadline = options.deadline;
  auto client = Client::connect(connection);
  if (!client) return fail(Errc::kRefused, "no node answers: {}", client.error().message);
  Drill drill(options, notes, std::move(cluster), std::move(ballastd), *std::move(client));
  BALLAST_TRY_STATUS(drill.preflight());
  return drill.run();
}

Result<DrillReport> verify_drill(const std::filesystem::path& ledger,
                                 const client::Options& options, const DrillNotes& notes) {
  DrillReport report;
  report.ledger = ledger;
  BALLAST_TRY(report.summary, summarize_ledger(ledger));
  if (report.summary.removed) {
    return fail(Errc::kRefused, "the run of '{}' removed its keys: run the drill with --keep",
                ledger.string());
  }
  BALLAST_TRY(auto client, Client::connect(options));
  BALLAST_TRY(const auto status, client.status());
  if (status.cluster_uuid != report.summary.header.cluster) {
    return fail(Errc::kRefused, "'{}' is of cluster {}, but --endpoints lead to {}",
                ledger.string(), report.summary.header.cluster, status.cluster_uuid);
  }
  BALLAST_TRY_STATUS(wait_converged(client, nullptr));
  BALLAST_TRY(report.findings,
              check_cluster(client, options, ledger, report.summary.header, notes));
  judge(report);
  return report;
}

}  // namespace ballast::kvctl
