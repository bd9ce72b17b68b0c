// Work that blocks or computes, run on threads and awaited on the caller's executor.
#pragma once

#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "proto/net/asio.h"

namespace ballast::net {

// Where such work goes. What a client waits for is not to stand in line behind what keeps the node
// in order, be it a block that is read for another node or a flush.
struct Workers {
  asio::any_io_executor urgent;
  asio::any_io_executor background;
};

// Threads for both. Those of the background give way where processors lack (nice).
class WorkerThreads {
 public:
  WorkerThreads(size_t urgent, size_t background);
  ~WorkerThreads() { join(); }
  WorkerThreads(const WorkerThreads&) = delete;
  WorkerThreads& operator=(const WorkerThreads&) = delete;

  Workers workers() { return {urgent_.get_executor(), background_.get_executor()}; }
  // Waits until all that was begun has ended.
  void join();

 private:
  asio::thread_pool urgent_;
  asio::io_context background_;
  asio::executor_work_guard<asio::io_context::executor_type> more_;
  std::vector<std::jthread> threads_;
};

template <class Work>
asio::awaitable<std::invoke_result_t<Work&>> call(Work* work) {
  co_return (*work)();
}

// Calls `work` on the threads (a pool, or an executor) and resumes the caller, on its own executor,
// with what it returned. `work` lives in this frame, and everything it refers to in the caller's,
// until then.
template <class Threads, class Work>
asio::awaitable<std::invoke_result_t<Work&>> on_worker(Threads& threads, Work work) {
  co_return co_await asio::co_spawn(threads, call(&work), asio::use_awaitable);
}

}  // namespace ballast::net
