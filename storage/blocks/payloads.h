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

// What a read of a payload is content with.
enum class ReadFrom : uint8_t {
  kCache,  // the page cache, where it has what is asked for
  kDisk    // the disk alone: what it holds by now may be something else
};

// Thread-safe.
class Payloads {
 public:
  virtual ~Payloads() = default;
  // The `bytes` bytes at `place`, which have this CRC32C. Blocks on the disk. Errors: kIo; kCorrupt
  // if the disk holds other bytes there or has no such place. They say which file, and where.
  virtual Result<Bytes> read(Place place, uint32_t bytes, uint32_t crc, ReadFrom from) const = 0;
  // Writes the payload of a Block entry once more, to where it was written first. When it returns,
  // it is durable and the disk gives it back. Blocks on the disk. Errors: kCorrupt if there is no
  // such place, or no record there that says it holds this payload; kIo. Nothing else is changed.
  virtual Status restore(Place place, const Bytes& payload) const = 0;
};

}  // namespace ballast::storage
