// The rows as the entries of one batch see them: the store, and over it what they wrote.
//
// Two layers: a commit writes into the upper one, and settle() or discard() decides on all of it,
// so that its operations apply together or not at all. Not thread-safe.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proto/base/result.h"
#include "storage/kv/row_store.h"

namespace ballast::storage {

class RowBatch {
 public:
  // REQUIRES: the store lives longer and nobody else writes to it.
  explicit RowBatch(const RowStore& store) : store_(store) {}

  // Errors of all reads: kIo, kCorrupt.
  Result<std::optional<std::string>> get(const std::string& key) const;
  Result<std::optional<Bytes>> get_large(const std::string& key) const;
  template <class Row>
  Result<std::optional<Row>> row(const std::string& key) const {
    BALLAST_TRY(const auto value, get(key));
    if (!value) return std::optional<Row>();
    BALLAST_TRY(Row row, parse_row<Row>(*value));
    return std::optional<Row>(std::move(row));
  }

  // Visits the rows of [lower, upper) in order until `visit` returns false. `visit` must not write.
  using Visitor = std::function<bool(std::string_view key, std::string_view value)>;
  Status scan(const std::string& lower, const std::string& upper, const Visitor& visit) const;

  void put(std::string key, std::string value);
  template <class Row>
  void put_row(std::string key, const Row& row) {
    put(std::move(key), row.SerializeAsString());
  }
  void erase(std::string key);

  void settle();
  void discard() { pending_.clear(); }

  // Everything settled, as views into this batch. REQUIRES: nothing is pending.
  std::vector<RowChange> changes() const;

 private:
  using Value = std::optional<std::string>;  // none: the row is erased
  using Layer = std::map<std::string, Value, std::less<>>;

  const Value* find(const std::string& key) const;

  const RowStore& store_;
  Layer settled_;
  Layer pending_;
};

}  // namespace ballast::storage
