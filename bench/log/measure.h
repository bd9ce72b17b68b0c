// What the benchmarks of this folder count, and how they say it.
#pragma once

#include <fcntl.h>

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "bench/load/histogram.h"
#include "proto/base/result.h"
#include "proto/files/files.h"

namespace ballast::bench {

using SteadyClock = std::chrono::steady_clock;

inline uint64_t us_since(SteadyClock::time_point begin) {
  const auto took = SteadyClock::now() - begin;
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(took).count());
}

// Operations of `bytes` bytes each, from its construction on.
class Measure {
 public:
  explicit Measure(uint64_t bytes) : bytes_(bytes) {}

  void add(uint64_t us) {
    latency_.add(us);
    ++done_;
  }
  double seconds() const { return static_cast<double>(us_since(begin_)) / 1e6; }
  nlohmann::json result() const {
    const double seconds = this->seconds();
    return {{"ops_per_s", static_cast<double>(done_) / seconds},
            {"mb_per_s", static_cast<double>(done_ * bytes_) / 1e6 / seconds},
            {"p50_us", latency_.percentile(50)},
            {"p99_us", latency_.percentile(99)}};
  }

 private:
  const uint64_t bytes_;
  const SteadyClock::time_point begin_ = SteadyClock::now();
  uint64_t done_ = 0;
  load::Histogram latency_;
};

// What the page cache has of a directory's files is dropped, as far as the kernel does that on
// request.
inline Status forget_cached(const std::string& directory) {
  BALLAST_TRY(const auto names, list_directory(directory));
  for (const std::string& name : names) {
    BALLAST_TRY(const UniqueFd file, open_file(directory + "/" + name, O_RDONLY));
    BALLAST_TRY_STATUS(sync_file(file));
    (void)::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
  }
  return {};
}

}  // namespace ballast::bench
