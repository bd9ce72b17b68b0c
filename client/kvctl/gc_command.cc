// gc: what the nodes hold and nobody needs any more, and letting go of it.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "client/kvctl/arguments.h"
#include "client/kvctl/health.h"

namespace ballast::kvctl {
namespace {

using client::Collected;
using client::GarbageReport;
using nlohmann::ordered_json;
using Reports = std::vector<GarbageReport>;

struct GcArguments {
  bool dry_run = false;
};

ordered_json ms_or_null(const std::optional<client::milliseconds>& time) {
  return time ? ordered_json(time->count()) : ordered_json(nullptr);
}

ordered_json report_json(const GarbageReport& report) {
  ordered_json json = {{"id", report.member.id},
                       {"name", report.member.name},
                       {"answers", !report.error.has_value()}};
  if (report.error) {
    json["error"] = report.error->to_string();
    return json;
  }
  json.update({{"blocks", report.blocks},
               {"bytes", report.bytes},
               {"due_blocks", report.due_blocks},
               {"due_bytes", report.due_bytes},
               {"due_sessions", report.due_sessions},
               {"next_lease_ms", ms_or_null(report.next_lease)},
               {"last_lease_ms", ms_or_null(report.last_lease)},
               {"log_bytes", report.log_bytes},
               {"live_bytes", report.live_bytes},
               {"spare_bytes", report.spare_bytes},
               {"empty_segments", report.empty_segments},
               {"empty_bytes", report.empty_bytes},
               {"sparse_segments", report.sparse_segments},
               {"sparse_bytes", report.sparse_bytes},
               {"moving_bytes", report.moving_bytes}});
  return json;
}

ordered_json reports_json(const Reports& reports) {
  ordered_json json = ordered_json::array();
  for (const GarbageReport& report : reports) json.push_back(report_json(report));
  return json;
}

std::string lease_text(const std::optional<client::milliseconds>& time) {
  return time ? duration_text(static_cast<uint64_t>(time->count())) : "-";
}

Table report_table(const Reports& reports) {
  Table table{.header = {"NAME", "UNNAMED", "BYTES", "DUE", "NEXT LEASE", "LAST LEASE", "LOG",
                         "LIVE", "EMPTY", "SPARSE", "TO MOVE", "SPARE"},
              .rows = {}};
  for (const GarbageReport& report : reports) {
    auto& row = table.rows.emplace_back();
    if (report.error) {
      row = {report.member.name, "no answer"};
      row.resize(table.header.size(), "-");
      continue;
    }
    row = {report.member.name,
           std::to_string(report.blocks),
           human_bytes(report.bytes),
           human_bytes(report.due_bytes),
           lease_text(report.next_lease),
           lease_text(report.last_lease),
           human_bytes(report.log_bytes),
           human_bytes(report.live_bytes),
           human_bytes(report.empty_bytes),
           human_bytes(report.sparse_bytes),
           human_bytes(report.moving_bytes),
           human_bytes(report.spare_bytes)};
  }
  return table;
}

uint64_t fall(uint64_t before, uint64_t after) { return before - std::min(before, after); }

// Of the log's files, those that wait to be written over are as good as gone.
uint64_t used_bytes(const GarbageReport& report) { return report.log_bytes - report.spare_bytes; }

Table collected_table(const Reports& before, const Reports& after) {
  Table table{.header = {"NAME", "RECLAIMED", "BYTES", "FREED", "LOG", "SPARE"}, .rows = {}};
  for (const GarbageReport& now : after) {
    const auto then =
        std::ranges::find(before, now.member.id, [](const auto& one) { return one.member.id; });
    auto& row = table.rows.emplace_back();
    if (now.error || then == before.end() || then->error) {
      row = {now.member.name, now.error ? "no answer" : "-"};
      row.resize(table.header.size(), "-");
      continue;
    }
    row = {now.member.name,
           std::to_string(fall(then->blocks, now.blocks)),
           human_bytes(fall(then->bytes, now.bytes)),
           human_bytes(fall(used_bytes(*then), used_bytes(now))),
           human_bytes(now.log_bytes),
           human_bytes(now.spare_bytes)};
  }
  return table;
}

void print_verdict(const Reports& reports) {
  const bool due = std::ranges::any_of(reports, &GarbageReport::due);
  const bool leased = std::ranges::any_of(
      reports, [](const GarbageReport& report) { return report.next_lease.has_value(); });
  fmt::print("\n{}{}\n",
             due ? "due: 'kvctl gc' lets go now of what the nodes let go of by themselves"
                 : "nothing is due",
             leased ? "; other blocks wait for the end of their leases" : "");
}

// Error kUnavailable if a node did not answer.
Status check_answers(const Reports& reports) {
  std::vector<std::string> silent;
  for (const GarbageReport& report : reports) {
    if (report.error)
      silent.push_back(fmt::format("{} ({})", report.member.name, report.error->to_string()));
  }
  if (silent.empty()) return {};
  return fail(Errc::kUnavailable, "no garbage was looked for on {}", fmt::join(silent, ", "));
}

Status gc(const Context& context, const GcArguments& arguments) {
  BALLAST_TRY(client::Client client, context.connect());
  BALLAST_TRY(const Reports before, client.garbage());
  if (arguments.dry_run) {
    if (context.json) {
      print_json({{"nodes", reports_json(before)}});
    } else {
      report_table(before).print();
      print_verdict(before);
    }
    return check_answers(before);
  }
  BALLAST_TRY(const Collected collected, client.collect_garbage());
  if (context.json) {
    print_json({{"expired", collected.expired},
                {"before", reports_json(before)},
                {"nodes", reports_json(collected.nodes)}});
  } else {
    collected_table(before, collected.nodes).print();
    print_verdict(collected.nodes);
  }
  return check_answers(collected.nodes);
}

}  // namespace

void add_gc_command(CLI::App& app, Context& context) {
  const auto command = add_command(
      app, context, "gc",
      "let go now of blocks whose lease is over and of log segments that hold little", gc);
  command.app->add_flag("--dry-run", command.arguments->dry_run,
                        "change nothing: say what is there, and how much would come back");
}

}  // namespace ballast::kvctl
