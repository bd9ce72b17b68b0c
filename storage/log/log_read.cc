#include "storage/log/log_read.h"

#include <cstring>
#include <utility>

#include "storage/io/files.h"

namespace ballast::storage {
namespace {

class PlannedRead final : public LogRead {
 public:
  PlannedRead(GroupId group, std::vector<PlannedEntry> plan)
      : group_(group), plan_(std::move(plan)) {}

  Result<std::vector<Entry>> run() override {
    std::vector<Entry> entries;
    entries.reserve(plan_.size());
    for (const PlannedEntry& planned : plan_) {
      auto entry = read(planned);
      if (!entry)
        return fail_within(std::move(entry).error(), "log entry {} in '{}' at offset {}",
                           planned.index, planned.segment->file.path(), planned.locator.offset());
      entries.push_back(*std::move(entry));
    }
    return entries;
  }

 private:
  Result<Entry> read(const PlannedEntry& planned) const {
    const Locator& at = planned.locator;
    MutableBytes head(record_head_bytes(at.header_bytes));
    BALLAST_TRY_STATUS(read_fully(planned.segment->file, head.span(), at.offset()));
    BALLAST_TRY(const RecordHeader header, parse_record_head(head.span()));
    if (header.group != group_ || header.serial != at.serial || header.offset != at.offset() ||
        header.segment != planned.segment->sequence || header.entry != at.meta(planned.index))
      return fail(Errc::kCorrupt, "another record lies there");
    BALLAST_TRY(Bytes payload, read_payload(planned, at.offset() + head.size()));
    Entry entry(at.term, planned.index, at.kind,
                Bytes::copy_of(record_entry_header(header, head.span())), std::move(payload));
    if (entry.payload_crc != header.payload_crc)
      return fail(Errc::kCorrupt, "the payload does not match its CRC32C");
    return entry;
  }

  static Result<Bytes> read_payload(const PlannedEntry& planned, uint64_t offset) {
    const size_t size = planned.locator.payload_bytes;
    if (size == 0) return Bytes();
    const size_t padded = direct_round_up(size);
    // A buffer of 4 KiB or more has room for the padding, so that direct reads end in it.
    if (size >= kDirectAlignment) {
      MutableBytes payload(size);
      const std::span room(payload.data(), padded);
      BALLAST_TRY_STATUS(read_fully(planned.segment->file, room, offset));
      std::memset(room.data() + size, 0, padded - size);
      return Bytes(std::move(payload));
    }
    MutableBytes scratch(padded);
    BALLAST_TRY_STATUS(read_fully(planned.segment->file, scratch.span(), offset));
    return Bytes::copy_of(scratch.span().first(size));
  }

  GroupId group_;
  std::vector<PlannedEntry> plan_;
};

}  // namespace

std::unique_ptr<LogRead> make_log_read(GroupId group, std::vector<PlannedEntry> plan) {
  return std::make_unique<PlannedRead>(group, std::move(plan));
}

}  // namespace ballast::storage
