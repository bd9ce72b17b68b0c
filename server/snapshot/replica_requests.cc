#include "server/snapshot/replica_requests.h"

#include "proto/net/greeting.h"

namespace ballast::server {
namespace {

constexpr std::chrono::milliseconds kPatience{10'000};  // of one request

}  // namespace

asio::awaitable<Result<std::shared_ptr<Replica>>> Replica::connect(asio::any_io_executor executor,
                                                                   net::Endpoint address) {
  const auto deadline = Clock::now() + kPatience;
  BALLAST_CO_TRY(auto connection, co_await net::Connection::connect(executor, address, deadline));
  auto reply = co_await net::greet(connection, net::client_hello(), deadline);
  if (!reply) co_return fail_within(std::move(reply).error(), "{}", address.to_string());
  co_return std::shared_ptr<Replica>(new Replica(std::move(connection), std::move(address)));
}

asio::awaitable<Result<Replica::Answer>> Replica::ask(pb::Request request) {
  auto answer = co_await exchange(std::move(request));
  if (!answer) {
    close();
    co_return fail_within(std::move(answer).error(), "{}", address_.to_string());
  }
  if (answer->reply.has_failure())
    co_return fail(static_cast<Errc>(answer->reply.failure().code()), "{}: {}",
                   address_.to_string(), answer->reply.failure().message());
  co_return answer;
}

asio::awaitable<Result<Replica::Answer>> Replica::exchange(pb::Request request) {
  const auto deadline = Clock::now() + kPatience;
  request.set_deadline_ms(static_cast<uint32_t>(kPatience.count()));
  if (!connection_->send(net::make_frame(wire::FrameType::kRequest, ++stream_, request)))
    co_return fail(Errc::kUnavailable, "the connection is closed");
  while (true) {
    BALLAST_CO_TRY(wire::Frame frame, co_await connection_->receive(deadline));
    Answer answer;
    if (frame.header.type != wire::FrameType::kReply || !net::parse_frame(frame, answer.reply))
      co_return fail(Errc::kCorrupt, "what came is no reply");
    if (frame.header.stream == 0) continue;  // it is alive
    if (frame.header.stream != stream_) co_return fail(Errc::kCorrupt, "a reply to nothing");
    answer.payload = std::move(frame.payload);
    co_return answer;
  }
}

}  // namespace ballast::server
