// The parser of term and vote over any bytes: nothing accepted that the writer would not have
// written, and of two copies the one that a vote must be remembered by.
//
// The input is both copies as they lie on the disk. A checksum stops random bytes early, so the
// CRCs are put right in a second pass, of the version that each copy says it has.
#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "storage/log/hard_state_file.h"

namespace {

using namespace ballast;
using namespace ballast::storage;

constexpr size_t kFixedBytes[] = {56, 96};  // of versions 1 and 2
constexpr size_t kChecked = 8;
constexpr size_t kBehindVersion = 12;

void repair_crc(std::span<std::byte> copy) {
  uint32_t version = 0;
  std::memcpy(&version, copy.data() + kChecked, sizeof version);
  const size_t fixed = kFixedBytes[version == 1 ? 0 : 1];
  const uint32_t crc = crc32c(copy.first(fixed).subspan(kChecked));
  std::memcpy(copy.data() + 4, &crc, sizeof crc);
}

// What is accepted is what encoding it gives, but for the version.
void check_copy(std::span<const std::byte> copy) {
  const auto record = parse_hard_state(copy);
  for (size_t bytes = 0; bytes < kFixedBytes[1]; ++bytes)
    BALLAST_CHECK(!parse_hard_state(copy.first(bytes)));
  if (!record) {
    const Errc code = record.error().code;
    BALLAST_CHECK(code == Errc::kCorrupt || code == Errc::kRefused);
    return;
  }
  std::vector<std::byte> again(kHardStateSlotBytes);
  encode_hard_state(*record, {}, again);
  const auto twice = parse_hard_state(again);
  BALLAST_CHECK(twice && *twice == *record);
  const bool old = copy[kChecked] == std::byte{1};
  const size_t fixed = kFixedBytes[old ? 0 : 1];
  BALLAST_CHECK(!old || record->start == LogStart());
  BALLAST_CHECK(std::ranges::equal(copy.first(fixed).subspan(kBehindVersion),
                                   std::span(again).first(fixed).subspan(kBehindVersion)));
}

void check_copies(std::span<const std::byte> slots) {
  const HardStateCopies parsed = parse_hard_state_copies(slots);
  const auto& [first, second] = parsed.copies;
  const size_t newest = parsed.newest();
  BALLAST_CHECK((newest == 2) == (!first && !second));
  if (newest == 2) return;
  const auto& best = parsed.copies[newest];
  BALLAST_CHECK(best.has_value());
  for (const auto& copy : parsed.copies) BALLAST_CHECK(!copy || copy->sequence <= best->sequence);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::byte> slots(2 * kHardStateSlotBytes);
  if (size > 0) std::memcpy(slots.data(), data, std::min(size, slots.size()));
  const std::span all(slots);
  const std::span<std::byte> copies[] = {all.first(kHardStateSlotBytes),
                                         all.last(kHardStateSlotBytes)};
  for (const auto copy : copies) check_copy(copy);
  check_copies(all);
  for (const auto copy : copies) {
    repair_crc(copy);
    check_copy(copy);
  }
  check_copies(all);
  return 0;
}
