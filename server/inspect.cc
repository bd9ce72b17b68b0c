#include "server/inspect.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "storage/identity.h"
#include "storage/kv/inspect_state.h"
#include "storage/log/inspect_log.h"
#include "storage/log/segment_log.h"

namespace ballast::server {
namespace {

using Json = nlohmann::ordered_json;

struct Report {
  storage::Identity identity;
  std::unique_ptr<storage::LogReport> log;
  Result<storage::StateReport> state = storage::StateReport();

  bool log_ends_early() const { return state && state->applied.index() > log->last.value(); }
  bool whole() const {
    const bool log_whole = log->damage.empty() && log->hard_state.whole_copies == 2;
    return (log_whole || !log->made) && state && state->damaged_blocks == 0 && !log_ends_early();
  }
};

// ---- JSON ---------------------------------------------------------------------------------------

Json identity_json(const storage::Identity& identity) {
  Json founders = Json::array();
  for (const storage::Founder& founder : identity.founders)
    founders.push_back(
        {{"id", founder.id.value()}, {"name", founder.name}, {"address", founder.address}});
  return {{"cluster", identity.cluster.to_string()},
          {"node", identity.node.to_string()},
          {"disk", identity.disk.to_string()},
          {"id", identity.id.value()},
          {"founders", founders}};
}

Json log_json(const storage::LogReport& log) {
  Json segments = Json::array();
  for (const storage::SegmentReport& segment : log.segments)
    segments.push_back({{"sequence", segment.sequence},
                        {"bytes", segment.bytes},
                        {"home", segment.home},
                        {"begun", segment.begun},
                        {"records", segment.records},
                        {"payload_bytes", segment.payload_bytes},
                        {"first_index", segment.first.value()},
                        {"last_index", segment.last.value()},
                        {"end", segment.end},
                        {"damage", segment.damage}});
  return {{"term", log.hard_state.state.term.value()},
          {"vote", log.hard_state.state.vote.value()},
          {"whole_hard_states", log.hard_state.whole_copies},
          {"last_index", log.last.value()},
          {"damage", log.damage},
          {"segments", segments}};
}

Json state_json(const Result<storage::StateReport>& state) {
  if (!state) return {{"error", state.error().message}};
  Json rows;
  for (const auto& kind : state->kinds) rows[kind.name] = kind.rows;
  return {{"applied_index", state->applied.index()},     {"applied_term", state->applied.term()},
          {"block_bytes", state->applied.block_bytes()}, {"rows", rows},
          {"damaged_blocks", state->damaged_blocks},     {"damaged", state->damaged}};
}

std::string json_text(const Report& report) {
  const Json all = {{"identity", identity_json(report.identity)},
                    {"log", log_json(*report.log)},
                    {"state", state_json(report.state)},
                    {"whole", report.whole()}};
  return all.dump(2) + "\n";
}

// ---- text ---------------------------------------------------------------------------------------

std::string mebibytes(uint64_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

std::string identity_text(const storage::Identity& identity) {
  std::vector<std::string> founders;
  for (const storage::Founder& founder : identity.founders) founders.push_back(founder.name);
  return fmt::format("node {} of cluster {}\ndisk {}, {}\n", identity.id,
                     identity.cluster.to_string(), identity.disk.to_string(),
                     founders.empty() ? "joined later"
                                      : fmt::format("founder with {}", fmt::join(founders, ", ")));
}

std::string_view state_of(const storage::SegmentReport& segment) {
  if (segment.home) return "blocks";
  return segment.begun ? "in use" : "prepared";
}

std::string log_text(const storage::LogReport& log) {
  if (!log.made) return "log: none; the node was never started\n";
  const HardState& state = log.hard_state.state;
  std::string text = fmt::format(
      "term {}, {}; {} of 2 copies are whole\n\n", state.term,
      state.vote ? fmt::format("voted for node {}", state.vote) : std::string("no vote"),
      log.hard_state.whole_copies);
  text += fmt::format("{:>7}  {:>10}  {:<8}  {:>8}  {:>17}  {:>12}  {:>10}  {}\n", "SEGMENT",
                      "SIZE", "STATE", "RECORDS", "ENTRIES", "PAYLOADS", "END", "DAMAGE");
  for (const storage::SegmentReport& segment : log.segments) {
    const std::string entries =
        segment.records == 0 ? "-" : fmt::format("{}-{}", segment.first, segment.last);
    text += fmt::format("{:>7}  {:>10}  {:<8}  {:>8}  {:>17}  {:>12}  {:>10}  {}\n",
                        segment.sequence, mebibytes(segment.bytes), state_of(segment),
                        segment.records, entries, mebibytes(segment.payload_bytes), segment.end,
                        segment.damage.empty() ? "-" : segment.damage);
  }
  text += fmt::format("\nlog: entries {} to {}; {}\n", log.hard_state.start.base.index + 1,
                      log.last, log.damage.empty() ? "whole" : "DAMAGED: " + log.damage);
  return text;
}

std::string state_text(const Report& report) {
  if (!report.state) return fmt::format("rows: DAMAGED: {}\n", report.state.error().message);
  const storage::StateReport& state = *report.state;
  std::vector<std::string> kinds;
  for (const auto& kind : state.kinds) kinds.push_back(fmt::format("{} {}", kind.rows, kind.name));
  std::string text =
      fmt::format("rows: applied up to entry {} of term {}: {}\n", state.applied.index(),
                  state.applied.term(), fmt::join(kinds, ", "));
  if (report.log_ends_early())
    text += "rows: DAMAGED: the log ends before what they have applied\n";
  text += state.damaged_blocks == 0
              ? fmt::format("blocks: {}, all whole\n", mebibytes(state.applied.block_bytes()))
              : fmt::format("blocks: {}, {} of them DAMAGED:\n",
                            mebibytes(state.applied.block_bytes()), state.damaged_blocks);
  for (const std::string& digest : state.damaged) text += "  " + digest + "\n";
  return text;
}

std::string table_text(const Report& report) {
  return identity_text(report.identity) + log_text(*report.log) + state_text(report);
}

}  // namespace

Result<Inspected> inspect(const std::string& directory, bool json) {
  BALLAST_TRY(const auto opened, storage::DataDirectory::open_existing(directory));
  Report report{.identity = opened.identity()};
  BALLAST_TRY(report.log, storage::inspect_log(opened.log_path(), storage::LogOptions().group));
  report.state = storage::inspect_state(opened.state_path(), report.log->payloads);
  return Inspected{json ? json_text(report) : table_text(report), report.whole()};
}

}  // namespace ballast::server
