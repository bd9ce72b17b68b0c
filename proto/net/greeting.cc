#include "proto/net/greeting.h"

#include "proto/wire/frame.h"

namespace ballast::net {

pb::Hello client_hello() {
  pb::Hello hello;
  hello.set_kind(pb::CONNECTION_CLIENT);
  return hello;
}

asio::awaitable<Result<pb::HelloReply>> greet(std::shared_ptr<Connection> connection,
                                              pb::Hello hello, Clock::time_point deadline) {
  hello.set_protocol(wire::kProtocolVersion);
  connection->send(make_frame(wire::FrameType::kHello, 0, hello));
  const auto frame = co_await connection->receive(deadline);
  pb::HelloReply reply;
  Error error{Errc::kUnavailable, {}};
  if (!frame)
    error.message = "it does not greet back: " + frame.error().message;
  else if (frame->header.type != wire::FrameType::kHelloReply || !parse_frame(*frame, reply))
    error.message = "it is no Ballast node: its greeting is malformed";
  else if (reply.has_failure())
    error = {static_cast<Errc>(reply.failure().code()), reply.failure().message()};
  else
    co_return reply;
  connection->close();
  co_return std::unexpected(std::move(error));
}

}  // namespace ballast::net
