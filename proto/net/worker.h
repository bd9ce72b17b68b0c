// Work that blocks or computes, run on a thread pool and awaited on the caller's executor.
#pragma once

#include <type_traits>
#include <utility>

#include "proto/net/asio.h"

namespace ballast::net {

template <class Work>
asio::awaitable<std::invoke_result_t<Work&>> call(Work* work) {
  co_return (*work)();
}

// Calls `work` on the workers (a thread pool, or an executor) and resumes the caller, on its own
// executor, with what it returned. `work` lives in this frame, and everything it refers to in the
// caller's, until then.
template <class Workers, class Work>
asio::awaitable<std::invoke_result_t<Work&>> on_worker(Workers& workers, Work work) {
  co_return co_await asio::co_spawn(workers, call(&work), asio::use_awaitable);
}

}  // namespace ballast::net
