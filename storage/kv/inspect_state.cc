#include "storage/kv/inspect_state.h"

#include <array>
#include <utility>

#include "proto/base/digest.h"
#include "proto/base/limits.h"
#include "proto/files/files.h"
#include "storage/kv/block_rows.h"
#include "storage/kv/database.h"
#include "storage/kv/row_keys.h"
#include "storage/kv/segment_use.h"

namespace ballast::storage {
namespace {

constexpr std::array<std::pair<RowKind, const char*>, 9> kKinds = {{
    {RowKind::kKey, "keys"},
    {RowKind::kModel, "models"},
    {RowKind::kVersion, "versions"},
    {RowKind::kAlias, "aliases"},
    {RowKind::kSession, "sessions"},
    {RowKind::kBlock, "blocks"},
    {RowKind::kLease, "leases"},
    {RowKind::kPlace, "places"},
    {RowKind::kSegmentUse, "segments"},
}};

Result<uint64_t> count_rows(const RowView& rows, RowKind kind) {
  uint64_t count = 0;
  const std::string prefix = kind_key(kind);
  const auto found = rows.scan(prefix, prefix_end(prefix));
  for (; found->valid(); found->next()) ++count;
  BALLAST_TRY_STATUS(found->status());
  return count;
}

Status look_at_blocks(const RowView& rows, const Payloads& payloads, StateReport& report) {
  // Counted on the way: a walk over these rows would read all their bytes once more.
  StateReport::Kind kept{.name = "bytes"};
  const std::string prefix = kind_key(RowKind::kBlock);
  const auto blocks = rows.scan(prefix, prefix_end(prefix));
  for (; blocks->valid(); blocks->next()) {
    BALLAST_TRY(const Digest digest, Digest::from_raw(blocks->key().substr(prefix.size())));
    const auto block = stored_block(rows, payloads, digest);
    if (block && *block && !(*block)->place) ++kept.rows;
    if (is_whole(digest, block)) continue;
    if (report.damaged_blocks++ < limits::kDamagedReportedMax)
      report.damaged.push_back(digest.hex());
  }
  report.kinds.push_back(std::move(kept));
  return blocks->status();
}

}  // namespace

Result<StateReport> inspect_state(const std::string& directory, const Payloads& payloads) {
  StateReport report;
  if (!path_exists(directory + "/CURRENT")) return report;  // formatted, and never started
  BALLAST_TRY(const auto rows, open_database_to_read(directory));
  BALLAST_TRY(const auto applied, rows->row<pb::AppliedRow>(kind_key(RowKind::kApplied)));
  if (applied) report.applied = *applied;
  if (applied) BALLAST_TRY_STATUS(check_row_format(applied->format()));
  for (const auto& [kind, name] : kKinds) {
    BALLAST_TRY(const uint64_t count, count_rows(*rows, kind));
    report.kinds.push_back({name, count});
  }
  BALLAST_TRY_STATUS(look_at_blocks(*rows, payloads, report));
  return report;
}

}  // namespace ballast::storage
