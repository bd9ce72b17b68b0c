#include "server/node/entry_cache.h"

#include "proto/base/check.h"

namespace ballast::server {

size_t EntryCache::size_of(const Entry& entry) {
  return sizeof(Entry) + entry.header.size() + entry.payload.size();
}

void EntryCache::append(std::span<const Entry> entries) {
  if (entries.empty()) return;
  const Index first = entries.front().index;
  while (!entries_.empty() && entries_.back().index >= first) {
    bytes_ -= size_of(entries_.back());
    if (entries_.back().index > durable_) pending_bytes_ -= size_of(entries_.back());
    entries_.pop_back();
  }
  // What is durable beyond `first` is about to be overwritten.
  if (durable_ >= first) durable_ = first - 1;
  if (!entries_.empty() && entries_.back().index + 1 != first) {
    BALLAST_CHECK(entries_.back().index <= durable_, "a gap behind entry {}",
                  entries_.back().index);
    entries_.clear();
    bytes_ = 0;
  }
  for (const Entry& entry : entries) {
    BALLAST_CHECK(entries_.empty() || entries_.back().index + 1 == entry.index);
    entries_.push_back(entry);
    bytes_ += size_of(entry);
    pending_bytes_ += size_of(entry);
  }
  evict();
}

void EntryCache::set_durable(Index durable) {
  if (durable <= durable_) return;
  for (const Entry& entry : entries_) {
    if (entry.index > durable_ && entry.index <= durable) pending_bytes_ -= size_of(entry);
  }
  durable_ = durable;
  evict();
}

const Entry* EntryCache::find(Index index) const {
  if (entries_.empty() || index < entries_.front().index || index > entries_.back().index)
    return nullptr;
  return &entries_[index - entries_.front().index];
}

void EntryCache::evict() {
  while (bytes_ > bytes_max_ && !entries_.empty() && entries_.front().index <= durable_) {
    bytes_ -= size_of(entries_.front());
    entries_.pop_front();
  }
}

}  // namespace ballast::server
