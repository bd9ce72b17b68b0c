// Files and directories, with errors that name them. Everything here blocks.
#pragma once

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proto/base/result.h"
#include "proto/base/unique_fd.h"

namespace ballast {

// Prints one line on stderr and aborts: for a write or flush that failed. What the kernel holds is
// unknown from then on (a second fsync may succeed without the data), so only a restart that reads
// the disk again can tell.
[[noreturn]] void stop_process(const Error& error);

// open(2) with O_CLOEXEC and mode 0644.
Result<UniqueFd> open_file(const std::string& path, int flags);
// The same for reading; kNotFound if there is no such file.
Result<UniqueFd> open_existing(const std::string& path);
// The same past the page cache, or through it where the file system has no O_DIRECT.
Result<UniqueFd> open_direct(const std::string& path, int flags);

// os_failure(), but kNoSpace if what lacks is space.
std::unexpected<Error> disk_failure(std::string_view what, std::string_view path,
                                    int number = errno);

// Offset, length and address must be multiples of 4 KiB if the file was opened by open_direct().
// Errors: kIo, kNoSpace.
Status write_fully(const UniqueFd& file, std::span<const std::byte> bytes, uint64_t offset);
// The pieces, one behind the other.
Status write_fully(const UniqueFd& file, std::span<const std::span<const std::byte>> pieces,
                   uint64_t offset);
// Errors: kIo, also if the file ends before.
Status read_fully(const UniqueFd& file, std::span<std::byte> bytes, uint64_t offset);
Status sync_file(const UniqueFd& file);
Status sync_directory(const std::string& path);
Result<uint64_t> file_bytes(const UniqueFd& file);

// Error kCorrupt if the file is longer than `bytes_max`.
Result<std::string> read_file(const std::string& path, uint64_t bytes_max = UINT64_MAX);
// Writes PATH.tmp, flushes it and renames it to PATH; after a crash that is there as a whole, or
// not at all. An error leaves nothing behind. Errors: kIo, kNoSpace.
Status write_file(const std::string& path, std::span<const std::byte> bytes);
// write_file() of directory/name, which is there for good once this has returned.
Status create_durably(const std::string& directory, const std::string& name,
                      std::span<const std::byte> bytes);
Status rename_durably(const std::string& directory, const std::string& from, const std::string& to);
// Removes a file; one that is missing is a success.
Status remove_file(const std::string& path);

// Names, sorted, without "." and "..".
Result<std::vector<std::string>> list_directory(const std::string& path);
bool path_exists(const std::string& path);
// Makes the directory and those above it, durably.
Status make_directories(const std::string& path);

// Takes an exclusive flock; waits for at most `patience`. Error kRefused if another holds it.
Status lock_file(const UniqueFd& file, std::chrono::milliseconds patience);

}  // namespace ballast
