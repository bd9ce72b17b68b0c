// Where an entry lies in the log: what the log keeps in memory of each.
#pragma once

#include <cstdint>

#include "proto/base/entry.h"
#include "storage/blocks/payloads.h"
#include "storage/log/record.h"

namespace ballast::storage {

struct Locator {
  uint64_t serial = 0;
  Term term;
  uint32_t segment = 0;  // its sequence
  uint32_t block = 0;    // offset / 4 KiB
  uint32_t header_bytes = 0;
  uint32_t payload_bytes = 0;
  uint32_t checksum = 0;  // EntryMeta::checksum
  EntryKind kind = EntryKind::kNoop;

  uint64_t offset() const { return uint64_t{block} * kDirectAlignment; }
  Place payload_place() const {
    const size_t head = record_head_bytes(header_bytes);
    return {segment, block + static_cast<uint32_t>(head / kDirectAlignment)};
  }
  EntryMeta meta(Index index) const {
    return {term, index, kind, header_bytes, payload_bytes, checksum};
  }
};
static_assert(sizeof(Locator) == 40, "a log has millions of them");

}  // namespace ballast::storage
