#include "storage/io/space.h"

#include <fcntl.h>
#include <sys/statvfs.h>

#include "proto/files/files.h"

namespace ballast::storage {
namespace {

std::string held_path(const std::string& directory) { return directory + "/held_back"; }

}  // namespace

Result<Space> space_of(const std::string& path) {
  struct statvfs status{};
  if (::statvfs(path.c_str(), &status) != 0) return os_failure("ask for the free space of", path);
  return Space{.free = uint64_t{status.f_bavail} * status.f_frsize,
               .total = uint64_t{status.f_blocks} * status.f_frsize};
}

Status hold_space_back(const std::string& directory) {
  const std::string path = held_path(directory);
  BALLAST_TRY(const UniqueFd file, open_file(path, O_RDWR | O_CREAT));
  BALLAST_TRY(const uint64_t bytes, file_bytes(file));
  if (bytes >= kHeldBackBytes) return {};
  if (const int number = ::posix_fallocate(file.get(), 0, kHeldBackBytes); number != 0) {
    BALLAST_TRY_STATUS(remove_file(path));
    return disk_failure("set space aside in", path, number);
  }
  return sync_file(file);
}

Status give_space_up(const std::string& directory) { return remove_file(held_path(directory)); }

}  // namespace ballast::storage
