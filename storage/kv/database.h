// RocksDB with the settings that its packaged version needs, and its errors as ours.
#pragma once

#include <memory>

#include "proto/base/result.h"
#include "storage/kv/row_store.h"
#include "storage/kv/state_machine.h"

namespace ballast::storage {

// Errors: kIo, kCorrupt.
Result<std::unique_ptr<RowStore>> open_database(const StateOptions& options);

// The rows of a database that nobody has open, as they lie on the disk; nothing is changed.
// Errors: kIo (also if there is none), kCorrupt.
Result<std::unique_ptr<RowView>> open_database_to_read(const std::string& directory);

}  // namespace ballast::storage
