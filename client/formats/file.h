// Files as the formats need them: read at an offset, and written beside their target until whole.
//
// Both remember their path, and their errors (kIo) name it and say what to do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "proto/base/result.h"
#include "proto/base/unique_fd.h"

namespace ballast::formats {

// A regular file that is open for reading. Thread-safe.
class InputFile {
 public:
  static Result<InputFile> open(const std::string& path);

  const std::string& path() const { return fd_.path(); }
  uint64_t bytes() const { return bytes_; }  // when it was opened
  // Fills `out` with the bytes from `offset` on. Error kCorrupt if the file has become shorter.
  Status read(uint64_t offset, std::span<std::byte> out) const;

 private:
  InputFile(UniqueFd fd, uint64_t bytes) : fd_(std::move(fd)), bytes_(bytes) {}

  UniqueFd fd_;
  uint64_t bytes_ = 0;
};

// Writes PATH.partial-<pid> and renames it to PATH on commit(), so that nobody ever sees half a
// file. Without a commit the destructor removes it. Not thread-safe. Move-only.
class PartialFile {
 public:
  // Errors: kInvalidArgument if `path` is there and is no regular file.
  static Result<PartialFile> create(const std::string& path);
  ~PartialFile();
  PartialFile(PartialFile&& other) noexcept;
  PartialFile& operator=(PartialFile&&) = delete;

  const std::string& path() const { return path_; }
  Status append(std::span<const std::byte> bytes);
  // Makes the file durable under its own name. REQUIRES: called once, at the end.
  Status commit();

 private:
  PartialFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  UniqueFd fd_;  // invalid once committed or moved from
  std::string path_;
};

}  // namespace ballast::formats
