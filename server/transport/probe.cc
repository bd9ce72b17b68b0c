#include "server/transport/probe.h"

#include "proto/net/greeting.h"

namespace ballast::server {

asio::awaitable<Result<pb::HelloReply>> probe(asio::any_io_executor executor, net::Endpoint address,
                                              Clock::time_point deadline) {
  BALLAST_CO_TRY(const auto connection,
                 co_await net::Connection::connect(executor, address, deadline));
  auto reply = co_await net::greet(connection, net::client_hello(), deadline);
  connection->close();
  if (!reply) co_return fail_within(std::move(reply).error(), "{}", address.to_string());
  co_return reply;
}

}  // namespace ballast::server
