#include "bench/amplification/rocksdb_alone.h"

#include <fmt/format.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>

#include <chrono>
#include <thread>

namespace ballast::amplification {
namespace {

constexpr std::chrono::milliseconds kLookAgain{50};

Status checked(const std::string& what, const rocksdb::Status& status) {
  if (status.ok()) return {};
  return fail(Errc::kIo, "RocksDB can't {}: {}", what, status.ToString());
}

// Digests come in no order, and so do these.
std::string key_of(uint64_t number) { return fmt::format("{:016x}", number * 0x9E3779B97F4A7C15); }

rocksdb::WriteOptions durable() {
  rocksdb::WriteOptions options;
  options.sync = true;
  return options;
}

}  // namespace

RocksDbAlone::RocksDbAlone(rocksdb::DB* opened) : database_(opened) {}
RocksDbAlone::~RocksDbAlone() = default;

Result<std::unique_ptr<RocksDbAlone>> RocksDbAlone::open(const std::string& directory,
                                                         bool blob_files) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.compression = rocksdb::kNoCompression;  // the blocks are encoded already
  options.enable_blob_files = blob_files;
  options.min_blob_size = 16 << 10;
  options.enable_blob_garbage_collection = blob_files;
  rocksdb::DB* opened = nullptr;
  BALLAST_TRY_STATUS(checked("open", rocksdb::DB::Open(options, directory, &opened)));
  return std::unique_ptr<RocksDbAlone>(new RocksDbAlone(opened));
}

Status RocksDbAlone::put(uint64_t number, std::span<const std::byte> bytes) {
  const rocksdb::Slice value(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return checked("put", database_->Put(durable(), key_of(number), value));
}

Status RocksDbAlone::remove(uint64_t number) {
  return checked("remove", database_->Delete(durable(), key_of(number)));
}

Status RocksDbAlone::settle() {
  BALLAST_TRY_STATUS(checked("flush", database_->Flush({})));
  for (uint64_t busy = 1; busy != 0;) {
    uint64_t running = 0, waiting = 0;
    database_->GetIntProperty(rocksdb::DB::Properties::kNumRunningCompactions, &running);
    database_->GetIntProperty(rocksdb::DB::Properties::kCompactionPending, &waiting);
    busy = running + waiting;
    if (busy != 0) std::this_thread::sleep_for(kLookAgain);
  }
  return {};
}

}  // namespace ballast::amplification
