// Reads of blocks whose home is RocksDB.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "proto/base/bytes.h"
#include "proto/base/result.h"

namespace ballast::bench {

// Stores a GiB of blocks with these bytes in a database in the directory, if there is none, and
// reads them in random order, one after the other, from a cold cache. Errors: kIo, kCorrupt.
Result<nlohmann::json> read_database(const std::string& directory, const Bytes& payload,
                                     double seconds);

}  // namespace ballast::bench
