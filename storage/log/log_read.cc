#include "storage/log/log_read.h"

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
    BALLAST_TRY(Bytes payload,
                read_payload(planned.segment->file, at.offset() + head.size(), at.payload_bytes));
    Entry entry(at.term, planned.index, at.kind,
                Bytes::copy_of(record_entry_header(header, head.span())), std::move(payload));
    if (entry.payload_crc != header.payload_crc)
      return fail(Errc::kCorrupt, "the payload does not match its CRC32C");
    return entry;
  }

  GroupId group_;
  std::vector<PlannedEntry> plan_;
};

}  // namespace

std::unique_ptr<LogRead> make_log_read(GroupId group, std::vector<PlannedEntry> plan) {
  return std::make_unique<PlannedRead>(group, std::move(plan));
}

}  // namespace ballast::storage
