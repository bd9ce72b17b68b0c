#include "storage/log/hard_state_file.h"

#include <cstring>
#include <utility>

#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "proto/files/files.h"

namespace ballast::storage {
namespace {

constexpr uint32_t kMagic = 0x53484C42;  // "BLHS"
constexpr uint32_t kVersion = 2;
constexpr size_t kFixedBytes = 96;
constexpr uint32_t kVersionWithoutStart = 1;  // its log begins with the first segment
constexpr size_t kFixedBytesWithoutStart = 56;
constexpr size_t kChecked = 8;

template <class T>
void put(std::span<std::byte> out, size_t at, T value) {
  std::memcpy(out.data() + at, &value, sizeof value);
}
template <class T>
T get(std::span<const std::byte> in, size_t at) {
  T value;
  std::memcpy(&value, in.data() + at, sizeof value);
  return value;
}

}  // namespace

void encode_hard_state(const HardStateRecord& record, std::span<const std::byte> last_head,
                       std::span<std::byte> out) {
  BALLAST_CHECK(out.size() == kHardStateSlotBytes);
  std::memset(out.data(), 0, kFixedBytes);
  put_second_place(last_head, kFixedBytes, out);
  put(out, 0, kMagic);
  put(out, 8, kVersion);
  put(out, 16, record.group.value());
  put(out, 24, record.sequence);
  put(out, 32, record.state.term.value());
  put(out, 40, record.state.vote.value());
  put(out, 48, record.durable_serial);
  put(out, 56, record.start.segment);
  put(out, 64, record.start.base.index.value());
  put(out, 72, record.start.base.term.value());
  put(out, 80, record.start.chain.next_serial);
  put(out, 88, record.start.chain.previous);
  put(out, 92, record.start.base.chain);
  put(out, 4, crc32c(out.first(kFixedBytes).subspan(kChecked)));
}

Result<HardStateRecord> parse_hard_state(std::span<const std::byte> bytes) {
  if (bytes.size() < kFixedBytes || get<uint32_t>(bytes, 0) != kMagic)
    return fail(Errc::kCorrupt, "hard state has no magic number");
  const auto version = get<uint32_t>(bytes, 8);
  const size_t fixed = version == kVersionWithoutStart ? kFixedBytesWithoutStart : kFixedBytes;
  if (get<uint32_t>(bytes, 4) != crc32c(bytes.first(fixed).subspan(kChecked)))
    return fail(Errc::kCorrupt, "hard state does not match its CRC32C");
  if (version != kVersion && version != kVersionWithoutStart)
    return fail(Errc::kRefused,
                "hard state has format version {}; this program knows versions up to {}", version,
                kVersion);
  if (get<uint32_t>(bytes, 12) != 0)
    return fail(Errc::kCorrupt, "hard state has bytes that no version writes");
  HardStateRecord record;
  record.group = GroupId(get<uint64_t>(bytes, 16));
  record.sequence = get<uint64_t>(bytes, 24);
  record.state.term = Term(get<uint64_t>(bytes, 32));
  record.state.vote = NodeId(get<uint64_t>(bytes, 40));
  record.durable_serial = get<uint64_t>(bytes, 48);
  if (version == kVersionWithoutStart) return record;
  record.start.segment = get<uint64_t>(bytes, 56);
  record.start.base.index = Index(get<uint64_t>(bytes, 64));
  record.start.base.term = Term(get<uint64_t>(bytes, 72));
  record.start.chain.next_serial = get<uint64_t>(bytes, 80);
  record.start.chain.previous = get<uint32_t>(bytes, 88);
  record.start.base.chain = get<uint32_t>(bytes, 92);
  return record;
}

std::span<const std::byte> second_place_in_slot(std::span<const std::byte> slot) {
  return second_place(slot, kFixedBytes);
}

size_t HardStateCopies::newest() const {
  const auto& [first, second] = copies;
  if (!first && !second) return copies.size();
  return !second || (first && first->sequence >= second->sequence) ? 0 : 1;
}

HardStateCopies parse_hard_state_copies(std::span<const std::byte> slots) {
  return {{parse_hard_state(slots.first(kHardStateSlotBytes)),
           parse_hard_state(slots.last(kHardStateSlotBytes))}};
}

Result<StoredHardState> load_hard_state(const UniqueFd& file, GroupId group) {
  MutableBytes slots(2 * kHardStateSlotBytes);
  BALLAST_TRY_STATUS(sync_file(file));  // what is read must be what a crash would leave
  BALLAST_TRY(const uint64_t bytes, file_bytes(file));
  if (bytes < slots.size()) {
    return fail(Errc::kCorrupt,
                "the term and vote in '{}' are cut off after {} bytes; this node must not vote "
                "again: remove its data directory and let it join as a new node",
                file.path(), bytes);
  }
  BALLAST_TRY_STATUS(read_fully(file, slots.span(), 0));
  const HardStateCopies parsed = parse_hard_state_copies(slots.span());
  for (const auto& copy : parsed.copies)
    if (!copy && copy.error().code == Errc::kRefused) return std::unexpected(copy.error());
  const size_t best = parsed.newest();
  if (best == parsed.copies.size())
    return fail(Errc::kCorrupt,
                "both copies of the term and vote in '{}' are damaged ({}); this node must not "
                "vote again: remove its data directory and let it join as a new node",
                file.path(), parsed.copies[0].error().message);
  const HardStateRecord& record = *parsed.copies[best];
  if (record.group != group)
    return fail(Errc::kRefused, "'{}' belongs to group {}, not to group {}", file.path(),
                record.group, group);
  const size_t other = 1 - best;
  if (!parsed.copies[other] || *parsed.copies[other] != record) {
    const auto good = slots.span().subspan(best * kHardStateSlotBytes, kHardStateSlotBytes);
    BALLAST_TRY_STATUS(write_fully(file, good, other * kHardStateSlotBytes));
    BALLAST_TRY_STATUS(sync_file(file));
  }
  return StoredHardState{record, Bytes(std::move(slots))};
}

}  // namespace ballast::storage
