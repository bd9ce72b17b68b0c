// The newest entries of the log, in memory: what is sent to followers and applied is nearly always
// here, so that the disk is read only for those who lag.
//
// An entry that is not durable yet can't be read from the log, so it is never dropped; older ones
// go, from the front, while more than `bytes_max` are held. Not thread-safe.
#pragma once

#include <deque>
#include <span>

#include "proto/base/entry.h"

namespace ballast::server {

class EntryCache {
 public:
  explicit EntryCache(size_t bytes_max) : bytes_max_(bytes_max) {}

  // Takes consecutive entries; whatever was held from the first one's index on is replaced.
  void append(std::span<const Entry> entries);

  // Everything up to `durable` may be dropped from now on.
  void set_durable(Index durable);

  // Null if it is not held.
  const Entry* find(Index index) const;

  // Of the entries that are not durable yet.
  size_t pending_bytes() const { return pending_bytes_; }

 private:
  static size_t size_of(const Entry& entry);
  void evict();

  size_t bytes_max_;
  std::deque<Entry> entries_;  // consecutive
  Index durable_;
  size_t bytes_ = 0;
  size_t pending_bytes_ = 0;
};

}  // namespace ballast::server
