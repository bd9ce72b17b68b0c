// Payloads in memory, in the place of a log: entry i's lies at unit i, in a segment with as many
// entries as was asked for.
#pragma once

#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "proto/base/crc32c.h"
#include "storage/kv/state_machine.h"

namespace ballast::storage {

class TestPayloads final : public Payloads {
 public:
  explicit TestPayloads(uint64_t entries_per_segment = std::numeric_limits<uint32_t>::max())
      : entries_per_segment_(entries_per_segment) {}

  Place place_of(const Entry& entry) const {
    const uint64_t index = entry.index.value();
    return {1 + (index - 1) / entries_per_segment_, static_cast<uint32_t>(index)};
  }

  // What the state machine is to be told of these entries, whose payloads can be read from now on.
  std::vector<Committed> commit(std::span<const Entry> entries) {
    const std::lock_guard lock(mutex_);
    std::vector<Committed> all;
    for (const Entry& entry : entries) {
      payloads_[place_of(entry)] = entry.payload;
      all.push_back(committed(entry, place_of(entry)));
    }
    return all;
  }
  // Another byte in each of them.
  void damage() {
    const std::lock_guard lock(mutex_);
    for (auto& [place, payload] : payloads_) damage_one(payload);
  }
  // In the payload of one entry; a second time gives it back.
  void damage(const Entry& entry) {
    const std::lock_guard lock(mutex_);
    damage_one(payloads_.at(place_of(entry)));
  }
  void lose() {
    const std::lock_guard lock(mutex_);
    payloads_.clear();
  }
  void remove_segment(uint64_t segment) {
    const std::lock_guard lock(mutex_);
    std::erase_if(payloads_, [&](const auto& item) { return item.first.segment == segment; });
  }

  // Called once, at the next read, before anything is looked at.
  mutable std::function<void()> before_read;
  // What the next read fails with. Like the hook for tests with one reader.
  mutable std::optional<Error> failure;

  // What restore() does at a place that is there. Some have none any more.
  mutable bool restores = true;

  Status restore(Place place, const Bytes& payload) const override {
    const std::lock_guard lock(mutex_);
    const auto found = payloads_.find(place);
    if (found == payloads_.end() || !restores) return fail(Errc::kCorrupt, "no such place");
    found->second = payload;
    return {};
  }
  Result<Bytes> read(Place place, uint32_t bytes, uint32_t crc, ReadFrom /*from*/) const override {
    if (before_read) std::exchange(before_read, nullptr)();
    if (failure) return std::unexpected(*std::exchange(failure, std::nullopt));
    const std::lock_guard lock(mutex_);
    const auto found = payloads_.find(place);
    if (found == payloads_.end()) return fail(Errc::kCorrupt, "no payload lies there");
    if (found->second.size() != bytes || crc32c(found->second.span()) != crc)
      return fail(Errc::kCorrupt, "another payload lies there");
    return found->second;
  }

 private:
  static void damage_one(Bytes& payload) {
    if (payload.empty()) return;
    MutableBytes other(payload.size());
    std::memcpy(other.data(), payload.data(), payload.size());
    other.data()[payload.size() / 2] ^= std::byte{0x10};
    payload = Bytes(std::move(other));
  }

  const uint64_t entries_per_segment_;
  mutable std::mutex mutex_;
  mutable std::map<Place, Bytes> payloads_;
};

}  // namespace ballast::storage
