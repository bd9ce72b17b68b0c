#include "client/kvctl/drill.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <thread>
#include <utility>

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

constexpr milliseconds kPollEvery{50};
// Looks for a write under way before the kill is sent all the same.
constexpr int kLooksMax = 100;
constexpr milliseconds kConvergeMax{600'000};
// How long acknowledgements must go on before the killed node comes back.
constexpr milliseconds kSettle{500};
// Of every writer, before a kill: enough that all of them are in full flow.
constexpr uint64_t kAcksBeforeKill = 3;
// Of every writer, after a kill. The first may belong to a write that was under way; a writer does
// one write after the other, so the second was begun after the kill.
constexpr uint64_t kAcksAfterKill = 2;
constexpr unsigned kCheckThreadsMax = 8;
constexpr size_t kNodesMin = 3;  // with fewer, no majority outlives the primary

// ---- waiting for the cluster ----

// What keeps the nodes from having all applied `target`; empty: nothing.
std::string behind(const ClusterStatus& status, std::optional<uint64_t>& target) {
  for (const client::NodeStatus& node : status.nodes) {
    if (node.error) return fmt::format("'{}': {}", node.member.name, node.error->message);
  }
  const client::NodeStatus* const leader = status.leader();
  if (leader == nullptr) return "there is no leader";
  // The log grows while the writers write, so what counts is where it stood first.
  if (!target) target = leader->commit_index;
  for (const client::NodeStatus& node : status.nodes) {
    if (node.applied_index >= *target) continue;
    return fmt::format("'{}' has applied {} of {}", node.member.name, node.applied_index, *target);
  }
  return {};
}

// Until every node answers and has applied what the leader had committed. A node that was killed
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

// ---- checking ----

struct Tally {
  uint64_t missing = 0;
  uint64_t wrong = 0;
  uint64_t unknown_present = 0;
  uint64_t failed_present = 0;
};

enum class Found { kAbsent, kRight, kWrong };

Result<Found> look_up(Client& client, const LedgerWrite& write, ReadLevel level) {
  client::ReadOptions options;
  options.read = level;
  const auto tensor = client.get(write.key, options);
  if (tensor) return sha256(tensor->data).hex() == write.sha256 ? Found::kRight : Found::kWrong;
  if (tensor.error().code == Errc::kNotFound) return Found::kAbsent;
  if (tensor.error().code == Errc::kCorrupt) return Found::kWrong;
  return fail_within(tensor.error(), "cannot read key '{}' to check it", write.key);
}

void count(Tally& tally, const LedgerWrite& write, Found found) {
  if (found == Found::kWrong) ++tally.wrong;
  if (found == Found::kAbsent && write.outcome == LedgerOp::kOk) ++tally.missing;
  if (found == Found::kAbsent) return;
  if (write.outcome == LedgerOp::kUnknown) ++tally.unknown_present;
  if (write.outcome == LedgerOp::kFail) ++tally.failed_present;
}

// A ledger that was tampered with, or a generator that has changed, must not pass for a proof.
Status check_entry(const LedgerHeader& header, const LedgerWrite& write) {
  const auto content = drill_content(header.run, write.writer, write.seq, header.bytes);
  if (write.key == drill_key(header.run, write.writer, write.seq) &&
      write.sha256 == sha256(content).hex()) {
    return {};
  }
  return fail(Errc::kCorrupt, "the ledger's line for key '{}' is not what the drill wrote",
              write.key);
}

// Reads the ledger on several threads at once, each of which takes the writes of its writers, so
// that none of them holds more than one line. `each` gets the thread's number.
Status for_each_write(const std::filesystem::path& ledger, unsigned threads,
                      const std::function<Status(unsigned thread, const LedgerWrite&)>& each) {
  std::vector<Status> results(threads);
  std::vector<std::thread> running;
  for (unsigned thread = 0; thread < threads; ++thread) {
    running.emplace_back([&, thread] {
      results[thread] = read_ledger_writes(ledger, [&](const LedgerWrite& write) -> Status {
        return write.writer % threads == thread ? each(thread, write) : Status{};
      });
    });
  }
  for (std::thread& thread : running) thread.join();
  for (Status& result : results) BALLAST_TRY_STATUS(std::move(result));
  return {};
}

unsigned check_threads(const LedgerHeader& header) {
  return std::min(header.writers, kCheckThreadsMax);
}

Result<Tally> check_writes(Client& client, const std::filesystem::path& ledger,
                           const LedgerHeader& header, ReadLevel level) {
  std::vector<Tally> tallies(check_threads(header));
  BALLAST_TRY_STATUS(for_each_write(ledger, check_threads(header),
                                    [&](unsigned thread, const LedgerWrite& write) -> Status {
                                      if (level == ReadLevel::kLinearizable)
                                        BALLAST_TRY_STATUS(check_entry(header, write));
                                      BALLAST_TRY(const Found found, look_up(client, write, level));
                                      count(tallies[thread], write, found);
                                      return {};
                                    }));
  Tally sum;
  for (const Tally& tally : tallies) {
    sum.missing += tally.missing;
    sum.wrong += tally.wrong;
    sum.unknown_present += tally.unknown_present;
    sum.failed_present += tally.failed_present;
  }
  return sum;
}

bool same_index(const std::vector<client::VerifyReport>& reports) {
  return std::ranges::all_of(reports, [&](const client::VerifyReport& report) {
    return !report.error && report.applied_index == reports.front().applied_index;
  });
}

// States can be compared only where the nodes have applied the same entries, so it is tried again
// until they have. Blocks are read only then: that may take long.
Result<std::vector<client::VerifyReport>> compare_states(Client& client) {
  const auto deadline = Clock::now() + kDrillPatience;
  for (;;) {
    BALLAST_TRY(auto reports, client.verify(/*deep=*/false));
    const bool late = Clock::now() > deadline;
    if (same_index(reports) || late) {
      BALLAST_TRY(reports, client.verify(/*deep=*/true));
      if (same_index(reports) || late) return reports;
    }
    std::this_thread::sleep_for(kPollEvery);
  }
}

Result<DrillFindings> check_cluster(Client& client, const client::Options& options,
                                    const std::filesystem::path& ledger, const LedgerHeader& header,
                                    const DrillNotes& notes) {
  DrillFindings findings;
  notes("reading every acknowledged write, linearizably");
  BALLAST_TRY(const Tally tally, check_writes(client, ledger, header, ReadLevel::kLinearizable));
  findings.lost = tally.missing;
  findings.wrong = tally.wrong;
  findings.unknown_present = tally.unknown_present;
  findings.failed_present = tally.failed_present;
  for (const client::Member& member : client.members()) {
    notes(fmt::format("reading every acknowledged write from '{}' alone", member.name));
    client::Options alone = options;
    alone.endpoints = {member.address};
    alone.pinned = true;
    BALLAST_TRY(auto node, Client::connect(alone));
    BALLAST_TRY(const Tally own, check_writes(node, ledger, header, ReadLevel::kAny));
    findings.nodes.push_back({.member = member, .missing = own.missing, .wrong = own.wrong});
  }
  notes("comparing the nodes' blocks and states");
  BALLAST_TRY(const auto reports, compare_states(client));
  for (NodeFindings& node : findings.nodes) {
    const auto report = std::ranges::find(reports, node.member.id,
                                          [](const auto& entry) { return entry.member.id; });
    if (report == reports.end()) {
      node.report.error = Error{Errc::kUnavailable, "it gave no report"};
    } else {
      node.report = *report;
    }
  }
  return findings;
}

// Removes the run's keys. Every removal is only taken into the log, and each thread waits for its
// last one to be durable: what is before it is durable then too.
Status remove_keys(Client& client, const std::filesystem::path& ledger,
                   const LedgerHeader& header) {
  std::vector<std::optional<client::Receipt>> last(check_threads(header));
  BALLAST_TRY_STATUS(for_each_write(
      ledger, check_threads(header), [&](unsigned thread, const LedgerWrite& write) -> Status {
        auto removed = client.remove(write.key, Ack::kAsync);
        if (removed) last[thread] = *removed;
        if (removed || removed.error().code == Errc::kNotFound) return {};
        return fail_within(removed.error(), "cannot remove key '{}'", write.key);
      }));
  for (const auto& receipt : last) {
    if (!receipt) continue;
    BALLAST_TRY([[maybe_unused]] const auto durable, client.wait(*receipt, Ack::kSync));
  }
  return {};
}

// ---- the kill drill ----

class KillDrill {
 public:
  KillDrill(const DrillOptions& options, const DrillNotes& notes, LocalCluster cluster,
            std::filesystem::path ballastd, Client client)
      : options_(options),
        notes_(notes),
        cluster_(std::move(cluster)),
        ballastd_(std::move(ballastd)),
        client_(std::move(client)) {}

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
    if (leader == nullptr) return fail(Errc::kUnavailable, "there is no primary to kill");
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

  // Nothing that takes time stands between the line, the last look and the signal: a write that was
  // open at the line and was answered before the signal proves nothing.
  Status kill(DrillWriters& writers, uint64_t round, const LocalNode& node) {
    BALLAST_TRY(const LocalCluster::Target target, cluster_.aim(node));
    for (int look = 1;; ++look) {
      BALLAST_TRY(const DrillWriters::Open open, writers.wait_in_flight());
      BALLAST_TRY_STATUS(note(LedgerOp::kKill, round, node));
      if (writers.any_still_open(open) || look == kLooksMax) break;
    }
    BALLAST_TRY_STATUS(cluster_.strike(target));
    BALLAST_TRY_STATUS(note(LedgerOp::kSignalled, round, node));
    BALLAST_TRY_STATUS(cluster_.wait_gone(target));
    return note(LedgerOp::kKilled, round, node);
  }

  Status run_round(DrillWriters& writers, uint64_t round) {
    notes_(fmt::format("round {} of {}: writing", round, options_.rounds));
    const DrillWriters::Counts at_begin = writers.acks();
    BALLAST_TRY_STATUS(writers.run_for(options_.before));
    BALLAST_TRY_STATUS(writers.wait_for_acks(at_begin, kAcksBeforeKill, "before the kill"));
    BALLAST_TRY(const LocalNode node, primary());

    BALLAST_TRY_STATUS(kill(writers, round, node));
    const DrillWriters::Counts at_kill = writers.acks();
    notes_(fmt::format("round {} of {}: '{}' was the primary and is killed", round, options_.rounds,
                       node.name));

    const auto recover = [&]() -> Status {
      BALLAST_TRY_STATUS(writers.wait_for_acks(at_kill, kAcksAfterKill, "after the kill"));
      BALLAST_TRY_STATUS(note(LedgerOp::kSteady, round, node));
      return writers.run_for(kSettle);
    };
    // sync_all is acknowledged by every voter, so it can't go on before the node is back.
    if (options_.ack == Ack::kSync) BALLAST_TRY_STATUS(recover());
    BALLAST_TRY_STATUS(cluster_.start(node, ballastd_));
    BALLAST_TRY_STATUS(note(LedgerOp::kRestart, round, node));
    if (options_.ack != Ack::kSync) BALLAST_TRY_STATUS(recover());
    notes_(fmt::format("round {} of {}: '{}' is back and catches up", round, options_.rounds,
                       node.name));
    BALLAST_TRY_STATUS(wait_converged(client_, &cluster_));
    BALLAST_TRY_STATUS(note(LedgerOp::kCaughtUp, round, node));
    return ledger_->sync();
  }

  // Whatever went wrong, the cluster is left with all of its nodes.
  Status heal() {
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
  std::unique_ptr<Ledger> ledger_;
};

}  // namespace

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
  if (report.summary.rounds.empty()) report.reasons.push_back("no node was killed");
  for (const RoundSummary& round : report.summary.rounds) {
    if (round.in_flight > 0) continue;
    report.reasons.push_back(
        fmt::format("no write was in flight at the kill of round {}", round.round));
  }
  if (!report.reasons.empty()) report.verdict = Verdict::kInconclusive;
}

uint64_t percentile(const std::vector<uint64_t>& sorted, double percent) {
  BALLAST_CHECK(!sorted.empty(), "a percentile of nothing");
  const double rank = std::ceil(percent * static_cast<double>(sorted.size()) / 100);
  return sorted[static_cast<size_t>(std::clamp(rank, 1.0, static_cast<double>(sorted.size()))) - 1];
}

Result<DrillReport> run_kill_drill(const DrillOptions& options, const DrillNotes& notes) {
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
  KillDrill drill(options, notes, std::move(cluster), std::move(ballastd), *std::move(client));
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
