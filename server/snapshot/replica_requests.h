// Requests of this node to others, as their client: one at a time on a connection.
#pragma once

#include <memory>

#include "proto/base/bytes.h"
#include "proto/base/result.h"
#include "proto/net/asio.h"
#include "proto/net/connection.h"
#include "proto/service.pb.h"

namespace ballast::server {

class Replica {
 public:
  // Errors: kUnavailable, and those of net::greet(), with the address.
  static asio::awaitable<Result<std::shared_ptr<Replica>>> connect(asio::any_io_executor executor,
                                                                   net::Endpoint address);
  struct Answer {
    pb::Reply reply;  // not a failure: that is an error
    Bytes payload;    // its CRC32C has been verified
  };
  // Errors: what the replica says; kUnavailable, kDeadline, kCorrupt if the connection is no good:
  // then it is closed.
  asio::awaitable<Result<Answer>> ask(pb::Request request);

  void close() { connection_->close(); }
  bool closed() const { return connection_->closed(); }
  const net::Endpoint& address() const { return address_; }

 private:
  Replica(std::shared_ptr<net::Connection> connection, net::Endpoint address)
      : connection_(std::move(connection)), address_(std::move(address)) {}
  asio::awaitable<Result<Answer>> exchange(pb::Request request);

  std::shared_ptr<net::Connection> connection_;
  net::Endpoint address_;
  uint64_t stream_ = 0;
};

}  // namespace ballast::server
