// Simulated time, and what is to happen when. One thread; the same calls give the same order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace ballast::sim {

inline constexpr uint64_t kMs = 1'000;  // time is in microseconds

class Scheduler {
 public:
  using Event = std::move_only_function<void()>;

  uint64_t now_us() const { return now_us_; }

  // Events of the same moment run in the order in which they were scheduled.
  void after(uint64_t us, Event event) {
    events_.push_back({now_us_ + us, ++scheduled_, std::move(event)});
    std::ranges::push_heap(events_, later);
  }

  // Runs the earliest event if it is due by `until_us`; else moves the time there and returns
  // false.
  bool run_next(uint64_t until_us) {
    if (events_.empty() || events_.front().at_us > until_us) {
      now_us_ = until_us;
      return false;
    }
    std::ranges::pop_heap(events_, later);
    Scheduled next = std::move(events_.back());
    events_.pop_back();
    now_us_ = next.at_us;
    next.event();
    return true;
  }

 private:
  struct Scheduled {
    uint64_t at_us;
    uint64_t number;
    Event event;
  };
  static bool later(const Scheduled& a, const Scheduled& b) {
    return std::pair(a.at_us, a.number) > std::pair(b.at_us, b.number);
  }

  uint64_t now_us_ = 0;
  uint64_t scheduled_ = 0;
  std::vector<Scheduled> events_;
};

}  // namespace ballast::sim
