// Where the bytes of blocks lie. They are written once, as payloads of log entries; the rows say in
// which place.
#pragma once

#include <compare>
#include <cstdint>

#include "proto/base/bytes.h"
#include "proto/base/limits.h"
#include "proto/base/result.h"

namespace ballast::storage {

// Where a payload begins in the log. Of this node alone: another one's log is cut into segments
// elsewhere.
struct Place {
  uint64_t segment = 0;  // its sequence
  uint32_t unit = 0;     // offset in the segment, in units of kDirectAlignment

  uint64_t offset() const { return uint64_t{unit} * kDirectAlignment; }
  auto operator<=>(const Place&) const = default;
};

// Thread-safe.
class Payloads {
 public:
  virtual ~Payloads() = default;
  // The `bytes` bytes at `place`, which have this CRC32C. Blocks on the disk. Errors: kIo; kCorrupt
  // if the disk holds other bytes there or has no such place. They say which file, and where.
  virtual Result<Bytes> read(Place place, uint32_t bytes, uint32_t crc) const = 0;
};

}  // namespace ballast::storage
