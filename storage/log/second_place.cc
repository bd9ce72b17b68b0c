#include "storage/log/second_place.h"

#include <algorithm>
#include <utility>

#include "proto/files/files.h"
#include "storage/log/hard_state_file.h"

namespace ballast::storage {
namespace {

struct Copy {
  RecordHeader header;
  Bytes bare_head;
};

// The copy that lies there, if it is of the head that is wanted.
std::optional<Copy> copy_in(std::span<const std::byte> place, const WantedHead& wanted) {
  const auto head = parse_record_head(place);
  if (!head || head->group != wanted.group || head->segment != wanted.segment ||
      head->offset != wanted.offset || head->serial != wanted.chain.next_serial ||
      head->previous != wanted.chain.previous)
    return std::nullopt;
  return Copy{*head, Bytes::copy_of(place.first(bare_head_bytes(head->entry.header_bytes)))};
}

// The copy in the record behind the wanted one, if `behind` is that.
Result<std::optional<Bytes>> copy_in_record(SegmentSource& source, const RecordHeader& behind,
                                            const WantedHead& wanted) {
  if (behind.serial != wanted.chain.next_serial + 1) return std::nullopt;
  const uint32_t header_bytes = behind.entry.header_bytes;
  BALLAST_TRY(const auto head, source.fetch(behind.offset, record_head_bytes(header_bytes)));
  auto copy = copy_in(second_place(head, bare_head_bytes(header_bytes)), wanted);
  if (!copy || copy->header.crc != behind.previous) return std::nullopt;
  return std::move(copy->bare_head);
}

}  // namespace

Result<std::span<const std::byte>> MendedSource::fetch(uint64_t offset, size_t bytes) {
  BALLAST_TRY(const auto found, file_.fetch(offset, bytes));
  const uint64_t end = offset + found.size();
  const auto touches = [&](const auto& head) {
    return head.first < end && head.first + head.second.size() > offset;
  };
  if (std::ranges::none_of(heads_, touches)) return found;
  mended_.assign(found.begin(), found.end());
  for (const auto& [at, head] : heads_) {
    const uint64_t from = std::max(at, offset);
    const uint64_t to = std::min(at + head.size(), end);
    if (from < to) std::memcpy(&mended_[from - offset], head.data() + (from - at), to - from);
  }
  return std::span<const std::byte>(mended_);
}

Status write_heads(const SegmentFile& segment, const MendedHeads& heads) {
  if (heads.empty()) return {};
  for (const auto& [offset, head] : heads)
    BALLAST_TRY_STATUS(write_fully(segment.file, head.span(), offset));
  return sync_file(segment.file);
}

Result<Bytes> read_bare_head(SegmentSource& source, GroupId group, uint64_t sequence,
                             uint64_t offset) {
  BALLAST_TRY(const RecordHeader header, read_head(source, group, sequence, offset));
  BALLAST_TRY(const auto head, source.fetch(offset, bare_head_bytes(header.entry.header_bytes)));
  return Bytes::copy_of(head);
}

Result<std::optional<Bytes>> find_copy(const WantedHead& wanted, const SecondPlaces& places) {
  for (size_t at = 0; at < places.slots.size(); at += kHardStateSlotBytes) {
    const auto slot = places.slots.subspan(at, kHardStateSlotBytes);
    if (auto copy = copy_in(second_place_in_slot(slot), wanted)) return std::move(copy->bare_head);
  }
  Result<std::optional<Bytes>> found = std::nullopt;
  if (places.next != nullptr) {
    const auto first =
        read_head(*places.next, wanted.group, wanted.segment + 1, kSegmentHeaderBytes);
    if (!first && first.error().code == Errc::kIo) return std::unexpected(first.error());
    if (first) found = copy_in_record(*places.next, *first, wanted);
    if (!found || *found) return found;
  }
  BALLAST_TRY_STATUS(each_head(places.segment, wanted.group, wanted.segment,
                               wanted.offset + kDirectAlignment, [&](const RecordHeader& behind) {
                                 found = copy_in_record(places.segment, behind, wanted);
                                 return found && !*found;
                               }));
  return found;
}

Bytes pad_head(std::span<const std::byte> bare_head, std::span<const std::byte> before) {
  MutableBytes head(direct_round_up(bare_head.size()));
  std::memcpy(head.data(), bare_head.data(), bare_head.size());
  put_second_place(before, bare_head.size(), head.span());
  return Bytes(std::move(head));
}

Result<std::optional<SegmentHeader>> header_by_record(SegmentSource& source, GroupId group,
                                                      uint64_t sequence) {
  const auto first = read_head(source, group, sequence, kSegmentHeaderBytes);
  if (!first && first.error().code == Errc::kIo) return std::unexpected(first.error());
  if (!first) return std::nullopt;
  return SegmentHeader{
      group, sequence, source.size(), first->entry.index, {first->serial, first->previous}};
}

}  // namespace ballast::storage
