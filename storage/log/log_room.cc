#include "storage/log/log_room.h"

#include <utility>

namespace ballast::storage {

bool LogRoom::holds(std::span<const uint64_t> records, uint64_t reserve) const {
  LogRoom room = *this;
  for (const uint64_t bytes : records) {
    if (bytes > room.left) room.left = std::exchange(room.ahead, 0);
    if (bytes > room.left) return false;
    room.left -= bytes;
  }
  return room.left + room.ahead >= reserve;
}

}  // namespace ballast::storage
