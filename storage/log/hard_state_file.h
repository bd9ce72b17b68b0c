// Term and vote, and where the log begins: one checksummed record in two copies
// (docs/formats/log_segment.md).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "proto/base/bytes.h"
#include "proto/base/entry.h"
#include "proto/base/result.h"
#include "proto/base/unique_fd.h"
#include "storage/log/log_base.h"
#include "storage/log/record.h"

namespace ballast::storage {

inline constexpr size_t kHardStateSlotBytes = kDirectAlignment;
inline constexpr const char* kHardStateName = "hard_state";

// Where the log begins. Segments before the first one are no part of it: they may still be the home
// of blocks.
struct LogStart {
  uint64_t segment = 1;  // sequence of the first
  LogBase base;          // before its first record
  ChainEnd chain;        // likewise
  bool operator==(const LogStart&) const = default;
};

struct HardStateRecord {
  GroupId group;
  uint64_t sequence = 0;  // grows with each record; the copy with the higher one holds
  HardState state;
  // Records with a lower serial were durable when this was written: a log that ends before it has
  // lost something.
  uint64_t durable_serial = 1;
  LogStart start = {};
  bool operator==(const HardStateRecord&) const = default;
};

// `last_head` is the bare head of the record durable_serial - 1, which has no record behind it yet
// to carry a copy, so that it has its second place here; empty if it isn't known.
// REQUIRES: out.size() == kHardStateSlotBytes.
void encode_hard_state(const HardStateRecord& record, std::span<const std::byte> last_head,
                       std::span<std::byte> out);
Result<HardStateRecord> parse_hard_state(std::span<const std::byte> bytes);
// The second place in a copy of the hard state, whether that itself is whole or not.
std::span<const std::byte> second_place_in_slot(std::span<const std::byte> slot);

// Both copies as they lie on the disk.
struct HardStateCopies {
  std::array<Result<HardStateRecord>, 2> copies;

  // The one that holds: the valid one with the higher sequence; 2 if neither is valid.
  size_t newest() const;
};
// REQUIRES: slots.size() == 2 * kHardStateSlotBytes.
HardStateCopies parse_hard_state_copies(std::span<const std::byte> slots);

struct StoredHardState {
  HardStateRecord record;
  Bytes slots;  // both, as they were found
};

// Reads both copies, takes the valid one with the higher sequence and restores the other durably.
// Error kCorrupt if both are damaged, kRefused if it is another group's.
Result<StoredHardState> load_hard_state(const UniqueFd& file, GroupId group);

}  // namespace ballast::storage
