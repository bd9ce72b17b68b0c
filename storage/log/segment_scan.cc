#include "storage/log/segment_scan.h"

#include "proto/base/crc32c.h"
#include "proto/base/planted.h"

namespace ballast::storage {
namespace {

Result<RecordHeader> read_record(SegmentSource& source, const SegmentHeader& segment,
                                 const ChainEnd& chain, uint64_t offset, uint64_t payloads_from) {
  BALLAST_TRY(RecordHeader header, read_head(source, segment.group, segment.sequence, offset));
  if (header.serial != chain.next_serial || header.previous != chain.previous)
    return fail(Errc::kCorrupt, "record does not follow the one before it");
  const size_t head = record_head_bytes(header.entry.header_bytes);
  if (header.serial < payloads_from) {
    if (offset + head + header.entry.payload_bytes > source.size())
      return fail(Errc::kCorrupt, "payload is cut off");
    return header;
  }
  BALLAST_TRY(const auto bytes, source.fetch(offset, head + header.entry.payload_bytes));
  if (bytes.size() < head + header.entry.payload_bytes)
    return fail(Errc::kCorrupt, "payload is cut off");
  if (crc32c(bytes.subspan(head)) != header.payload_crc && !BALLAST_PLANTED(kTornTailKept))
    return fail(Errc::kCorrupt, "payload does not match its CRC32C");
  return header;
}

}  // namespace

Result<RecordHeader> read_head(SegmentSource& source, GroupId group, uint64_t sequence,
                               uint64_t offset) {
  BALLAST_TRY(auto bytes, source.fetch(offset, kDirectAlignment));
  if (const size_t needed = peek_record_head_bytes(bytes); needed > bytes.size()) {
    BALLAST_TRY(bytes, source.fetch(offset, needed));
  }
  BALLAST_TRY(RecordHeader header, parse_record_head(bytes));
  if (header.group != group || header.segment != sequence || header.offset != offset)
    return fail(Errc::kCorrupt, "record was written for another place");
  return header;
}

Status each_head(SegmentSource& source, GroupId group, uint64_t sequence, uint64_t offset,
                 const std::function<bool(const RecordHeader&)>& visit) {
  for (; offset + kDirectAlignment <= source.size(); offset += kDirectAlignment) {
    BALLAST_TRY(const auto block, source.fetch(offset, kDirectAlignment));
    if (peek_record_head_bytes(block) == 0) continue;  // of a new file nearly all: it is zeros
    const auto record = read_head(source, group, sequence, offset);
    if (!record && record.error().code == Errc::kIo) return std::unexpected(record.error());
    if (record && !visit(*record)) return {};
  }
  return {};
}

Result<uint64_t> find_later_record(SegmentSource& source, GroupId group, uint64_t sequence,
                                   uint64_t offset, uint64_t serial) {
  uint64_t found = 0;
  BALLAST_TRY_STATUS(each_head(source, group, sequence, offset, [&](const RecordHeader& record) {
    if (record.batch > serial) found = record.offset;
    return found == 0;
  }));
  return found;
}

Result<SegmentScan> scan_segment(SegmentSource& source, const SegmentHeader& header,
                                 uint64_t offset, uint64_t payloads_from,
                                 const RecordVisitor& visit, const ScanMender& mend) {
  SegmentScan found{header.chain, offset, "the segment is full", 0};
  while (found.end + kDirectAlignment <= source.size()) {
    const auto record = read_record(source, header, found.chain, found.end, payloads_from);
    if (!record && record.error().code == Errc::kIo) return std::unexpected(record.error());
    if (!record) {
      bool mended = false;
      if (mend) {
        BALLAST_TRY(mended, mend(found));
      }
      if (mended) continue;
      found.end_cause = record.error().message;
      break;
    }
    BALLAST_TRY_STATUS(visit(*record, found.end));
    found.last = found.end;
    found.chain = {record->serial + 1, record->crc};
    found.end += record_bytes(record->entry.header_bytes, record->entry.payload_bytes);
  }
  return found;
}

}  // namespace ballast::storage
