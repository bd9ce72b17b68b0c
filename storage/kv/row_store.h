// The rows that the state machine stands on: an ordered map of strings, written in atomic batches.
// RocksDB is the implementation (database.h); a simulator has one in memory that forgets what it
// had not flushed.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "proto/base/bytes.h"
#include "proto/base/result.h"

namespace ballast::storage {

template <class Row>
Result<Row> parse_row(std::string_view value) {
  Row row;
  if (!row.ParseFromArray(value.data(), static_cast<int>(value.size())))
    return fail(Errc::kCorrupt, "a {} in the database can't be parsed", Row::descriptor()->name());
  return row;
}

// Rows in the order of their keys. What key() and value() refer to lives until next().
class RowCursor {
 public:
  virtual ~RowCursor() = default;
  virtual bool valid() const = 0;
  virtual std::string_view key() const = 0;
  virtual std::string_view value() const = 0;
  virtual void next() = 0;
  // An error ends the rows too: to be asked when valid() is false. Errors: kIo, kCorrupt.
  virtual Status status() const = 0;
};

// Thread-safe. Errors of all reads: kIo, kCorrupt.
class RowView {
 public:
  virtual ~RowView() = default;
  virtual Result<std::optional<std::string>> get(const std::string& key) const = 0;
  // For a large value: with one copy less, and out of the way of the small ones in the cache.
  virtual Result<std::optional<Bytes>> get_large(const std::string& key) const {
    BALLAST_TRY(const auto value, get(key));
    return value ? std::optional(Bytes::copy_of(*value)) : std::nullopt;
  }
  // The rows of [lower, upper). The cursor must not outlive the view.
  virtual std::unique_ptr<RowCursor> scan(const std::string& lower,
                                          const std::string& upper) const = 0;
  // The last key of [lower, upper).
  virtual Result<std::optional<std::string>> last_key(const std::string& lower,
                                                      const std::string& upper) const = 0;

  template <class Row>
  Result<std::optional<Row>> row(const std::string& key) const {
    BALLAST_TRY(const auto value, get(key));
    if (!value) return std::optional<Row>();
    BALLAST_TRY(Row row, parse_row<Row>(*value));
    return std::optional<Row>(std::move(row));
  }
};

struct RowChange {
  std::string_view key;
  std::optional<std::string_view> value;  // none: the row is erased
};

// One thread writes.
class RowStore : public RowView {
 public:
  // Reads what is stored and compares it with checksums that the store keeps; not the bytes of
  // blocks, which have their own. Errors: kCorrupt, kIo.
  virtual Status verify() const = 0;
  // The rows of this moment; must not outlive the store.
  virtual std::unique_ptr<RowView> snapshot() const = 0;
  // All or none; durable only after flush(), and never before an earlier batch.
  virtual Status write(std::span<const RowChange> changes) = 0;
  virtual Status flush() = 0;
  // That its files take, as far as it knows. Thread-safe.
  virtual uint64_t disk_bytes() const = 0;
};

}  // namespace ballast::storage
