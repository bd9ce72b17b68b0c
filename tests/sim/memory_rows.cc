#include "tests/sim/memory_rows.h"

#include <ranges>
#include <utility>

namespace ballast::sim {
namespace {

constexpr uint64_t kBatchesPerFlush = 40;

using storage::RowChange;
using storage::RowCursor;
using storage::RowView;

class Cursor final : public RowCursor {
 public:
  Cursor(MemoryRows::Rows::const_iterator at, MemoryRows::Rows::const_iterator end)
      : at_(at), end_(end) {}
  bool valid() const override { return at_ != end_; }
  std::string_view key() const override { return at_->first; }
  std::string_view value() const override { return at_->second; }
  void next() override { ++at_; }
  Status status() const override { return {}; }

 private:
  MemoryRows::Rows::const_iterator at_;
  MemoryRows::Rows::const_iterator end_;
};

template <class Base>
class Reading : public Base {
 public:
  explicit Reading(const MemoryRows& memory) : memory_(memory) {}

  Result<std::optional<std::string>> get(const std::string& key) const override {
    const auto found = memory_.rows().find(key);
    if (found == memory_.rows().end()) return std::optional<std::string>();
    return std::optional(found->second);
  }
  std::unique_ptr<RowCursor> scan(const std::string& lower,
                                  const std::string& upper) const override {
    const auto begin = memory_.rows().lower_bound(lower);
    const auto end = upper <= lower ? begin : memory_.rows().lower_bound(upper);
    return std::make_unique<Cursor>(begin, end);
  }
  Result<std::optional<std::string>> last_key(const std::string& lower,
                                              const std::string& upper) const override {
    auto end = memory_.rows().lower_bound(upper);
    if (end == memory_.rows().begin() || (--end)->first < lower)
      return std::optional<std::string>();
    return std::optional(end->first);
  }

 private:
  const MemoryRows& memory_;
};

}  // namespace

class MemoryRows::Store final : public Reading<storage::RowStore> {
 public:
  explicit Store(MemoryRows& memory) : Reading(memory), memory_(memory), life_(memory.life_) {}

  // One thread, and nobody writes while a view is used: the rows themselves are the snapshot.
  std::unique_ptr<RowView> snapshot() const override {
    return std::make_unique<Reading<RowView>>(memory_);
  }
  Status verify() const override { return {}; }
  Status write(std::span<const RowChange> changes) override {
    if (life_ == memory_.life_) memory_.write(changes);
    return {};
  }
  Status flush() override {
    if (life_ == memory_.life_) memory_.flush();
    return {};
  }
  uint64_t disk_bytes() const override { return 0; }

 private:
  MemoryRows& memory_;
  const uint64_t life_;
};

std::unique_ptr<storage::RowStore> MemoryRows::open() { return std::make_unique<Store>(*this); }

void MemoryRows::write(std::span<const RowChange> changes) {
  std::vector<Old>& old = undo_.emplace_back();
  for (const RowChange& change : changes) {
    const auto found = rows_.find(change.key);
    std::optional<std::string> before;
    if (found != rows_.end()) before = std::move(found->second);
    old.push_back({std::string(change.key), std::move(before)});
    if (change.value) {
      rows_.insert_or_assign(std::string(change.key), std::string(*change.value));
    } else if (found != rows_.end()) {
      rows_.erase(found);
    }
  }
  if (chance_.below(kBatchesPerFlush) == 0) flush();  // the memtable is full
}

void MemoryRows::crash() {
  ++life_;
  for (; !undo_.empty(); undo_.pop_back()) {
    for (Old& old : undo_.back() | std::views::reverse) {
      if (old.value) {
        rows_.insert_or_assign(old.key, *std::move(old.value));
      } else {
        rows_.erase(old.key);
      }
    }
  }
}

void MemoryRows::exchange(MemoryRows& other) {
  ++life_;
  ++other.life_;
  rows_.swap(other.rows_);
  undo_.swap(other.undo_);
}

void MemoryRows::wipe() {
  ++life_;
  undo_.clear();
  rows_.clear();
}

}  // namespace ballast::sim
