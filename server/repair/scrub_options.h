// How a node looks after what it stores.
#pragma once

#include <chrono>
#include <cstdint>

namespace ballast::server {

struct ScrubOptions {
  uint64_t bytes_per_second = 16ull << 20;  // that are read of blocks, at most; 0: it is off
  std::chrono::seconds period = std::chrono::days(1);  // from a pass's beginning to the next one's
};

}  // namespace ballast::server
