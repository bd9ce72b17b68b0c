#include "client/kvctl/ledger.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "proto/base/bytes.h"
#include "proto/base/check.h"

namespace ballast::kvctl {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<std::pair<LedgerOp, std::string_view>, 11> kOpNames{{
    {LedgerOp::kInvoke, "invoke"},
    {LedgerOp::kOk, "ok"},
    {LedgerOp::kFail, "fail"},
    {LedgerOp::kUnknown, "unknown"},
    {LedgerOp::kStrike, "strike"},
    {LedgerOp::kStruck, "struck"},
    {LedgerOp::kEffect, "effect"},
    {LedgerOp::kSteady, "steady"},
    {LedgerOp::kUndone, "undone"},
    {LedgerOp::kCaughtUp, "caught_up"},
    {LedgerOp::kRemoved, "removed"},
}};

// What ledgers say that were written when there was one scenario.
constexpr std::array<std::pair<LedgerOp, std::string_view>, 4> kOldOpNames{{
    {LedgerOp::kStrike, "kill"},
    {LedgerOp::kStruck, "signalled"},
    {LedgerOp::kEffect, "killed"},
    {LedgerOp::kUndone, "restart"},
}};

std::optional<LedgerOp> op_named(std::string_view name) {
  for (const auto& [op, known] : kOpNames) {
    if (known == name) return op;
  }
  for (const auto& [op, known] : kOldOpNames) {
    if (known == name) return op;
  }
  return std::nullopt;
}

std::string_view op_name(LedgerOp op) {
  const auto entry = std::ranges::find(kOpNames, op, [](const auto& pair) { return pair.first; });
  return entry->second;
}

bool is_write_op(LedgerOp op) {
  return op == LedgerOp::kInvoke || op == LedgerOp::kOk || op == LedgerOp::kFail ||
         op == LedgerOp::kUnknown;
}

// A line's fields. What is missing or of another type makes the line bad, which is asked once at
// the end.
class Fields {
 public:
  explicit Fields(std::string_view line)
      : json_(Json::parse(line, nullptr, /*allow_exceptions=*/false)), good_(json_.is_object()) {}

  uint64_t number(const char* name, uint64_t max = UINT64_MAX) {
    const auto field = find(name);
    good_ = good_ && field != json_.end() && field->is_number_unsigned() &&
            field->get<uint64_t>() <= max;
    return good_ ? field->get<uint64_t>() : 0;
  }
  std::string text(const char* name) {
    const auto field = find(name);
    good_ = good_ && field != json_.end() && field->is_string();
    return good_ ? field->get<std::string>() : std::string();
  }
  bool has(const char* name) const { return json_.is_object() && json_.contains(name); }
  Status check(bool condition = true) const {
    if (good_ && condition) return {};
    return fail(Errc::kCorrupt, "not a line of a ledger");
  }

 private:
  Json::const_iterator find(const char* name) const {
    return json_.is_object() ? json_.find(name) : json_.end();
  }

  Json json_;
  bool good_;
};

// Names of keys and errors come from outside: bytes that are not UTF-8 must not throw.
std::string dump_line(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

// SplitMix64: small, and any seed is as good as any other.
class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

 private:
  uint64_t state_;
};

// In [-1, 1): every 24-bit integer is exact in f32, and a power of two scales it exactly.
float unit_float(uint32_t random) {
  return static_cast<float>(static_cast<int32_t>(random >> 8) - (1 << 23)) * 0x1p-23F;
}

}  // namespace

// ---- lines ----

std::string ledger_line(const LedgerHeader& header) {
  return dump_line({{"op", "run"},
                    {"run", header.run},
                    {"scenario", header.scenario},
                    {"cluster", header.cluster},
                    {"writers", header.writers},
                    {"bytes", header.bytes},
                    {"codec", header.codec},
                    {"ack", header.ack},
                    {"started_ms", header.started_ms}});
}

std::string ledger_line(const LedgerEvent& event) {
  Json json{{"op", op_name(event.op)}};
  if (is_write_op(event.op)) {
    json["writer"] = event.writer;
    json["seq"] = event.seq;
    if (event.op == LedgerOp::kInvoke) {
      json["key"] = event.key;
      json["sha256"] = event.sha256;
    } else if (event.op == LedgerOp::kOk) {
      json["index"] = event.index;
    } else {
      json["error"] = event.error;
    }
  } else if (event.op != LedgerOp::kRemoved) {
    json["round"] = event.round;
    json["node"] = event.node;
  }
  json["t_us"] = event.t_us;
  return dump_line(json);
}

Result<LedgerHeader> parse_ledger_header(std::string_view line) {
  Fields fields(line);
  const std::string op = fields.text("op");
  LedgerHeader header;
  header.run = fields.text("run");
  if (fields.has("scenario")) header.scenario = fields.text("scenario");
  header.cluster = fields.text("cluster");
  header.writers = static_cast<unsigned>(fields.number("writers", kDrillWritersMax));
  header.bytes = fields.number("bytes");
  header.codec = fields.text("codec");
  header.ack = fields.text("ack");
  header.started_ms = fields.number("started_ms");
  BALLAST_TRY_STATUS(fields.check(op == "run" && header.writers > 0 && header.bytes > 0 &&
                                  header.bytes % sizeof(float) == 0));
  return header;
}

Result<LedgerEvent> parse_ledger_event(std::string_view line) {
  Fields fields(line);
  const std::string name = fields.text("op");
  const auto op = op_named(name);
  BALLAST_TRY_STATUS(fields.check(op.has_value()));
  LedgerEvent event;
  event.op = *op;
  if (is_write_op(event.op)) {
    event.writer = static_cast<unsigned>(fields.number("writer", kDrillWritersMax - 1));
    event.seq = fields.number("seq");
    if (event.op == LedgerOp::kInvoke) {
      event.key = fields.text("key");
      event.sha256 = fields.text("sha256");
    } else if (event.op == LedgerOp::kOk) {
      event.index = fields.number("index");
    } else {
      event.error = fields.text("error");
    }
  } else if (event.op != LedgerOp::kRemoved) {
    event.round = fields.number("round");
    event.node = fields.text("node");
  }
  event.t_us = fields.number("t_us");
  BALLAST_TRY_STATUS(fields.check());
  return event;
}

// ---- the file ----

namespace {

Status write_line(const UniqueFd& file, std::string_view line) {
  // One call, so that a crash can cut the last line alone; a short write is a full disk.
  const ssize_t written = ::write(file.get(), line.data(), line.size());
  if (written == static_cast<ssize_t>(line.size())) return {};
  return os_failure("write", file.path(), written < 0 ? errno : ENOSPC);
}

}  // namespace

Result<std::unique_ptr<Ledger>> Ledger::create(const std::filesystem::path& path,
                                               const LedgerHeader& header) {
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644),
                path.string());
  if (!file.valid() && errno == EEXIST) {
    return fail(Errc::kConflict, "'{}' exists: a ledger is written once, choose another --ledger",
                path.string());
  }
  if (!file.valid()) return os_failure("create", path.string());
  BALLAST_TRY_STATUS(write_line(file, ledger_line(header)));
  return std::unique_ptr<Ledger>(new Ledger(std::move(file)));
}

Status Ledger::append(LedgerEvent event) {
  // The time is taken under the lock, so that times follow each other as the lines do.
  const std::scoped_lock lock(mutex_);
  const auto elapsed = std::chrono::steady_clock::now() - begin_;
  event.t_us =
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(elapsed).count());
  return write_line(file_, ledger_line(event));
}

Status Ledger::sync() {
  if (::fdatasync(file_.get()) != 0) return os_failure("sync", file_.path());
  return {};
}

Result<LedgerHeader> read_ledger(const std::filesystem::path& path,
                                 const std::function<Status(const LedgerEvent&)>& each) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return os_failure("read the ledger", path.string());
  std::string line;
  std::optional<LedgerHeader> header;
  for (uint64_t number = 1; std::getline(file, line); ++number) {
    if (file.eof()) break;  // no end of line: it was being written
    if (!header) {
      auto parsed = parse_ledger_header(line);
      if (!parsed) return fail_within(parsed.error(), "'{}' line {}", path.string(), number);
      header = *std::move(parsed);
      continue;
    }
    const auto event = parse_ledger_event(line);
    if (!event) return fail_within(event.error(), "'{}' line {}", path.string(), number);
    if (event->writer >= header->writers) {
      return fail(Errc::kCorrupt, "'{}' line {}: writer {} of {}", path.string(), number,
                  event->writer, header->writers);
    }
    BALLAST_TRY_STATUS(each(*event));
  }
  if (file.bad()) return fail(Errc::kIo, "cannot read the ledger '{}'", path.string());
  if (!header) return fail(Errc::kCorrupt, "'{}' is not a ledger: it has no line", path.string());
  return *header;
}

Status read_ledger_writes(const std::filesystem::path& path,
                          const std::function<Status(const LedgerWrite&)>& each) {
  std::map<unsigned, LedgerWrite> open;
  BALLAST_TRY(
      const auto header, read_ledger(path, [&](const LedgerEvent& event) -> Status {
        if (!is_write_op(event.op)) return {};
        const auto entry = open.find(event.writer);
        const bool invoke = event.op == LedgerOp::kInvoke;
        if (invoke != (entry == open.end()) || (!invoke && entry->second.seq != event.seq)) {
          return fail(Errc::kCorrupt, "'{}': the lines of writer {}'s write {} do not match",
                      path.string(), event.writer, event.seq);
        }
        if (invoke) {
          open[event.writer] = {
              .writer = event.writer, .seq = event.seq, .key = event.key, .sha256 = event.sha256};
          return {};
        }
        LedgerWrite write = std::move(entry->second);
        open.erase(entry);
        write.outcome = event.op;
        return each(write);
      }));
  for (const auto& [writer, write] : open) BALLAST_TRY_STATUS(each(write));
  return {};
}

// ---- analysis ----

void LedgerAnalysis::add(const LedgerEvent& event) {
  if (!is_write_op(event.op)) return add_round_event(event);
  open_[event.writer] = event.op == LedgerOp::kInvoke;
  if (event.op != LedgerOp::kInvoke) open_since_strike_[event.writer] = false;
  if (event.op == LedgerOp::kOk) {
    ++summary_.acknowledged;
    add_ack(event.t_us);
  }
  if (event.op == LedgerOp::kFail) ++summary_.failed;
  if (event.op == LedgerOp::kUnknown) ++summary_.unknown;
}

void LedgerAnalysis::add_ack(uint64_t t_us) {
  const uint64_t interval = last_ack_us_ ? t_us - *last_ack_us_ : 0;
  last_ack_us_ = t_us;
  if (summary_.rounds.empty()) return;
  RoundSummary& round = summary_.rounds.back();
  if (!round.steady_at_us) {
    if (interval < round.gap_us) return;
    round.gap_us = interval;
    round.first_ack_after_us = t_us;
  } else if (!round.caught_up_at_us) {
    round.rejoin_gap_us = std::max(round.rejoin_gap_us, interval);
  }
}

void LedgerAnalysis::add_round_event(const LedgerEvent& event) {
  if (event.op == LedgerOp::kRemoved) {
    summary_.removed = true;
    return;
  }
  if (event.op == LedgerOp::kStrike) {
    if (!summary_.rounds.empty() && summary_.rounds.back().round == event.round) {
      summary_.rounds.pop_back();
    }
    summary_.rounds.push_back(
        {.round = event.round, .node = event.node, .struck_at_us = event.t_us});
    open_since_strike_ = open_;
    struck_ = false;
    return;
  }
  if (summary_.rounds.empty()) return;
  RoundSummary& round = summary_.rounds.back();
  // The oldest ledgers do not tell when the signal had been sent.
  const bool struck = event.op == LedgerOp::kStruck;
  if (struck || (event.op == LedgerOp::kEffect && !struck_)) {
    round.in_flight = open_since_strike_.count();
  }
  struck_ |= struck;
  if (event.op == LedgerOp::kSteady) round.steady_at_us = event.t_us;
  if (event.op == LedgerOp::kUndone) round.undone_at_us = event.t_us;
  if (event.op == LedgerOp::kCaughtUp) round.caught_up_at_us = event.t_us;
}

LedgerSummary LedgerAnalysis::finish(LedgerHeader header) const {
  LedgerSummary summary = summary_;
  summary.header = std::move(header);
  summary.unknown += open_.count();
  return summary;
}

Result<LedgerSummary> summarize_ledger(const std::filesystem::path& path) {
  LedgerAnalysis analysis;
  BALLAST_TRY(auto header, read_ledger(path, [&analysis](const LedgerEvent& event) -> Status {
                analysis.add(event);
                return {};
              }));
  return analysis.finish(std::move(header));
}

// ---- the content ----

std::string drill_key(std::string_view run, unsigned writer, uint64_t seq) {
  return fmt::format("drill/{}/w{}/{}", run, writer, seq);
}

std::vector<std::byte> drill_content(std::string_view run, unsigned writer, uint64_t seq,
                                     uint64_t bytes) {
  BALLAST_CHECK(bytes % sizeof(float) == 0, "{} bytes are not whole f32 values", bytes);
  const Digest digest = sha256(as_byte_span(drill_key(run, writer, seq)));
  uint64_t seed = 0;
  std::memcpy(&seed, digest.bytes.data(), sizeof seed);
  SplitMix64 random(seed);
  std::vector<std::byte> content(static_cast<size_t>(bytes));
  for (size_t at = 0; at < content.size(); at += sizeof(float)) {
    const float value = unit_float(static_cast<uint32_t>(random.next() >> 32));
    std::memcpy(content.data() + at, &value, sizeof value);
  }
  return content;
}

}  // namespace ballast::kvctl
