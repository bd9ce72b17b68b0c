#include "proto/files/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <thread>

namespace ballast {

void stop_process(const Error& error) {
  std::fprintf(stderr,
               "ballast: %s; the process stops, since a disk that failed once can't be trusted "
               "before it is read again\n",
               error.message.c_str());
  std::fflush(stderr);
  std::abort();
}

Result<UniqueFd> open_file(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0644);
  if (fd < 0) return os_failure("open", path);
  return UniqueFd(fd, path);
}

Result<UniqueFd> open_existing(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd >= 0) return UniqueFd(fd, path);
  const int number = errno;
  auto failure = os_failure("open", path, number);
  if (number == ENOENT) failure.error().code = Errc::kNotFound;
  return failure;
}

Result<UniqueFd> open_direct(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC | O_DIRECT, 0644);
  if (fd >= 0) return UniqueFd(fd, path);
  if (errno != EINVAL) return os_failure("open", path);
  return open_file(path, flags);
}

std::unexpected<Error> disk_failure(std::string_view what, std::string_view path, int number) {
  std::unexpected<Error> failure = os_failure(what, path, number);
  if (number == ENOSPC || number == EDQUOT) failure.error().code = Errc::kNoSpace;
  return failure;
}

Status write_fully(const UniqueFd& file, std::span<const std::byte> bytes, uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t written =
        ::pwrite(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return disk_failure("write", file.path());
    if (written == 0) return disk_failure("write", file.path(), ENOSPC);
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset += static_cast<uint64_t>(written);
  }
  return {};
}

Status write_fully(const UniqueFd& file, std::span<const std::span<const std::byte>> pieces,
                   uint64_t offset) {
  std::vector<iovec> all;
  // The kernel reads them only; iovec knows no const.
  for (const auto piece : pieces)
    all.push_back({const_cast<std::byte*>(piece.data()), piece.size()});
  const ssize_t got =
      ::pwritev(file.get(), all.data(), static_cast<int>(all.size()), static_cast<off_t>(offset));
  auto written = static_cast<size_t>(std::max<ssize_t>(got, 0));
  // What one call did not write, for whatever reason, others do, or say why not.
  for (const auto piece : pieces) {
    const size_t done = std::min(written, piece.size());
    BALLAST_TRY_STATUS(write_fully(file, piece.subspan(done), offset + done));
    written -= done;
    offset += piece.size();
  }
  return {};
}

Status read_fully(const UniqueFd& file, std::span<std::byte> bytes, uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t got = ::pread(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return os_failure("read", file.path());
    if (got == 0)
      return fail(Errc::kIo, "cannot read '{}': it ends at offset {}", file.path(), offset);
    bytes = bytes.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
  return {};
}

Status sync_file(const UniqueFd& file) {
  if (::fdatasync(file.get()) != 0) return os_failure("flush", file.path());
  return {};
}

Status sync_directory(const std::string& path) {
  BALLAST_TRY(const UniqueFd directory, open_file(path, O_RDONLY | O_DIRECTORY));
  if (::fsync(directory.get()) != 0) return os_failure("flush", path);
  return {};
}

Result<uint64_t> file_bytes(const UniqueFd& file) {
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return os_failure("stat", file.path());
  return static_cast<uint64_t>(status.st_size);
}

Result<std::string> read_file(const std::string& path, uint64_t bytes_max) {
  BALLAST_TRY(const UniqueFd file, open_existing(path));
  BALLAST_TRY(const uint64_t size, file_bytes(file));
  if (size > bytes_max)
    return fail(Errc::kCorrupt, "'{}' has {} bytes; at most {} can be right", path, size,
                bytes_max);
  std::string text(size, '\0');
  BALLAST_TRY_STATUS(read_fully(file, std::as_writable_bytes(std::span(text)), 0));
  return text;
}

Status write_file(const std::string& path, std::span<const std::byte> bytes) {
  const std::string draft = path + ".tmp";
  BALLAST_TRY(const UniqueFd file, open_file(draft, O_WRONLY | O_CREAT | O_TRUNC));
  Status written = write_fully(file, bytes, 0);
  if (written && ::fsync(file.get()) != 0) written = os_failure("flush", draft);
  if (written && ::rename(draft.c_str(), path.c_str()) != 0) written = os_failure("rename", draft);
  if (!written) ::unlink(draft.c_str());
  return written;
}

Status create_durably(const std::string& directory, const std::string& name,
                      std::span<const std::byte> bytes) {
  BALLAST_TRY_STATUS(write_file(directory + "/" + name, bytes));
  return sync_directory(directory);
}

Status rename_durably(const std::string& directory, const std::string& from,
                      const std::string& to) {
  const std::string source = directory + "/" + from;
  const std::string target = directory + "/" + to;
  if (::rename(source.c_str(), target.c_str()) != 0) return os_failure("rename", source);
  return sync_directory(directory);
}

Status remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return os_failure("remove", path);
  return {};
}

Result<std::vector<std::string>> list_directory(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), ::closedir);
  if (!directory) return os_failure("open directory", path);
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(directory.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) return os_failure("read directory", path);
  std::ranges::sort(names);
  return names;
}

bool path_exists(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0;
}

Status make_directories(const std::string& path) {
  const std::filesystem::path whole(path);
  std::filesystem::path partial;
  for (const auto& name : whole) {
    const std::filesystem::path parent = partial;
    partial /= name;
    if (::mkdir(partial.c_str(), 0755) == 0) {
      BALLAST_TRY_STATUS(sync_directory(parent.empty() ? "." : parent.string()));
    } else if (errno != EEXIST && !path_exists(partial.string())) {
      return os_failure("make directory", partial.string());
    }
  }
  return {};
}

Status lock_file(const UniqueFd& file, std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) return os_failure("lock", file.path());
    if (std::chrono::steady_clock::now() >= deadline)
      return fail(Errc::kRefused, "'{}' is in use by another process; stop that one first",
                  file.path());
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return {};
}

}  // namespace ballast
