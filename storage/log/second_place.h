// Each head of the log has a second place (docs/formats/log_segment.md): that of a record in the
// record behind it or beside the hard state, that of a segment in its first record.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "proto/base/bytes.h"
#include "proto/base/result.h"
#include "storage/log/file_source.h"
#include "storage/log/record.h"
#include "storage/log/segment_file.h"
#include "storage/log/segment_scan.h"

namespace ballast::storage {

// The bare head of a log's last record, for whatever is written next to carry a copy of it.
class LastHead {
 public:
  // A head that is too long to fit anywhere is not kept.
  void set(std::span<const std::byte> bare_head) {
    size_ = bare_head.size() <= bytes_.size() ? bare_head.size() : 0;
    if (size_ > 0) std::memcpy(bytes_.data(), bare_head.data(), size_);
  }
  std::span<const std::byte> span() const { return std::span(bytes_).first(size_); }

 private:
  std::array<std::byte, kDirectAlignment> bytes_{};
  size_t size_ = 0;
};

// What rotten heads of a segment must be, by their offsets; 4 KiB each, since none that is longer
// has a copy.
using MendedHeads = std::map<uint64_t, Bytes>;

// A segment's file as it is once its heads are mended.
class MendedSource final : public SegmentSource {
 public:
  // Both must stay; `heads` may grow.
  MendedSource(const SegmentFile& segment, const MendedHeads& heads)
      : file_(segment.file, segment.bytes), heads_(heads) {}

  uint64_t size() const override { return file_.size(); }
  Result<std::span<const std::byte>> fetch(uint64_t offset, size_t bytes) override;

 private:
  FileSource file_;
  const MendedHeads& heads_;
  std::vector<std::byte> mended_;
};

// Writes them to the segment's file, durably. Error kIo.
Status write_heads(const SegmentFile& segment, const MendedHeads& heads);

// The bare head of the record that stands at `offset`. Errors: kIo; kCorrupt if none does.
Result<Bytes> read_bare_head(SegmentSource& source, GroupId group, uint64_t sequence,
                             uint64_t offset);

// A record's head by its place and by the chain before it.
struct WantedHead {
  GroupId group;
  uint64_t segment = 0;
  uint64_t offset = 0;
  ChainEnd chain;
};

// Where a copy of it may be.
struct SecondPlaces {
  SegmentSource& segment;            // its own: behind it
  SegmentSource* next = nullptr;     // the segment behind, if that is in use: in its first record
  std::span<const std::byte> slots;  // of the hard state
};

// The bare head, or nothing if no copy of just this one is found. Whether the record was durable is
// not asked here: what may have been torn must not come back. Error kIo.
Result<std::optional<Bytes>> find_copy(const WantedHead& wanted, const SecondPlaces& places);

// The whole head, as it was written behind `before`.
Bytes pad_head(std::span<const std::byte> bare_head, std::span<const std::byte> before);

// The segment's header as its first record tells it, if that is whole. Error kIo.
Result<std::optional<SegmentHeader>> header_by_record(SegmentSource& source, GroupId group,
                                                      uint64_t sequence);

}  // namespace ballast::storage
