#include "bench/load/disk_counters.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <fstream>

namespace ballast::load {

std::optional<uint64_t> written_to_disk(const std::string& path) {
  constexpr int kSectorsWritten =
      7;  // the field of that number, as the kernel's iostats.txt counts
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  std::ifstream counters(
      fmt::format("/sys/dev/block/{}:{}/stat", major(status.st_dev), minor(status.st_dev)));
  uint64_t sectors = 0;
  for (int field = 1; field <= kSectorsWritten; ++field)
    if (!(counters >> sectors)) return std::nullopt;
  return sectors * 512;
}

}  // namespace ballast::load
