#include "client/formats/file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

namespace ballast::formats {
namespace {

// More than this in one call is refused or cut by some file systems.
constexpr size_t kTransferBytesMax = size_t{64} << 20;

std::unexpected<Error> io_failure(std::string_view what, std::string_view path, int number) {
  auto failure = os_failure(what, path, number);
  const char* advice = nullptr;
  switch (number) {
    case ENOENT: advice = "check that the path exists"; break;
    case EACCES:
    case EPERM:
    case EROFS: advice = "check the permissions or name another folder"; break;
    case ENOSPC:
    case EDQUOT: advice = "free space or name a folder on another disk"; break;
    case EFBIG: advice = "name a folder on a file system that takes larger files"; break;
    default: return failure;
  }
  failure.error().message += std::string("; ") + advice;
  return failure;
}

// A rename is durable only when its folder is.
Status sync_folder_of(const std::string& path) {
  std::string folder = std::filesystem::path(path).parent_path().string();
  if (folder.empty()) folder = ".";
  const UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), folder);
  if (!fd.valid()) return io_failure("open the folder", folder, errno);
  // Some file systems have no fsync for folders and say so with EINVAL; there is no more to do.
  if (::fsync(fd.get()) != 0 && errno != EINVAL) return io_failure("sync", folder, errno);
  return {};
}

}  // namespace

Result<InputFile> InputFile::open(const std::string& path) {
  // O_NONBLOCK: a FIFO without a writer must not stop the program before its type is seen.
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK), path);
  if (!fd.valid()) return io_failure("open", path, errno);
  struct stat info = {};
  if (::fstat(fd.get(), &info) != 0) return io_failure("look at", path, errno);
  if (!S_ISREG(info.st_mode))
    return fail(Errc::kInvalidArgument, "cannot read '{}': it is not a regular file", path);
  return InputFile(std::move(fd), static_cast<uint64_t>(info.st_size));
}

Status InputFile::read(uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t got = ::pread(fd_.get(), out.data(), std::min(out.size(), kTransferBytesMax),
                                static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_failure("read", path(), errno);
    if (got == 0)
      return fail(Errc::kCorrupt, "cannot read '{}': it ends at byte {} now; it was {} when opened",
                  path(), offset, bytes_);
    offset += static_cast<uint64_t>(got);
    out = out.subspan(static_cast<size_t>(got));
  }
  return {};
}

Result<PartialFile> PartialFile::create(const std::string& path) {
  struct stat info = {};
  // A rename over /dev/stdout or a folder would do harm or fail after all the work.
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode))
    return fail(Errc::kInvalidArgument,
                "cannot write '{}': it is not a regular file; name another path", path);
  const std::string partial = fmt::format("{}.partial-{}", path, ::getpid());
  // A file of this name can only be left over from a process that died: its pid is ours now.
  UniqueFd fd(::open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666),
              partial);
  if (!fd.valid()) return io_failure("create", partial, errno);
  return PartialFile(std::move(fd), path);
}

PartialFile::PartialFile(PartialFile&& other) noexcept
    : fd_(std::move(other.fd_)), path_(std::move(other.path_)) {}

PartialFile::~PartialFile() {
  if (fd_.valid()) ::unlink(fd_.path().c_str());
}

Status PartialFile::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd_.get(), bytes.data(), std::min(bytes.size(), kTransferBytesMax));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return io_failure("write", fd_.path(), errno);
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  return {};
}

Status PartialFile::commit() {
  if (::fsync(fd_.get()) != 0) return io_failure("sync", fd_.path(), errno);
  if (::rename(fd_.path().c_str(), path_.c_str()) != 0)
    return io_failure("rename the finished file to", path_, errno);
  fd_.reset();
  return sync_folder_of(path_);
}

}  // namespace ballast::formats
