// RocksDB with the settings that its packaged version needs, and its errors as ours.
#pragma once

#include <rocksdb/db.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "proto/base/digest.h"
#include "proto/base/result.h"
#include "proto/storage.pb.h"
#include "storage/kv/state_machine.h"

namespace ballast::storage {

Result<std::unique_ptr<rocksdb::DB>> open_database(const StateOptions& options);

// REQUIRES: !status.ok().
std::unexpected<Error> database_failure(std::string_view what, const rocksdb::Status& status);

// Of rows: checksums verified. Of blocks: not, since their own CRC32C is, and past the cache.
rocksdb::ReadOptions row_reads(const rocksdb::Snapshot* snapshot = nullptr);
rocksdb::ReadOptions block_reads(const rocksdb::Snapshot* snapshot = nullptr);

Result<std::optional<std::string>> get_value(rocksdb::DB& database,
                                             const rocksdb::ReadOptions& options,
                                             const std::string& key);

template <class Row>
Result<Row> parse_row(std::string_view value) {
  Row row;
  if (!row.ParseFromArray(value.data(), static_cast<int>(value.size())))
    return fail(Errc::kCorrupt, "a {} in the database can't be parsed", Row::descriptor()->name());
  return row;
}

template <class Row>
Result<std::optional<Row>> get_row(rocksdb::DB& database, const rocksdb::ReadOptions& options,
                                   const std::string& key) {
  BALLAST_TRY(const auto value, get_value(database, options, key));
  if (!value) return std::optional<Row>();
  BALLAST_TRY(Row row, parse_row<Row>(*value));
  return std::optional<Row>(std::move(row));
}

pb::BlockRef block_reference(const Digest& digest, const pb::BlockRow& row);

}  // namespace ballast::storage
