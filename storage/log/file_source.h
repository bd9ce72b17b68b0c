// A segment's file as the scans of segment_scan.h read it.
#pragma once

#include "proto/base/bytes.h"
#include "proto/base/unique_fd.h"
#include "storage/log/segment_scan.h"

namespace ballast::storage {

// A window over a file, read ahead from the offset that is asked for: the further the longer it is
// read without gaps, and hardly where much is passed over. Memory: 8 MiB.
class FileSource final : public SegmentSource {
 public:
  // The file must stay. `bytes` is its size.
  FileSource(const UniqueFd& file, uint64_t bytes);

  uint64_t size() const override { return size_; }
  Result<std::span<const std::byte>> fetch(uint64_t offset, size_t bytes) override;

 private:
  const UniqueFd& file_;
  const uint64_t size_;
  MutableBytes window_;
  size_t ahead_;
  uint64_t start_ = 0;
  uint64_t filled_ = 0;
};

}  // namespace ballast::storage
