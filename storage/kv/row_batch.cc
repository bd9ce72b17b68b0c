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
  if (const Value* value = find(key)) return *value;
  return store_.get(key);
}

Result<std::optional<Bytes>> RowBatch::get_large(const std::string& key) const {
  const Value* value = find(key);
  if (value == nullptr) return store_.get_large(key);
  return *value ? std::optional(Bytes::copy_of(**value)) : std::nullopt;
}

Status RowBatch::scan(const std::string& lower, const std::string& upper,
                      const Visitor& visit) const {
  std::map<std::string_view, const Value*> written;
  for (const Layer* layer : {&settled_, &pending_})
    for (auto at = layer->lower_bound(lower); at != layer->end() && at->first < upper; ++at)
      written[at->first] = &at->second;

  const std::unique_ptr<RowCursor> stored = store_.scan(lower, upper);
  auto own = written.begin();
  while (stored->valid() || own != written.end()) {
    const int order = !stored->valid()       ? 1
                      : own == written.end() ? -1
                                             : stored->key().compare(own->first);
    bool more = true;
    if (order < 0) more = visit(stored->key(), stored->value());
    if (order >= 0 && *own->second) more = visit(own->first, **own->second);
    if (!more) return {};
    if (order <= 0) stored->next();
    if (order >= 0) ++own;
  }
  return stored->status();
}

void RowBatch::put(std::string key, std::string value) {
  pending_[std::move(key)] = std::move(value);
}
void RowBatch::erase(std::string key) { pending_[std::move(key)] = std::nullopt; }

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

std::vector<RowChange> RowBatch::changes() const {
  BALLAST_CHECK(pending_.empty());
  std::vector<RowChange> changes;
  changes.reserve(settled_.size());
  for (const auto& [key, value] : settled_) {
    changes.push_back({key, value});
  }
  return changes;
}

}  // namespace ballast::storage
