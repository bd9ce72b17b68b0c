// Payloads in memory, in the place of a log: entry i's lies in segment 1, at unit i.
#pragma once

#include <map>
#include <mutex>
#include <span>
#include <vector>

#include "proto/base/crc32c.h"
#include "storage/kv/state_machine.h"

namespace ballast::storage {

class TestPayloads final : public Payloads {
 public:
  static Place place_of(const Entry& entry) {
    return {1, static_cast<uint32_t>(entry.index.value())};
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
    for (auto& [place, payload] : payloads_) {
      if (payload.empty()) continue;
      MutableBytes other(payload.size());
      std::memcpy(other.data(), payload.data(), payload.size());
      other.data()[payload.size() / 2] ^= std::byte{0x10};
      payload = Bytes(std::move(other));
    }
  }
  void lose() {
    const std::lock_guard lock(mutex_);
    payloads_.clear();
  }

  Result<Bytes> read(Place place, uint32_t bytes, uint32_t crc) const override {
    const std::lock_guard lock(mutex_);
    const auto found = payloads_.find(place);
    if (found == payloads_.end()) return fail(Errc::kCorrupt, "no payload lies there");
    if (found->second.size() != bytes || crc32c(found->second.span()) != crc)
      return fail(Errc::kCorrupt, "another payload lies there");
    return found->second;
  }

 private:
  mutable std::mutex mutex_;
  std::map<Place, Bytes> payloads_;
};

}  // namespace ballast::storage
