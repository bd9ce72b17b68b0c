// Rows in memory that behave like RocksDB without its WAL: a crash takes back every batch that was
// not flushed, in whole batches, newest first.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "server/raft/prng.h"
#include "storage/kv/row_store.h"

namespace ballast::sim {

// What one node's disk and memory hold. Outlives the node's crashes.
class MemoryRows {
 public:
  explicit MemoryRows(raft::Prng chance) : chance_(chance) {}

  using Rows = std::map<std::string, std::string, std::less<>>;

  // A store over these rows, until the next crash() or wipe(): one that is used later than that
  // changes nothing any more.
  std::unique_ptr<storage::RowStore> open();

  // Everything written so far becomes durable.
  void flush() { undo_.clear(); }
  // What was not flushed is gone.
  void crash();
  void wipe();
  // The two change places, as directories do by one rename. Nothing may be open.
  void exchange(MemoryRows& other);

  const Rows& rows() const { return rows_; }
  size_t unflushed_batches() const { return undo_.size(); }

 private:
  class Store;
  struct Old {
    std::string key;
    std::optional<std::string> value;
  };

  void write(std::span<const storage::RowChange> changes);

  raft::Prng chance_;
  Rows rows_;
  std::vector<std::vector<Old>> undo_;  // of each batch that was not flushed
  uint64_t life_ = 0;
};

}  // namespace ballast::sim
