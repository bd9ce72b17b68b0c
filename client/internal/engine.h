// What all calls of a client share: the background thread with the connections, the pool that
// encodes, decodes and hashes, and the sessions that make commits safe to repeat.
//
// Public functions may be called from any thread but the background one; they block.
#pragma once

#include <future>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include "client/client.h"
#include "client/internal/router.h"
#include "proto/base/uuid.h"

namespace ballast::client {

class Engine {
 public:
  explicit Engine(Options options);
  ~Engine();

  Status connect();

  const Options& options() const { return options_; }
  asio::thread_pool& workers() { return workers_; }
  unsigned threads() const { return threads_; }
  std::vector<Member> members() const { return router_.members(); }
  const Uuid& cluster() const { return router_.cluster(); }
  Clock::time_point deadline(std::optional<milliseconds> given) const {
    return Clock::now() + given.value_or(options_.deadline);
  }

  // One request, asked until the deadline.
  Result<Response> at_leader(pb::Request request, Clock::time_point deadline);
  Result<Response> at_any(pb::Request request, Clock::time_point deadline);
  Result<Response> at_member(uint64_t member, pb::Request request, Clock::time_point deadline);

  // Asks all members at once, or the one that the client is pinned to; in the order of members().
  template <class Ask>
  auto each_member(const Ask& ask) {
    std::vector<Member> asked = members();
    if (options_.pinned) asked.resize(1);
    std::vector<std::future<std::invoke_result_t<Ask, const Member&>>> running;
    for (const Member& member : asked)
      running.push_back(std::async(std::launch::async, ask, member));
    std::vector<std::invoke_result_t<Ask, const Member&>> answers;
    for (auto& one : running) answers.push_back(one.get());
    return answers;
  }

  // Begins to upload a block; the future has the outcome.
  std::future<Status> stage(const BlockId& block, Bytes bytes, Ack ack, Clock::time_point deadline);
  // Begins to fetch a block; its bytes are verified.
  std::future<Result<Bytes>> fetch(const BlockId& block, Clock::time_point deadline);
  // The same in a coroutine on the background thread, within the client's deadline for one step.
  asio::awaitable<Result<Bytes>> block(BlockId id);
  // Begins a coroutine on the background thread, where it must not block.
  template <class T>
  std::future<T> start(asio::awaitable<T> coroutine) {
    return asio::co_spawn(io_, std::move(coroutine), asio::use_future);
  }

  // Those of the digests that the primary does not have.
  Result<std::vector<Digest>> missing(std::span<const Digest> digests, Clock::time_point deadline);

  // Commits operations, once, however often it must be asked. `block` is staged with it.
  // A refusal of the state machine is an error with its code; kMissingBlocks too.
  struct StagedBlock {
    BlockId id;
    Bytes bytes;
  };
  Result<pb::WriteReply> commit(std::vector<pb::Operation> operations,
                                std::vector<pb::Precondition> preconditions, Ack ack,
                                Clock::time_point deadline,
                                std::optional<StagedBlock> block = std::nullopt);

 private:
  struct Session {
    Uuid id;
    uint64_t sequence = 0;
  };
  Session take_session();
  void return_session(Session session);
  // Runs a coroutine on the background thread and waits for it.
  template <class T>
  T run(asio::awaitable<T> coroutine);

  Options options_;
  unsigned threads_;
  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_{io_.get_executor()};
  asio::thread_pool workers_;
  Router router_;
  std::mutex sessions_mutex_;
  std::vector<Session> idle_sessions_;
  std::thread thread_;
};

}  // namespace ballast::client
