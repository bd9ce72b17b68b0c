#include "storage/kv/database.h"

#include <rocksdb/cache.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>

#include <climits>
#include <cstdarg>
#include <cstdio>
#include <utility>

namespace ballast::storage {
namespace {

// RocksDB's default LOG file is written by code that aborts on a full disk in builds with
// assertions, as Debian's is. With a logger of our own it is never made.
class InfoLog final : public rocksdb::Logger {
 public:
  explicit InfoLog(std::function<void(std::string_view)> sink)
      : rocksdb::Logger(rocksdb::INFO_LEVEL), sink_(std::move(sink)) {}

  using rocksdb::Logger::Logv;
  void Logv(const char* format, va_list arguments) override {
    if (!sink_) return;
    char line[1024];
    const int length = std::vsnprintf(line, sizeof line, format, arguments);
    if (length < 0) return;
    sink_({line, std::min(static_cast<size_t>(length), sizeof line - 1)});
  }

 private:
  std::function<void(std::string_view)> sink_;
};

rocksdb::Options database_options(const StateOptions& options) {
  rocksdb::Options o;
  o.create_if_missing = true;
  o.paranoid_checks = true;
  o.info_log = std::make_shared<InfoLog>(options.info_log);
  o.compression = rocksdb::kNoCompression;  // blocks are encoded already
  o.enable_blob_files = true;
  o.min_blob_size = 16 << 10;
  o.blob_file_size = 128 << 20;
  o.blob_compression_type = rocksdb::kNoCompression;
  o.enable_blob_garbage_collection = true;
  o.blob_garbage_collection_age_cutoff = 0.25;
  o.blob_garbage_collection_force_threshold = 0.5;
  o.blob_compaction_readahead_size = 2 << 20;
  o.write_buffer_size = options.write_buffer_bytes;
  o.max_write_buffer_number = 3;
  o.max_background_jobs = 2;
  o.bytes_per_sync = 1 << 20;
  o.max_open_files = 512;
  o.avoid_unnecessary_blocking_io = true;
  o.max_bgerror_resume_count = INT_MAX;
  o.stats_dump_period_sec = 0;
  o.stats_persist_period_sec = 0;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(options.block_cache_bytes, 4, false);
  table.cache_index_and_filter_blocks = true;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  o.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return o;
}

}  // namespace

Result<std::unique_ptr<rocksdb::DB>> open_database(const StateOptions& options) {
  rocksdb::DB* database = nullptr;
  const rocksdb::Status status =
      rocksdb::DB::Open(database_options(options), options.directory, &database);
  if (!status.ok())
    return database_failure(fmt::format("open the database '{}'", options.directory), status);
  return std::unique_ptr<rocksdb::DB>(database);
}

std::unexpected<Error> database_failure(std::string_view what, const rocksdb::Status& status) {
  const Errc code = status.IsCorruption() ? Errc::kCorrupt : Errc::kIo;
  return fail(code, "cannot {}: {}", what, status.ToString());
}

rocksdb::ReadOptions row_reads(const rocksdb::Snapshot* snapshot) {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  return options;
}

rocksdb::ReadOptions block_reads(const rocksdb::Snapshot* snapshot) {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  options.verify_checksums = false;
  options.fill_cache = false;
  return options;
}

Result<std::optional<std::string>> get_value(rocksdb::DB& database,
                                             const rocksdb::ReadOptions& options,
                                             const std::string& key) {
  std::string value;
  const rocksdb::Status status = database.Get(options, key, &value);
  if (status.IsNotFound()) return std::optional<std::string>();
  if (!status.ok()) return database_failure("read a row", status);
  return std::optional(std::move(value));
}

pb::BlockRef block_reference(const Digest& digest, const pb::BlockRow& row) {
  pb::BlockRef reference;
  reference.set_digest(std::string(digest.text()));
  reference.set_length(row.length());
  reference.set_crc32c(row.crc32c());
  return reference;
}

}  // namespace ballast::storage
