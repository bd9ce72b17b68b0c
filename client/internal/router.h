// Finds the node for a request and tries again where that is safe.
//
// All on one executor.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "client/client.h"
#include "client/internal/channel.h"
#include "proto/base/uuid.h"

namespace ballast::client {

class Router {
 public:
  Router(asio::any_io_executor executor, const Options& options);

  // Greets the endpoints until one answers and learns the members from it.
  asio::awaitable<Status> connect(std::vector<net::Endpoint> endpoints, Clock::time_point deadline);

  // At the primary, through failovers, until the deadline. The request must be safe to repeat.
  // Errors: kUnknownOutcome if the last word on a request that was sent never came; else the last
  // error.
  asio::awaitable<Result<Response>> at_leader(pb::Request request, Bytes payload,
                                              std::optional<uint32_t> payload_crc,
                                              Clock::time_point deadline);
  // A read at any replica, each in its turn; `linearizable` begins with the primary. Errors:
  // kTooStale if the last replica that answered was not as fresh as the read wants it; else
  // kUnavailable, or what can't be repeated.
  asio::awaitable<Result<Response>> at_any(pb::Request request, Clock::time_point deadline);
  // A block from any replica that has it whole: length and SHA-256 are compared by the caller's
  // `verify`, on the caller's behalf, before it is returned.
  asio::awaitable<Result<Bytes>> block(BlockId id, asio::thread_pool& workers,
                                       Clock::time_point deadline);
  // At one member, once.
  asio::awaitable<Result<Response>> at_member(uint64_t member, pb::Request request,
                                              Clock::time_point deadline);

  // From any thread.
  std::vector<Member> members() const;
  const Uuid& cluster() const { return cluster_; }
  void close();

 private:
  // Waits before another round; false if the deadline comes first.
  asio::awaitable<bool> pause(int round, Clock::time_point deadline, milliseconds most);
  std::shared_ptr<Channel> channel(size_t position) const {
    return channels_[position % channels_.size()];
  }
  // Asks a node, and learns of new members from its answer.
  asio::awaitable<Result<Response>> ask(std::shared_ptr<Channel> target, pb::Request request,
                                        Bytes payload, std::optional<uint32_t> payload_crc,
                                        Clock::time_point deadline);
  asio::awaitable<void> refresh(std::shared_ptr<Channel> from);
  void adopt(std::vector<Member> members, uint64_t configuration_index);
  bool down(uint64_t member) const;
  size_t leader_position() const;
  bool learn(const Error& error, const Channel& asked, size_t position);
  Clock::time_point attempt_deadline(Clock::time_point deadline) const;

  asio::any_io_executor executor_;
  milliseconds attempt_timeout_;
  bool pinned_;
  Uuid cluster_;
  mutable std::mutex members_mutex_;  // members_ is read from other threads
  std::vector<Member> members_;       // by id
  uint64_t configuration_index_ = 0;  // that they are of
  bool refreshing_ = false;
  std::vector<std::shared_ptr<Channel>> channels_;  // of the members, or of the pinned endpoints
  uint64_t leader_ = 0;
  size_t next_ = 0;  // round robin
};

}  // namespace ballast::client
