// What a node keeps on its disk, opened together: the log and the rows that were made of it.
#pragma once

#include <functional>
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

// Sees to it that the state's directory holds no rows any more, for the reason given. Nothing of it
// is open.
using GiveRowsUp = std::function<Status(const Error& why)>;

// Rows that came as a snapshot make the log begin behind it. The calling thread is the log's.
// Damaged rows are given up: then there are none, and the log may begin behind what they show.
// Without a way to give them up, null, that is an error.
// Errors: those of the two; kCorrupt if they do not belong together.
Result<Store> open_store(LogOptions log, StateOptions state, const GiveRowsUp& give_up = nullptr);

// Error kCorrupt if rows that show the entry `applied` and this log are not of one store.
Status check_together(Index applied, const LogStore& log, const std::string& directory);

}  // namespace ballast::storage
