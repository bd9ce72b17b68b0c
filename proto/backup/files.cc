#include "proto/backup/files.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

namespace ballast::backup {
namespace {

namespace fs = std::filesystem;

std::unexpected<Error> failure(std::string_view what, std::string_view path, int number = errno) {
  auto failed = os_failure(what, path, number);
  if (number == ENOENT) failed.error().code = Errc::kNotFound;
  if (number == ENOSPC || number == EDQUOT) failed.error().code = Errc::kNoSpace;
  return failed;
}

}  // namespace

Result<UniqueFd> open_file(const std::string& path, int flags) {
  UniqueFd file(::open(path.c_str(), flags | O_CLOEXEC, 0644), path);
  if (!file.valid()) return failure("open", path);
  return file;
}

Status write_all(const UniqueFd& file, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failure("write", file.path());
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return {};
}

Result<size_t> read_some(const UniqueFd& file, std::span<std::byte> out) {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t came = ::read(file.get(), out.data() + done, out.size() - done);
    if (came < 0 && errno == EINTR) continue;
    if (came < 0) return failure("read", file.path());
    if (came == 0) break;
    done += static_cast<size_t>(came);
  }
  return done;
}

Status sync_file(const UniqueFd& file) {
  if (::fsync(file.get()) != 0) return failure("flush", file.path());
  return {};
}

Status sync_directory(const std::string& path) {
  BALLAST_TRY(const UniqueFd directory, open_file(path, O_RDONLY | O_DIRECTORY));
  return sync_file(directory);
}

Result<Bytes> read_file(const std::string& path, size_t bytes_max) {
  BALLAST_TRY(const UniqueFd file, open_file(path, O_RDONLY));
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return failure("look at", path);
  if (!S_ISREG(status.st_mode)) return fail(Errc::kIo, "'{}' is no file", path);
  const auto bytes = static_cast<uint64_t>(status.st_size);
  if (bytes > bytes_max)
    return fail(Errc::kCorrupt, "'{}' has {} bytes; at most {} can be right", path, bytes,
                bytes_max);
  MutableBytes buffer(bytes);
  BALLAST_TRY(const size_t came, read_some(file, buffer.span()));
  buffer.truncate(came);
  return Bytes(std::move(buffer));
}

Status write_file(const std::string& path, std::span<const std::byte> bytes) {
  const std::string draft = path + ".tmp";
  BALLAST_TRY(const UniqueFd file, open_file(draft, O_WRONLY | O_CREAT | O_TRUNC));
  Status written = write_all(file, bytes);
  if (written) written = sync_file(file);
  if (written && ::rename(draft.c_str(), path.c_str()) != 0) written = failure("create", path);
  // A full disk gets its space back.
  if (!written) ::unlink(draft.c_str());
  return written;
}

Status remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return failure("remove", path);
  return {};
}

Status make_directories(const std::string& path) {
  std::error_code error;
  const fs::path whole = fs::absolute(path, error).lexically_normal();
  fs::path at;
  for (const fs::path& part : whole) {
    const fs::path above = at;
    at /= part;
    if (part.empty() || fs::is_directory(at, error)) continue;
    if (::mkdir(at.c_str(), 0755) != 0 && errno != EEXIST)
      return failure("make the directory", at.string());
    BALLAST_TRY_STATUS(sync_directory(above.string()));
  }
  return {};
}

Result<std::vector<std::string>> list_directory(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator entries(path, error);
  if (error == std::errc::no_such_file_or_directory) return names;
  if (error) return failure("list", path, error.value());
  for (; entries != fs::directory_iterator(); entries.increment(error)) {
    if (error) return failure("list", path, error.value());
    names.push_back(entries->path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

}  // namespace ballast::backup
