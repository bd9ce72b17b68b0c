#include "server/transport/probe.h"

namespace ballast::server {

asio::awaitable<Result<pb::HelloReply>> probe(asio::any_io_executor executor, net::Endpoint address,
                                              Clock::time_point deadline) {
  BALLAST_CO_TRY(const auto connection,
                 co_await net::Connection::connect(executor, address, deadline));
  pb::Hello hello;
  hello.set_protocol(wire::kProtocolVersion);
  hello.set_kind(pb::CONNECTION_CLIENT);
  connection->send(net::make_frame(wire::FrameType::kHello, 0, hello));
  const auto frame = co_await connection->receive(deadline);
  connection->close();
  if (!frame)
    co_return fail(Errc::kUnavailable, "{} does not greet back: {}", address.to_string(),
                   frame.error().message);
  pb::HelloReply reply;
  if (frame->header.type != wire::FrameType::kHelloReply || !net::parse_frame(*frame, reply))
    co_return fail(Errc::kRefused, "{} is no Ballast node", address.to_string());
  if (reply.has_failure())
    co_return fail(Errc::kRefused, "{}: {}", address.to_string(), reply.failure().message());
  co_return reply;
}

}  // namespace ballast::server
