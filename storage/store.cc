#include "storage/store.h"

#include <optional>
#include <utility>

#include "storage/kv/database.h"
#include "storage/snapshot/incoming.h"
#include "storage/snapshot/own_blocks.h"

namespace ballast::storage {

namespace {

struct Rows {
  std::unique_ptr<RowStore> store;
  RowsAt at;
};

Result<Rows> open_rows(const StateOptions& options) {
  Rows rows;
  BALLAST_TRY(rows.store, open_database(options));
  auto at = look_at_rows(*rows.store);
  if (!at) return fail_within(std::move(at).error(), "'{}'", options.directory);
  rows.at = *std::move(at);
  return rows;
}

}  // namespace

Result<Store> open_store(LogOptions log_options, StateOptions state_options,
                         const GiveRowsUp& give_up) {
  const std::string& directory = state_options.directory;
  auto rows = open_rows(state_options);
  if (!rows && rows.error().code == Errc::kCorrupt && give_up) {
    BALLAST_TRY_STATUS(give_up(rows.error()));
    rows = open_rows(state_options);
  }
  if (!rows) return std::unexpected(std::move(rows).error());
  log_options.installed = rows->at.installed;
  const std::string log_directory = log_options.directory;
  const GroupId group = log_options.group;
  Store store;
  BALLAST_TRY(store.log, open_segment_log(std::move(log_options)));
  const bool lost = rows->at.index == Index() && store.log->base().index != Index();
  if (lost && give_up) {
    BALLAST_TRY_STATUS(note_places(log_directory, group, *rows->store));
  } else {
    BALLAST_TRY_STATUS(check_together(rows->at.index, *store.log, directory));
  }
  auto state = StateMachine::over(std::move(rows->store), store.log->payloads(),
                                  std::move(state_options.on_damage));
  if (!state) return fail_within(std::move(state).error(), "'{}'", directory);
  store.state = *std::move(state);
  return store;
}

Status check_together(Index applied, const LogStore& log, const std::string& directory) {
  if (applied < log.base().index)
    return fail(Errc::kCorrupt,
                "'{}' has applied entry {} but its log begins behind {}: the rows were lost or "
                "replaced; remove this node's data directory and let it join as a new one",
                directory, applied, log.base().index);
  if (applied > log.last())
    return fail(Errc::kCorrupt,
                "'{}' has applied entry {} but its log ends at {}: the log was lost or replaced; "
                "wipe this node's directory only if a majority of the others is intact",
                directory, applied, log.last());
  return {};
}

}  // namespace ballast::storage
