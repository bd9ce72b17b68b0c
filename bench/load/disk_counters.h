// What went to a disk, by the counters that the kernel keeps of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace ballast::load {

// Bytes that were written to the disk which `path` lies on, by whomever, since it was there: the
// file system's journal too, and not what is still in the page cache. Nothing if it has no
// counters, as a file system in memory or on a network has none.
std::optional<uint64_t> written_to_disk(const std::string& path);

}  // namespace ballast::load
