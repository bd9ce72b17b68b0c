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
  const Index applied = store.state->applied().index;
  if (applied < store.log->base().index)
    return fail(Errc::kCorrupt,
                "'{}' has applied entry {} but its log begins behind {}: the rows were lost or "
                "replaced; remove this node's data directory and let it join as a new one",
                directory, applied, store.log->base().index);
  if (applied > store.log->last())
    return fail(Errc::kCorrupt,
                "'{}' has applied entry {} but its log ends at {}: the log was lost or replaced; "
                "wipe this node's directory only if a majority of the others is intact",
                directory, applied, store.log->last());
  return store;
}

}  // namespace ballast::storage
