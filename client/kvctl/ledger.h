// The ledger of a drill: what was asked of the cluster and what it answered, in a file outside of
// the cluster, so that the verdict can be reached again from it (`kvctl drill verify`).
//
// JSON lines. The first describes the run; each of the others is one event:
//
//   {"op":"run","run":"4f1c09ab","scenario":"kill","cluster":"9b2f...","writers":4,
//    "bytes":262144,"codec":"f32","ack":"sync","started_ms":1712345678901}
//   {"op":"invoke","writer":0,"seq":7,"key":"drill/4f1c09ab/w0/7","sha256":"...","t_us":1204511}
//   {"op":"ok","writer":0,"seq":7,"index":412,"t_us":1210034}     or "fail", "unknown" with "error"
//   {"op":"strike","round":1,"node":"n2","t_us":...}   before the fault, with the primary's name;
//                                                      if a round has several, the drill has looked
//                                                      again: the last one counts
//   {"op":"struck","round":1,...}                      when the signal or the request has been sent
//   {"op":"effect","round":1,...}                      when the process is gone or frozen, or has
//                                                      handed over
//   {"op":"steady","round":1,...}                      every writer is acknowledged again
//   {"op":"undone","round":1,...}                      the process was started again, or goes on
//   {"op":"caught_up","round":1,...}                   every node has applied what the leader had
//   {"op":"removed"}                                   the run removed its keys
//
// Ledgers that know one scenario alone, kill, do not name it, and say "kill", "signalled", "killed"
// and "restart" for "strike", "struck", "effect" and "undone".
//
// Times are microseconds since the run began, on a monotonic clock, and never decrease from line to
// line. Each line is one write(2); a last line without its end is one that was being written when
// the drill died, and is not counted.
#pragma once

#include <bitset>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proto/base/digest.h"
#include "proto/base/result.h"
#include "proto/base/unique_fd.h"

namespace ballast::kvctl {

inline constexpr unsigned kDrillWritersMax = 64;

struct LedgerHeader {
  std::string run;
  std::string scenario = "kill";
  std::string cluster;  // its UUID
  unsigned writers = 0;
  uint64_t bytes = 0;  // of each tensor: a multiple of 4
  std::string codec;
  std::string ack;
  uint64_t started_ms = 0;  // since 1970

  bool operator==(const LedgerHeader&) const = default;
};

enum class LedgerOp {
  kInvoke,
  kOk,
  kFail,     // the store promises that nothing has happened
  kUnknown,  // it may have happened
  kStrike,
  kStruck,
  kEffect,
  kSteady,
  kUndone,
  kCaughtUp,
  kRemoved,
};

struct LedgerEvent {
  LedgerOp op = LedgerOp::kInvoke;
  unsigned writer = 0;
  uint64_t seq = 0;    // of the writer: 1, 2, 3
  std::string key;     // kInvoke
  std::string sha256;  // kInvoke: of the tensor's bytes, in hex
  uint64_t index = 0;  // kOk: of the log
  std::string error;   // kFail, kUnknown
  uint64_t round = 0;  // kStrike to kCaughtUp: 1, 2, 3
  std::string node;    // likewise
  uint64_t t_us = 0;   // set by Ledger::append()

  bool operator==(const LedgerEvent&) const = default;
};

std::string ledger_line(const LedgerHeader& header);
std::string ledger_line(const LedgerEvent& event);
// Errors: kCorrupt.
Result<LedgerHeader> parse_ledger_header(std::string_view line);
Result<LedgerEvent> parse_ledger_event(std::string_view line);

// The file while the drill runs. Thread-safe. Crash behaviour: what was appended survives this
// process; what was appended before sync() survives the machine.
class Ledger {
 public:
  // Errors: kConflict (the file exists), kIo.
  static Result<std::unique_ptr<Ledger>> create(const std::filesystem::path& path,
                                                const LedgerHeader& header);

  // Stamps the time and writes the line.
  Status append(LedgerEvent event);
  Status sync();

 private:
  explicit Ledger(UniqueFd file) : file_(std::move(file)) {}

  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  std::mutex mutex_;
  UniqueFd file_;
};

// Reads a ledger from its first event to its last. Memory: one line.
// Errors: kIo, kCorrupt (with the line's number), or what `each` returns.
Result<LedgerHeader> read_ledger(const std::filesystem::path& path,
                                 const std::function<Status(const LedgerEvent&)>& each);

// One write and its outcome: kOk, kFail or kUnknown. A write that has none in the ledger because
// the drill died is kUnknown.
struct LedgerWrite {
  unsigned writer = 0;
  uint64_t seq = 0;
  std::string key;
  std::string sha256;
  LedgerOp outcome = LedgerOp::kUnknown;
};
Status read_ledger_writes(const std::filesystem::path& path,
                          const std::function<Status(const LedgerWrite&)>& each);

// ---- what the events say ----

struct RoundSummary {
  uint64_t round = 0;
  std::string node;  // the primary that was struck
  // Writes that were invoked before the blow and had no outcome when it had been struck. Those that
  // have one by the time it has its effect count, too: an election may be faster than the end of a
  // process.
  uint64_t in_flight = 0;
  uint64_t struck_at_us = 0;
  // The longest interval between two acknowledgements that follow each other, of all that end
  // between the blow and `steady`. It is not only the one that spans the blow: an answer that was
  // already on its way may arrive just after it, and the pause begins behind that answer.
  uint64_t gap_us = 0;
  uint64_t first_ack_after_us = 0;  // the acknowledgement that ended this interval
  uint64_t rejoin_gap_us = 0;       // the longest interval from then on until all have caught up
  std::optional<uint64_t> steady_at_us;
  std::optional<uint64_t> undone_at_us;
  std::optional<uint64_t> caught_up_at_us;

  bool complete() const { return steady_at_us && undone_at_us && caught_up_at_us; }
};

struct LedgerSummary {
  LedgerHeader header;
  uint64_t acknowledged = 0;
  uint64_t failed = 0;
  uint64_t unknown = 0;
  std::vector<RoundSummary> rounds;
  bool removed = false;  // the keys are gone
};

// Takes a ledger's events in their order.
class LedgerAnalysis {
 public:
  void add(const LedgerEvent& event);
  // Writes that are still open count as unknown.
  LedgerSummary finish(LedgerHeader header) const;

 private:
  void add_ack(uint64_t t_us);
  void add_round_event(const LedgerEvent& event);

  LedgerSummary summary_;
  std::bitset<kDrillWritersMax> open_;               // by writer: a write has no outcome yet
  std::bitset<kDrillWritersMax> open_since_strike_;  // by writer: since before the blow
  bool struck_ = false;                              // in this round
  std::optional<uint64_t> last_ack_us_;
};

Result<LedgerSummary> summarize_ledger(const std::filesystem::path& path);

// ---- the content ----

std::string drill_key(std::string_view run, unsigned writer, uint64_t seq);
// The tensor that a writer writes: finite f32 values that nothing but the arguments decides, so
// whoever verifies can compute them again. REQUIRES: bytes is a multiple of 4.
std::vector<std::byte> drill_content(std::string_view run, unsigned writer, uint64_t seq,
                                     uint64_t bytes);

}  // namespace ballast::kvctl
