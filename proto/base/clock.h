// The time that nodes go by. A simulator puts its own in the place of the system's.
#pragma once

#include <chrono>
#include <cstdint>

namespace ballast {

// Monotonic, like std::chrono::steady_clock. Thread-safe.
struct Clock {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<Clock, duration>;
  static constexpr bool is_steady = true;  // NOLINT(readability-identifier-naming)

  static time_point now();
};

// The same, but it goes on while the machine is suspended: for ages that are promised to others.
// For timers there is Clock; the points of the two do not compare. Thread-safe.
struct BootClock {
  using duration = Clock::duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<BootClock, duration>;
  static constexpr bool is_steady = true;  // NOLINT(readability-identifier-naming)

  static time_point now();
};

// Milliseconds since 1970, UTC, for what is written into entries. May go back. Thread-safe.
uint64_t wall_clock_ms();

// What both now() and wall_clock_ms() of all threads say until the next call; null: the system's
// clocks. For simulators, which have one thread.
struct SimulatedTime {
  Clock::time_point now;
  uint64_t wall_ms = 0;
};
void simulate_time(const SimulatedTime* time);
bool time_is_simulated();

}  // namespace ballast
