// The same blocks in RocksDB by itself.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "proto/base/result.h"

namespace rocksdb {
class DB;
}

namespace ballast::amplification {

// Every change is durable when it returns (WAL on, sync). Errors of all functions: kIo.
class RocksDbAlone {
 public:
  static Result<std::unique_ptr<RocksDbAlone>> open(const std::string& directory, bool blob_files);
  ~RocksDbAlone();

  Status put(uint64_t number, std::span<const std::byte> bytes);
  Status remove(uint64_t number);
  // Waits until it has flushed and compacted what it wants to.
  Status settle();

 private:
  explicit RocksDbAlone(rocksdb::DB* opened);
  std::unique_ptr<rocksdb::DB> database_;
};

}  // namespace ballast::amplification
