#include "bench/amplification/rocksdb_alone.h"

#include <fmt/format.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>

#include <chrono>
#include <memory>
#include <thread>

namespace ballast::amplification {
namespace {

constexpr std::chrono::milliseconds kLookAgain{50};

Status checked(const std::string& what, const rocksdb::Status& status) {
  if (status.ok()) return {};
  return fail(Errc::kIo, "RocksDB can't {}: {}", what, status.ToString());
}

}  // namespace

Status put_into_rocksdb(const std::string& directory, bool blob_files, uint64_t count,
                        const std::function<std::span<const std::byte>(uint64_t)>& block) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.compression = rocksdb::kNoCompression;  // the blocks are encoded already
  options.enable_blob_files = blob_files;
  options.min_blob_size = 16 << 10;
  rocksdb::DB* opened = nullptr;
  BALLAST_TRY_STATUS(checked("open", rocksdb::DB::Open(options, directory, &opened)));
  const std::unique_ptr<rocksdb::DB> database(opened);
  rocksdb::WriteOptions durable;
  durable.sync = true;
  for (uint64_t i = 0; i < count; ++i) {
    const auto bytes = block(i);
    // Digests come in no order, and so do these.
    const std::string key = fmt::format("{:016x}", i * 0x9E3779B97F4A7C15);
    BALLAST_TRY_STATUS(checked(
        "put",
        database->Put(durable, key, {reinterpret_cast<const char*>(bytes.data()), bytes.size()})));
  }
  BALLAST_TRY_STATUS(checked("flush", database->Flush({})));
  for (uint64_t busy = 1; busy != 0;) {
    uint64_t running = 0, waiting = 0;
    database->GetIntProperty(rocksdb::DB::Properties::kNumRunningCompactions, &running);
    database->GetIntProperty(rocksdb::DB::Properties::kCompactionPending, &waiting);
    busy = running + waiting;
    if (busy != 0) std::this_thread::sleep_for(kLookAgain);
  }
  return checked("close", database->Close());
}

}  // namespace ballast::amplification
