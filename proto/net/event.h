// Things that a coroutine waits for, with a deadline.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "proto/net/asio.h"

namespace ballast::net {

// notify() wakes everyone who waits; a wait that begins later needs a new notify(). Callers check
// their condition in a loop. All on one executor.
class Signal {
 public:
  explicit Signal(asio::any_io_executor executor) : executor_(std::move(executor)) {}

  void notify() {
    for (Timer* waiter : waiters_) waiter->cancel();
  }

  // False if the deadline passed first.
  asio::awaitable<bool> wait_until(Clock::time_point deadline) {
    if (Clock::now() >= deadline) co_return false;
    const Waiter waiter(*this, deadline);
    co_await waiter.timer->async_wait(kToken);
    co_return Clock::now() < deadline;
  }

 private:
  // A timer of its own for each waiter, since a timer has one expiry; listed while it lives.
  struct Waiter {
    Waiter(Signal& signal, Clock::time_point deadline)
        : owner(signal), timer(std::make_unique<Timer>(signal.executor_, deadline)) {
      owner.waiters_.push_back(timer.get());
    }
    ~Waiter() { std::erase(owner.waiters_, timer.get()); }
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;

    Signal& owner;
    std::unique_ptr<Timer> timer;
  };

  asio::any_io_executor executor_;
  std::vector<Timer*> waiters_;
};

// A value that is set once and awaited by one coroutine.
template <class T>
class Promise {
 public:
  explicit Promise(asio::any_io_executor executor) : signal_(std::move(executor)) {}

  void set(T value) {
    if (value_) return;
    value_ = std::move(value);
    signal_.notify();
  }
  bool is_set() const { return value_.has_value(); }

  // Empty if the deadline passed first.
  asio::awaitable<std::optional<T>> get(Clock::time_point deadline) {
    while (!value_) {
      if (!co_await signal_.wait_until(deadline) && !value_) co_return std::nullopt;
    }
    co_return std::move(value_);
  }

 private:
  Signal signal_;
  std::optional<T> value_;
};

}  // namespace ballast::net
