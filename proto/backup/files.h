// Files of a backup: durable when a function that writes returns, with errors that name them.
//
// Errors of all functions: kIo, kNoSpace if what lacks is space, kNotFound for a file that is
// missing.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proto/base/bytes.h"
#include "proto/base/result.h"
#include "proto/base/unique_fd.h"

namespace ballast::backup {

// open(2) with O_CLOEXEC and mode 0644.
Result<UniqueFd> open_file(const std::string& path, int flags);
Status write_all(const UniqueFd& file, std::span<const std::byte> bytes);
// Reads until `out` is full or the file ends; returns how much came.
Result<size_t> read_some(const UniqueFd& file, std::span<std::byte> out);
Status sync_file(const UniqueFd& file);
Status sync_directory(const std::string& path);

// The whole of a file; kCorrupt if it is longer than `bytes_max`.
Result<Bytes> read_file(const std::string& path, size_t bytes_max);
// Writes PATH.tmp, flushes it and renames it to PATH. That the name stays is sync_directory()'s.
Status write_file(const std::string& path, std::span<const std::byte> bytes);
// One that is missing is a success.
Status remove_file(const std::string& path);

// Makes the directory and those above it, durably.
Status make_directories(const std::string& path);
// Names, sorted; none if there is no such directory.
Result<std::vector<std::string>> list_directory(const std::string& path);

}  // namespace ballast::backup
