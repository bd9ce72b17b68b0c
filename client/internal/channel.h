// One connection to one node, shared by all calls: requests are multiplexed by stream number.
//
// It connects when it is first used and again after it broke. A node that stops while requests are
// pending (its process is frozen, or the network swallows everything) is noticed after a second of
// silence, long before their deadlines. All on one executor.
#pragma once

#include <memory>
#include <unordered_map>

#include "proto/net/asio.h"
#include "proto/net/connection.h"
#include "proto/peer.pb.h"
#include "proto/service.pb.h"

namespace ballast::client {

struct Response {
  pb::Reply reply;
  Bytes payload;
};

class Channel : public std::enable_shared_from_this<Channel> {
 public:
  Channel(asio::any_io_executor executor, net::Endpoint endpoint);

  // Sends a request and waits for its reply. A Failure that the node sent is an error with its
  // code; leader_hint() then tells whom it takes for the primary.
  // Errors: kUnavailable if the request was not sent; kUnknownOutcome if it was sent and no reply
  // came. `payload_crc` is the payload's CRC32C if it is known.
  asio::awaitable<Result<Response>> call(pb::Request request, Bytes payload,
                                         std::optional<uint32_t> payload_crc,
                                         Clock::time_point deadline);

  // The greeting of the node, connecting if need be. Errors: kUnavailable, kRefused.
  asio::awaitable<Result<pb::HelloReply>> greet(Clock::time_point deadline);

  uint64_t leader_hint() const { return leader_hint_; }
  // Of the members that the node knows.
  uint64_t configuration_index() const { return configuration_index_; }
  const net::Endpoint& endpoint() const { return endpoint_; }
  // True for a moment after connecting failed or the node stopped: others are worth trying first.
  // And while one caller tries whether a stopped node goes on again: the others go elsewhere.
  bool down() const { return Clock::now() < down_until_ || (stopped_ && connecting_); }
  void close();

 private:
  using Outcome = Result<Response>;
  asio::awaitable<Status> ensure_connected(Clock::time_point deadline);
  asio::awaitable<Status> connect(Clock::time_point deadline);
  asio::awaitable<void> read_loop(std::shared_ptr<net::Connection> connection);
  void deliver(const wire::Frame& frame);
  asio::awaitable<void> watch();
  bool look(Clock::time_point& pinged_at, Clock::time_point since);
  void send_ping();
  void fail_pending(const std::string& reason);

  asio::any_io_executor executor_;
  net::Endpoint endpoint_;
  std::shared_ptr<net::Connection> connection_;
  pb::HelloReply greeting_;
  std::unordered_map<uint64_t, std::shared_ptr<net::Promise<Outcome>>> pending_;
  uint64_t next_stream_ = 0;
  uint64_t leader_hint_ = 0;
  uint64_t configuration_index_ = 0;
  Clock::time_point pending_since_ = Clock::time_point::min();  // without a break
  bool watching_ = false;
  bool connecting_ = false;
  net::Signal connected_signal_;
  Clock::time_point down_until_ = Clock::time_point::min();
  bool stopped_ = false;  // the last that is known of the node is its silence
};

}  // namespace ballast::client
