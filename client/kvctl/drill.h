// Drills: break a cluster on purpose while clients write to it, and then prove from a ledger kept
// outside of it that nothing it acknowledged is lost.
//
// Per round: writers put tensors of unique content with sync acknowledgements; once they are in
// full flow the fault of the scenario strikes; the writers must be acknowledged again; the fault is
// undone and every node must catch up. After the last round every acknowledged write is read back,
// linearizably and on each node alone, and the nodes compare their states.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "client/client.h"
#include "client/kvctl/ledger.h"
#include "proto/base/result.h"

namespace ballast::kvctl {

enum class Scenario {
  kKill,        // SIGKILL to the primary; it is started again
  kTransfer,    // the primary hands over, since it is asked to
  kPause,       // SIGSTOP to the primary; SIGCONT later
  kRestartAll,  // SIGKILL to all nodes at once; they are started again
};
std::string_view scenario_name(Scenario scenario);  // "restart-all"
// Errors: kInvalidArgument.
Result<Scenario> parse_scenario(std::string_view name);

struct DrillOptions {
  Scenario scenario = Scenario::kKill;
  std::filesystem::path dir;  // of a local cluster
  std::string ballastd;       // the program that restarts a node; empty: see find_ballastd()
  unsigned rounds = 1;
  unsigned writers = 4;
  uint64_t bytes = 256 * 1024;  // of each tensor
  client::CodecSpec codec;      // an exact one: the drill compares bytes
  client::Ack ack = client::Ack::kSync;
  std::chrono::milliseconds before{1000};  // of writing, before each fault
  // kPause: how long writes go on without the frozen primary before it may go on.
  std::chrono::milliseconds pause{3000};
  std::filesystem::path ledger;           // empty: drill-RUN.ledger in the working directory
  bool keep = false;                      // the keys
  client::milliseconds deadline{30'000};  // of each write and read
};

// What one node has of the writes, read from it alone.
struct NodeFindings {
  client::Member member;
  uint64_t missing = 0;  // acknowledged writes that it does not have
  uint64_t wrong = 0;    // writes that it has with other bytes
  client::VerifyReport report;
};

struct DrillFindings {
  // Linearizable reads.
  uint64_t lost = 0;             // acknowledged and not there
  uint64_t wrong = 0;            // there with other bytes
  uint64_t unknown_present = 0;  // of the writes whose outcome is unknown
  uint64_t failed_present = 0;   // there, though the store said that nothing had happened
  std::vector<NodeFindings> nodes;

  uint64_t corrupt() const;  // wrong contents anywhere, and damaged blocks
  bool intact() const;       // nothing lost or corrupt, on any node
};

enum class Verdict { kPass, kFail, kInconclusive };
std::string_view verdict_name(Verdict verdict);  // "PASS"

struct DrillReport {
  std::filesystem::path ledger;
  LedgerSummary summary;
  DrillFindings findings;
  std::vector<std::string> problems;  // what went wrong besides the findings
  Verdict verdict = Verdict::kFail;
  std::vector<std::string> reasons;  // why it is not PASS
  std::optional<Error> keys_left;    // why keys that should be gone are not
};

// What is going on, for a person who waits.
using DrillNotes = std::function<void(const std::string&)>;

// Errors: kRefused if the cluster is not healthy to begin with; others if the drill could not be
// brought to an end. A drill that ended has a report, whatever its verdict.
Result<DrillReport> run_drill(const DrillOptions& options, const DrillNotes& notes);

// Checks a ledger against the cluster that `options` connect to. Errors: kRefused if the run
// removed its keys or belongs to another cluster.
Result<DrillReport> verify_drill(const std::filesystem::path& ledger,
                                 const client::Options& options, const DrillNotes& notes);

// ---- pure ----

// Fills in the verdict and its reasons from the rest of the report.
void judge(DrillReport& report);
// The value that `percent` of the values do not exceed (nearest rank). REQUIRES: values, sorted.
uint64_t percentile(const std::vector<uint64_t>& sorted, double percent);

}  // namespace ballast::kvctl
