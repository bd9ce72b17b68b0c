#include "storage/kv/row_batch.h"

#include <memory>
#include <utility>

#include "proto/base/check.h"

namespace ballast::storage {

const RowBatch::Value* RowBatch::find(const std::string& key) const {
  for (const Layer* layer : {&pending_, &settled_})
    if (const auto found = layer->find(key); found != layer->end()) return &found->second;
  return nullptr;
}

Result<std::optional<std::string>> RowBatch::get(const std::string& key) const {
  if (const Value* value = find(key))
    return value->erased ? std::optional<std::string>() : std::optional(std::string(value->view()));
  return get_value(database_, row_reads(), key);
}

Result<std::optional<Bytes>> RowBatch::bytes(const std::string& key) const {
  if (const Value* value = find(key)) {
    if (value->erased) return std::optional<Bytes>();
    return std::optional(value->bytes);
  }
  rocksdb::PinnableSlice slice;
  const rocksdb::Status status =
      database_.Get(block_reads(), database_.DefaultColumnFamily(), key, &slice);
  if (status.IsNotFound()) return std::optional<Bytes>();
  if (!status.ok()) return database_failure("read a block", status);
  return std::optional(Bytes::copy_of(std::string_view(slice.data(), slice.size())));
}

Status RowBatch::scan(const std::string& lower, const std::string& upper,
                      const Visitor& visit) const {
  std::map<std::string_view, const Value*> written;
  for (const Layer* layer : {&settled_, &pending_})
    for (auto at = layer->lower_bound(lower); at != layer->end() && at->first < upper; ++at)
      written[at->first] = &at->second;

  rocksdb::ReadOptions options = row_reads();
  const rocksdb::Slice bound(upper);
  options.iterate_upper_bound = &bound;
  options.fill_cache = false;
  const std::unique_ptr<rocksdb::Iterator> stored(database_.NewIterator(options));
  stored->Seek(lower);
  auto own = written.begin();
  while (stored->Valid() || own != written.end()) {
    const int order = !stored->Valid()       ? 1
                      : own == written.end() ? -1
                                             : stored->key().ToStringView().compare(own->first);
    bool more = true;
    if (order < 0) more = visit(stored->key().ToStringView(), stored->value().ToStringView());
    if (order >= 0 && !own->second->erased) more = visit(own->first, own->second->view());
    if (!more) return {};
    if (order <= 0) stored->Next();
    if (order >= 0) ++own;
  }
  if (!stored->status().ok()) return database_failure("scan rows", stored->status());
  return {};
}

void RowBatch::put(std::string key, std::string value) {
  pending_[std::move(key)] = Value{false, std::move(value), {}};
}
void RowBatch::put_bytes(std::string key, Bytes bytes) {
  pending_[std::move(key)] = Value{false, {}, std::move(bytes)};
}
void RowBatch::erase(std::string key) { pending_[std::move(key)] = Value{true, {}, {}}; }

void RowBatch::settle() {
  while (!pending_.empty()) {
    auto node = pending_.extract(pending_.begin());
    const auto found = settled_.find(node.key());
    if (found == settled_.end()) {
      settled_.insert(std::move(node));
    } else {
      found->second = std::move(node.mapped());
    }
  }
}

size_t RowBatch::settled_bytes() const {
  size_t bytes = 0;
  for (const auto& [key, value] : settled_) bytes += key.size() + value.view().size() + 16;
  return bytes;
}

Status RowBatch::fill(rocksdb::WriteBatch& batch) const {
  BALLAST_CHECK(pending_.empty());
  for (const auto& [key, value] : settled_) {
    const std::string_view content = value.view();
    const rocksdb::Status status = value.erased ? batch.Delete(key) : batch.Put(key, content);
    if (!status.ok()) return database_failure("collect a batch", status);
  }
  return {};
}

}  // namespace ballast::storage
