// How much can be appended to a log before it needs a segment that does not exist.
#pragma once

#include <cstdint>
#include <span>

namespace ballast::storage {

// What is known of a segment that is not in use yet.
enum class Outlook : uint8_t {
  kComing,   // being made
  kAssured,  // it is there, or the file system has set its space aside
  kLacking,  // there was no space for it; another try follows each second
};

struct LogRoom {
  uint64_t left = 0;   // bytes of the segment in which the next record lands
  uint64_t ahead = 0;  // bytes for records in the segment behind that one, if it is assured
  Outlook next = Outlook::kComing;  // of the segment behind

  // True if records of these sizes fit, one behind the other, and leave at least `reserve` bytes.
  // No record lies in two segments.
  bool holds(std::span<const uint64_t> records, uint64_t reserve) const;
};

}  // namespace ballast::storage
