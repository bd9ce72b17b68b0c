// Work that blocks or computes, run on a thread pool and awaited on the caller's executor.
#pragma once

#include <type_traits>
#include <utility>

#include "proto/net/asio.h"

namespace ballast::net {

// Calls `work` on the pool and resumes the caller, on its own executor, with what it returned.
// `work` and everything it refers to live in the caller's frame until then.
template <class Work>
asio::awaitable<std::invoke_result_t<Work&>> on_worker(asio::thread_pool& pool, Work work) {
  auto run = [&work]() -> asio::awaitable<std::invoke_result_t<Work&>> { co_return work(); };
  co_return co_await asio::co_spawn(pool, std::move(run), asio::use_awaitable);
}

}  // namespace ballast::net
