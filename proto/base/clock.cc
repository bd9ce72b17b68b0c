#include "proto/base/clock.h"

#include <time.h>

#include <atomic>

namespace ballast {
namespace {

std::atomic<const SimulatedTime*> simulated{nullptr};

}  // namespace

Clock::time_point Clock::now() {
  if (const SimulatedTime* time = simulated.load(std::memory_order_relaxed)) [[unlikely]]
    return time->now;
  return time_point(
      std::chrono::duration_cast<duration>(std::chrono::steady_clock::now().time_since_epoch()));
}

BootClock::time_point BootClock::now() {
  if (const SimulatedTime* time = simulated.load(std::memory_order_relaxed)) [[unlikely]]
    return time_point(time->now.time_since_epoch());
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);  // in the vDSO, like the monotonic clock
  return time_point(std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec));
}

uint64_t wall_clock_ms() {
  if (const SimulatedTime* time = simulated.load(std::memory_order_relaxed)) [[unlikely]]
    return time->wall_ms;
  const auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(since_1970).count());
}

void simulate_time(const SimulatedTime* time) { simulated.store(time); }
bool time_is_simulated() { return simulated.load(std::memory_order_relaxed) != nullptr; }

}  // namespace ballast
