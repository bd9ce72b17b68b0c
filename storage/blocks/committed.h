// A committed entry as the state machine needs it: without its payload, which stays in the log.
#pragma once

#include "proto/base/entry.h"
#include "storage/blocks/payloads.h"

namespace ballast::storage {

struct Committed {
  Term term;
  Index index;
  EntryKind kind = EntryKind::kNoop;
  Bytes header;
  uint32_t payload_bytes = 0;
  uint32_t payload_crc = 0;
  Place place;  // of the payload, if there is one

  uint64_t bytes() const { return header.size() + uint64_t{payload_bytes}; }
  EntryMeta meta() const {
    return {term,          index,
            kind,          static_cast<uint32_t>(header.size()),
            payload_bytes, entry_checksum(header.span(), payload_crc)};
  }
};

inline Committed committed(const Entry& entry, Place place) {
  return {entry.term,
          entry.index,
          entry.kind,
          entry.header,
          static_cast<uint32_t>(entry.payload.size()),
          entry.payload_crc,
          place};
}

}  // namespace ballast::storage
