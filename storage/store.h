// What a node keeps on its disk, opened together: the log and the rows that were made of it.
#pragma once

#include <memory>

#include "proto/base/result.h"
#include "storage/kv/state_machine.h"
#include "storage/log/log_store.h"
#include "storage/log/segment_log.h"

namespace ballast::storage {

struct Store {
  std::unique_ptr<LogStore> log;
  std::unique_ptr<StateMachine> state;
};

// Rows that came as a snapshot make the log begin behind it. The calling thread is the log's.
// Errors: those of the two; kCorrupt if they do not belong together.
Result<Store> open_store(LogOptions log, StateOptions state);

// Error kCorrupt if rows that show the entry `applied` and this log are not of one store.
Status check_together(Index applied, const LogStore& log, const std::string& directory);

}  // namespace ballast::storage
