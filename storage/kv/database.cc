#include "storage/kv/database.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <utility>

#include "proto/base/limits.h"
#include "proto/files/files.h"

namespace ballast::storage {
namespace {

// From this length on a value lies in a blob file. Opening and VerifyChecksum() don't look at
// those, so they are for the bytes of blocks alone, which every read verifies: other rows are at
// most a little longer than the entry's header that they came in.
constexpr uint64_t kBlobBytesMin = 128 << 10;
static_assert(kBlobBytesMin >= 2 * limits::kEntryHeaderBytesMax);
constexpr std::string_view kAdvice =
    "its rows are damaged: let the node join again as a new one, its data comes from the others";

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
  o.min_blob_size = kBlobBytesMin;
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

// RocksDB says of damage in which file it is, and mostly where.
std::unexpected<Error> damage(std::string_view what, const rocksdb::Status& status) {
  return fail(Errc::kCorrupt, "cannot {}: {}; {}", what, status.ToString(), kAdvice);
}
std::unexpected<Error> failure(std::string_view what, const rocksdb::Status& status) {
  if (status.IsCorruption()) return damage(what, status);
  return fail(status.IsNoSpace() ? Errc::kNoSpace : Errc::kIo, "cannot {}: {}", what,
              status.ToString());
}

std::string current_path(const std::string& directory) { return directory + "/CURRENT"; }

// Without the file that names all others RocksDB would begin anew, as if nothing had been applied.
Status check_not_headless(const std::string& directory) {
  if (path_exists(current_path(directory)) || !path_exists(directory)) return {};
  BALLAST_TRY(const auto names, list_directory(directory));
  const auto table =
      std::ranges::find_if(names, [](const std::string& name) { return name.ends_with(".sst"); });
  if (table == names.end()) return {};
  return fail(Errc::kCorrupt, "cannot open the database '{}': it holds '{}' but no 'CURRENT'; {}",
              directory, *table, kAdvice);
}

class DatabaseCursor final : public RowCursor {
 public:
  DatabaseCursor(rocksdb::DB& database, rocksdb::ReadOptions options, const std::string& lower,
                 std::string upper)
      : upper_(std::move(upper)), bound_(upper_) {
    options.iterate_upper_bound = &bound_;
    options.fill_cache = false;  // a walk must not push out what is asked for again and again
    rows_.reset(database.NewIterator(options));
    rows_->Seek(lower);
  }
  bool valid() const override { return rows_->Valid(); }
  std::string_view key() const override { return rows_->key().ToStringView(); }
  std::string_view value() const override { return rows_->value().ToStringView(); }
  void next() override { rows_->Next(); }
  Status status() const override {
    if (!rows_->status().ok()) return failure("scan rows", rows_->status());
    return {};
  }

 private:
  const std::string upper_;
  const rocksdb::Slice bound_;
  std::unique_ptr<rocksdb::Iterator> rows_;
};

// Reads of the newest rows, or of a snapshot's.
class DatabaseView {
 public:
  DatabaseView(rocksdb::DB& database, const rocksdb::Snapshot* snapshot) : database_(database) {
    rows_.snapshot = snapshot;
    large_ = rows_;
    large_.fill_cache = false;
  }

  Result<std::optional<std::string>> get(const std::string& key) const {
    std::string value;
    const rocksdb::Status status = database_.Get(rows_, key, &value);
    if (status.IsNotFound()) return std::optional<std::string>();
    if (!status.ok()) return unreadable(status);
    return std::optional(std::move(value));
  }
  Result<std::optional<Bytes>> get_large(const std::string& key) const {
    rocksdb::PinnableSlice value;
    const rocksdb::Status status =
        database_.Get(large_, database_.DefaultColumnFamily(), key, &value);
    if (status.IsNotFound()) return std::optional<Bytes>();
    if (!status.ok()) return unreadable(status);
    return std::optional(Bytes::copy_of(value.ToStringView()));
  }
  std::unique_ptr<RowCursor> scan(const std::string& lower, const std::string& upper) const {
    return std::make_unique<DatabaseCursor>(database_, rows_, lower, upper);
  }
  Result<std::optional<std::string>> last_key(const std::string& lower,
                                              const std::string& upper) const {
    const std::unique_ptr<rocksdb::Iterator> rows(database_.NewIterator(rows_));
    rows->SeekForPrev(upper);
    if (rows->Valid() && rows->key() == upper) rows->Prev();
    if (!rows->Valid() && !rows->status().ok()) return failure("find a row", rows->status());
    if (!rows->Valid() || rows->key().ToStringView() < lower) return std::optional<std::string>();
    return std::optional(rows->key().ToString());
  }

 private:
  // RocksDB does not always say in which file.
  std::unexpected<Error> unreadable(const rocksdb::Status& status) const {
    return failure(fmt::format("read a row of '{}'", database_.GetName()), status);
  }

  rocksdb::DB& database_;
  rocksdb::ReadOptions rows_;
  rocksdb::ReadOptions large_;
};

// RowView by way of a DatabaseView.
template <class Base>
class Viewing : public Base {
 public:
  Viewing(rocksdb::DB& database, const rocksdb::Snapshot* snapshot) : view_(database, snapshot) {}
  Result<std::optional<std::string>> get(const std::string& key) const override {
    return view_.get(key);
  }
  Result<std::optional<Bytes>> get_large(const std::string& key) const override {
    return view_.get_large(key);
  }
  std::unique_ptr<RowCursor> scan(const std::string& lower,
                                  const std::string& upper) const override {
    return view_.scan(lower, upper);
  }
  Result<std::optional<std::string>> last_key(const std::string& lower,
                                              const std::string& upper) const override {
    return view_.last_key(lower, upper);
  }

 private:
  DatabaseView view_;
};

class SnapshotView final : public Viewing<RowView> {
 public:
  explicit SnapshotView(rocksdb::DB& database) : SnapshotView(database, database.GetSnapshot()) {}
  ~SnapshotView() override { database_.ReleaseSnapshot(snapshot_); }

 private:
  SnapshotView(rocksdb::DB& database, const rocksdb::Snapshot* snapshot)
      : Viewing(database, snapshot), database_(database), snapshot_(snapshot) {}
  rocksdb::DB& database_;
  const rocksdb::Snapshot* snapshot_;
};

class Database final : public Viewing<RowStore> {
 public:
  explicit Database(std::unique_ptr<rocksdb::DB> database)
      : Viewing(*database, nullptr), database_(std::move(database)) {}
  ~Database() override { (void)database_->Close(); }

  std::unique_ptr<RowView> snapshot() const override {
    return std::make_unique<SnapshotView>(*database_);
  }
  Status write(std::span<const RowChange> changes) override {
    rocksdb::WriteBatch batch;
    for (const RowChange& change : changes) {
      const rocksdb::Status status =
          change.value ? batch.Put(change.key, *change.value) : batch.Delete(change.key);
      if (!status.ok()) return failure("collect a batch", status);
    }
    rocksdb::WriteOptions options;
    options.disableWAL = true;  // the Raft log is the log
    if (const auto status = database_->Write(options, &batch); !status.ok())
      return failure("write a batch", status);
    return {};
  }
  Status verify() const override {
    if (const auto status = database_->VerifyChecksum(); !status.ok())
      return failure("verify the database", status);
    return {};
  }
  Status flush() override {
    rocksdb::FlushOptions options;
    options.wait = true;
    if (const auto status = database_->Flush(options); !status.ok())
      return failure("flush the database", status);
    // On a full disk RocksDB may call a flush done whose rows are still in memory.
    uint64_t waiting = 0;
    if (!database_->GetIntProperty(rocksdb::DB::Properties::kNumImmutableMemTable, &waiting) ||
        waiting > 0)
      return fail(Errc::kNoSpace, "cannot flush the database: its rows are still in memory");
    return {};
  }
  uint64_t disk_bytes() const override {
    using Properties = rocksdb::DB::Properties;
    uint64_t tables = 0;
    uint64_t blobs = 0;
    database_->GetIntProperty(Properties::kTotalSstFilesSize, &tables);
    database_->GetIntProperty(Properties::kTotalBlobFileSize, &blobs);
    return tables + blobs;
  }

 private:
  std::unique_ptr<rocksdb::DB> database_;
};

class ReadOnlyDatabase final : public Viewing<RowView> {
 public:
  explicit ReadOnlyDatabase(std::unique_ptr<rocksdb::DB> database)
      : Viewing(*database, nullptr), database_(std::move(database)) {}

 private:
  std::unique_ptr<rocksdb::DB> database_;
};

}  // namespace

Result<std::unique_ptr<RowView>> open_database_to_read(const std::string& directory) {
  rocksdb::DB* database = nullptr;
  rocksdb::Options options = database_options({.directory = directory});
  const rocksdb::Status status = rocksdb::DB::OpenForReadOnly(options, directory, &database);
  if (!status.ok()) return failure(fmt::format("read the database '{}'", directory), status);
  return std::make_unique<ReadOnlyDatabase>(std::unique_ptr<rocksdb::DB>(database));
}

Result<std::unique_ptr<RowStore>> open_database(const StateOptions& options) {
  BALLAST_TRY_STATUS(check_not_headless(options.directory));
  rocksdb::DB* database = nullptr;
  const rocksdb::Status status =
      rocksdb::DB::Open(database_options(options), options.directory, &database);
  if (!status.ok()) {
    const std::string what = fmt::format("open the database '{}'", options.directory);
    // A database that is there names only files that are there.
    const bool incomplete = status.IsPathNotFound() && path_exists(current_path(options.directory));
    return incomplete ? damage(what, status) : failure(what, status);
  }
  return std::make_unique<Database>(std::unique_ptr<rocksdb::DB>(database));
}

}  // namespace ballast::storage
