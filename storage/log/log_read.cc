#include "storage/log/log_read.h"

#include <functional>
#include <utility>

#include "proto/files/files.h"

namespace ballast::storage {
namespace {

class PlannedRead final : public LogRead {
 public:
  PlannedRead(GroupId group, std::vector<PlannedEntry> plan)
      : group_(group), plan_(std::move(plan)) {}

  Result<std::vector<Entry>> entries() override {
    return read_all<Entry>([this](const PlannedEntry& planned) { return read_entry(planned); });
  }
  Result<std::vector<Committed>> heads() override {
    return read_all<Committed>([this](const PlannedEntry& planned) { return read_head(planned); });
  }

 private:
  template <class Read>
  Result<std::vector<Read>> read_all(const std::function<Result<Read>(const PlannedEntry&)>& read) {
    std::vector<Read> all;
    all.reserve(plan_.size());
    for (const PlannedEntry& planned : plan_) {
      auto one = read(planned);
      if (!one)
        return fail_within(std::move(one).error(), "log entry {} in '{}' at offset {}",
                           planned.index, planned.segment->file.path(), planned.locator.offset());
      all.push_back(*std::move(one));
    }
    return all;
  }

  Result<Committed> read_head(const PlannedEntry& planned) const {
    const Locator& at = planned.locator;
    MutableBytes head(record_head_bytes(at.header_bytes));
    BALLAST_TRY_STATUS(read_fully(planned.segment->file, head.span(), at.offset()));
    BALLAST_TRY(const RecordHeader header, parse_record_head(head.span()));
    if (header.group != group_ || header.serial != at.serial || header.offset != at.offset() ||
        header.segment != planned.segment->sequence || header.entry != at.meta(planned.index))
      return fail(Errc::kCorrupt, "another record lies there");
    return Committed{at.term,           planned.index,
                     at.kind,           Bytes::copy_of(record_entry_header(header, head.span())),
                     at.payload_bytes,  header.payload_crc,
                     at.payload_place()};
  }

  Result<Entry> read_entry(const PlannedEntry& planned) const {
    BALLAST_TRY(Committed head, read_head(planned));
    BALLAST_TRY(Bytes payload,
                read_payload(planned.segment->file, head.place.offset(), head.payload_bytes));
    Entry entry(head.term, head.index, head.kind, std::move(head.header), std::move(payload));
    if (entry.payload_crc != head.payload_crc)
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
