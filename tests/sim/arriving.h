// The segments that a snapshot's blocks come into, on a simulated node's disk: real files, of which
// a crash takes back what was not flushed.
#pragma once

#include <memory>
#include <vector>

#include "server/raft/prng.h"
#include "storage/snapshot/arriving_blocks.h"

namespace ballast::sim {

class ArrivingFiles {
 public:
  ArrivingFiles(std::string directory, raft::Prng chance)
      : directory_(std::move(directory)), chance_(chance) {}

  const std::string& directory() const { return directory_; }
  // For the log in that directory. What it writes after a crash() is not undone by that one.
  Result<std::unique_ptr<storage::ArrivingBlocks>> open(const std::string& log,
                                                        uint64_t segment_bytes);
  // Each block that was not synced may be lost.
  void crash();
  void wipe();

 private:
  class Blocks;

  const std::string directory_;
  raft::Prng chance_;
  std::vector<storage::Place> unsynced_;
};

}  // namespace ballast::sim
