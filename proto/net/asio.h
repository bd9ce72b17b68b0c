// The one place that names Asio: the alias, the timer, and the token that makes errors values.
#pragma once

#include <boost/asio.hpp>
#include <utility>

#include "proto/base/clock.h"

namespace ballast {

namespace asio = boost::asio;
using boost::system::error_code;
using tcp = asio::ip::tcp;

// How long a reactor may sleep until a timer is due. Simulated time moves while nobody sleeps: the
// reactor must look at its timers whenever it is polled.
struct ClockWaitTraits {
  static Clock::duration to_wait_duration(const Clock::duration& left) {
    return time_is_simulated() ? Clock::duration::zero() : left;
  }
  static Clock::duration to_wait_duration(const Clock::time_point& until) {
    return to_wait_duration(until - Clock::now());
  }
};
using Timer = asio::basic_waitable_timer<Clock, ClockWaitTraits>;

// co_await operation(..., kToken) gives (error_code, value...) and never throws.
inline constexpr auto kToken = asio::as_tuple(asio::use_awaitable);

}  // namespace ballast
