// The same blocks in RocksDB by itself.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "proto/base/result.h"

namespace ballast::amplification {

// Puts `count` blocks one by one, each durable before the next (WAL on, sync), waits until RocksDB
// has flushed and compacted what it wants to, and closes it. Errors: kIo.
Status put_into_rocksdb(const std::string& directory, bool blob_files, uint64_t count,
                        const std::function<std::span<const std::byte>(uint64_t)>& block);

}  // namespace ballast::amplification
