// Holds work that can wait back to a rate.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "proto/base/clock.h"

namespace ballast::server {

class Throttle {
 public:
  // 0: as fast as it goes.
  explicit Throttle(uint64_t bytes_per_second) : bytes_per_second_(bytes_per_second) {}

  // So many bytes were moved. Returns until when whoever moves more is to wait.
  Clock::time_point take(uint64_t bytes) {
    const auto now = Clock::now();
    if (bytes_per_second_ == 0) return now;
    const std::chrono::duration<double> time(static_cast<double>(bytes) /
                                             static_cast<double>(bytes_per_second_));
    free_at_ = std::max(free_at_, now) + std::chrono::duration_cast<Clock::duration>(time);
    return free_at_;
  }

 private:
  const uint64_t bytes_per_second_;
  Clock::time_point free_at_;
};

}  // namespace ballast::server
