#include "storage/store.h"

#include <utility>

#include "storage/kv/database.h"
#include "storage/snapshot/incoming.h"

namespace ballast::storage {

Result<Store> open_store(LogOptions log_options, StateOptions state_options) {
  const std::string& directory = state_options.directory;
  BALLAST_TRY(auto rows, open_database(state_options));
  auto installed = installed_base(*rows);
  if (!installed) return fail_within(std::move(installed).error(), "'{}'", directory);
  log_options.installed = *installed;
  Store store;
  BALLAST_TRY(store.log, open_segment_log(std::move(log_options)));
  auto state = StateMachine::over(std::move(rows), store.log->payloads());
  if (!state) return fail_within(std::move(state).error(), "'{}'", directory);
  store.state = *std::move(state);
  BALLAST_TRY_STATUS(check_together(store.state->applied().index, *store.log, directory));
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
