#include "storage/snapshot/own_blocks.h"

#include <fcntl.h>

#include <vector>

#include "proto/files/files.h"
#include "proto/storage.pb.h"
#include "storage/kv/block_rows.h"
#include "storage/kv/row_batch.h"
#include "storage/kv/row_keys.h"
#include "storage/log/file_source.h"
#include "storage/log/segment_file.h"
#include "storage/log/segment_scan.h"

namespace ballast::storage {
namespace {

// A record of a Block entry, if it is one.
Status note_place(FileSource& source, const RecordHeader& record, RowBatch& rows) {
  if (record.entry.kind != EntryKind::kBlock || record.entry.payload_bytes == 0) return {};
  const size_t head_bytes = record_head_bytes(record.entry.header_bytes);
  BALLAST_TRY(const auto head, source.fetch(record.offset, head_bytes));
  const auto header = record_entry_header(record, head);
  pb::BlockEntry entry;
  if (!entry.ParseFromArray(header.data(), static_cast<int>(header.size()))) return {};
  BALLAST_TRY(const Digest digest, Digest::from_raw(entry.block().digest()));
  const auto unit = static_cast<uint32_t>((record.offset + head_bytes) / kDirectAlignment);
  rows.put_row(place_key(digest), place_row({record.segment, unit}));
  return {};
}

Status note_segment(const std::string& directory, uint64_t sequence, GroupId group,
                    RowStore& rows) {
  BALLAST_TRY(const UniqueFd file, open_file(directory + "/" + segment_name(sequence), O_RDONLY));
  BALLAST_TRY(const uint64_t bytes, file_bytes(file));
  FileSource source(file, bytes);
  const auto block = source.fetch(0, kSegmentHeaderBytes);
  if (!block) return {};
  const auto header = parse_segment_header(*block);
  if (!header || header->group != group || header->sequence != sequence) return {};
  RowBatch batch(rows);
  // Whatever ends it, what was found before is there.
  (void)scan_segment(
      source, *header, kSegmentHeaderBytes, kNoPayloads,
      [&](const RecordHeader& record, uint64_t) { return note_place(source, record, batch); });
  batch.settle();
  return rows.write(batch.changes());
}

}  // namespace

Status note_places(const std::string& log_directory, GroupId group, RowStore& rows) {
  BALLAST_TRY(const auto names, list_directory(log_directory));
  for (const std::string& name : names) {
    const auto sequence = parse_segment_name(name);
    if (!sequence) continue;
    BALLAST_TRY_STATUS(note_segment(log_directory, *sequence, group, rows));
  }
  return rows.flush();
}

}  // namespace ballast::storage
