// The segments that exist, for readers of payloads on any thread.
#pragma once

#include <map>
#include <mutex>

#include "storage/blocks/payloads.h"
#include "storage/log/segment_file.h"

namespace ballast::storage {

class SegmentSet final : public Payloads {
 public:
  // REQUIRES: no segment of that sequence is in the set.
  void add(SegmentPtr segment);
  // Reads that have found it go on.
  void remove(uint64_t sequence);
  Result<Bytes> read(Place place, uint32_t bytes, uint32_t crc, ReadFrom from) const override;
  Status restore(Place place, const Bytes& payload) const override;

 private:
  // Error kCorrupt if there is none.
  Result<SegmentPtr> find(uint64_t sequence) const;

  mutable std::mutex mutex_;
  std::map<uint64_t, SegmentPtr> segments_;
};

}  // namespace ballast::storage
