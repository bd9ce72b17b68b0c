// Asks whoever listens at an address who it is.
#pragma once

#include "proto/net/asio.h"
#include "proto/net/connection.h"
#include "proto/peer.pb.h"

namespace ballast::server {

// The answer to a client's greeting. Errors: kUnavailable, and those of net::greet(), with the
// address.
asio::awaitable<Result<pb::HelloReply>> probe(asio::any_io_executor executor, net::Endpoint address,
                                              Clock::time_point deadline);

}  // namespace ballast::server
