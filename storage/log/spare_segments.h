// Segment files that nothing needs any more, kept to be written over: their space is allocated and
// written already, which a new file's is not.
#pragma once

#include <string>
#include <vector>

#include "storage/log/segment_file.h"

namespace ballast::storage {

// For one thread.
class SpareSegments {
 public:
  explicit SpareSegments(std::string directory) : directory_(std::move(directory)) {}

  // Reads on other threads may still go on in it; nobody begins one.
  void add(SegmentPtr spare) { spares_.push_back(std::move(spare)); }
  // One of this size that no read has in use any more; null if there is none.
  SegmentPtr take(uint64_t bytes);
  uint64_t bytes() const;
  // Deletes files until they take at most so many bytes. Error kIo: one of them may be there still.
  Status trim(uint64_t bytes);
  // For the next process to open the files, whoever still reads them.
  void unlock() const;

 private:
  const std::string directory_;
  std::vector<SegmentPtr> spares_;
};

}  // namespace ballast::storage
