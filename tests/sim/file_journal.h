// What a crash leaves of files that were written with system calls, as recovery does: of what was
// not flushed any sector may be missing, and a name that was given by renaming may be lost until
// its directory is flushed.
//
// While a journal lives, pwrite(), fsync(), fdatasync(), rename() and unlink() of its thread go by
// it; the program that holds it has its own versions of them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "proto/base/unique_fd.h"
#include "server/raft/prng.h"

namespace ballast::sim {

class FileJournal {
 public:
  // The power fails after so many steps: the step that would follow, and all others, are errors.
  // A step is a write, a renaming, or a flush of something that was not flushed.
  explicit FileJournal(uint64_t steps);
  ~FileJournal();
  FileJournal(const FileJournal&) = delete;
  FileJournal& operator=(const FileJournal&) = delete;

  bool power_failed() const { return failed_; }
  // Takes back any part of what was not flushed. Call it when nobody writes any more.
  void crash(raft::Prng& chance);

  // ---- for the system calls ----
  static FileJournal* of_this_thread();
  // Each notes what is about to happen and returns false if it is to end with an error. A write or
  // renaming may have happened all the same.
  bool write(int file, std::span<const std::byte> bytes, uint64_t offset);
  bool flush(int file);
  bool rename(const std::string& from, const std::string& to);

 private:
  struct Write {
    UniqueFd file;  // whatever its name is by now
    uint64_t inode = 0;
    uint64_t offset = 0;
    std::vector<std::byte> old;
  };
  struct Renaming {
    std::string from;
    std::string to;
  };
  bool step();

  uint64_t steps_left_;
  bool failed_ = false;
  std::vector<Write> writes_;  // not flushed; oldest first
  std::vector<Renaming> names_;
};

}  // namespace ballast::sim
