// The first frames of a connection, at the side that has opened it.
#pragma once

#include <memory>

#include "proto/base/result.h"
#include "proto/net/asio.h"
#include "proto/net/connection.h"
#include "proto/peer.pb.h"

namespace ballast::net {

// Who asks for nothing but to be served.
pb::Hello client_hello();

// Sends the greeting, with this program's protocol, and waits for its answer. On an error the
// connection is closed. Errors: kUnavailable (no answer, or none that a node would give), else the
// code and the words of the node's refusal.
asio::awaitable<Result<pb::HelloReply>> greet(std::shared_ptr<Connection> connection,
                                              pb::Hello hello, Clock::time_point deadline);

}  // namespace ballast::net
