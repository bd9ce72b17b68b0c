// How full a file system is, and a file that holds some of it back.
#pragma once

#include <cstdint>
#include <string>

#include "proto/base/result.h"

namespace ballast::storage {

struct Space {
  uint64_t free = 0;  // for this process
  uint64_t total = 0;
};

// Of the file system that the path lies on. Error kIo.
Result<Space> space_of(const std::string& path);

// RocksDB writes new files when it is opened: on a full disk it could not be. So a node that runs
// holds a file of this size back, and gives it up when it starts without space.
inline constexpr uint64_t kHeldBackBytes = 8 << 20;

// Makes the file in the directory, if it isn't there. Errors: kNoSpace (nothing is left behind),
// kIo.
Status hold_space_back(const std::string& directory);
Status give_space_up(const std::string& directory);

}  // namespace ballast::storage
