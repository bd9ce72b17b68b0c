#include "server/service/listener.h"

#include <spdlog/spdlog.h>

#include "proto/base/check.h"
#include "proto/base/limits.h"

namespace ballast::server {
namespace {

constexpr auto kGreetingTimeout = std::chrono::seconds(5);
constexpr auto kIdleTimeout = std::chrono::minutes(10);
// Of replies that a client has not taken yet: more wait with their requests. A connection drops
// what its own queue has no room for, so this must stay below that.
constexpr size_t kReplyQueueBytes = 4 * limits::kMiB;
static_assert(kReplyQueueBytes + limits::kBlockBytesMax + limits::kFrameHeaderBytesMax <
              limits::kSendQueueBytesMax);
// Peers and greetings need room beside the clients.
constexpr size_t kConnectionsBesideClients = 64;
constexpr auto kRefusalLogPeriod = std::chrono::minutes(10);
constexpr size_t kRefusalsKept = 256;
// A client takes a node for stopped after a second of silence, and asks in vain while nobody reads.
constexpr auto kReassurePeriod = std::chrono::milliseconds(250);

// Waits for `signal` while the condition holds, and tells the client now and then that it is not
// forgotten.
template <class Condition>
asio::awaitable<void> wait_while(const std::shared_ptr<net::Connection>& connection,
                                 net::Signal& signal, Condition condition) {
  pb::Reply alive;
  alive.mutable_ping();
  auto reassure_at = Clock::now() + kReassurePeriod;
  while (condition() && !connection->closed()) {
    co_await signal.wait_until(reassure_at);
    if (Clock::now() < reassure_at) continue;
    connection->send(net::make_frame(wire::FrameType::kReply, 0, alive));
    reassure_at = Clock::now() + kReassurePeriod;
  }
}

}  // namespace

Listener::Listener(asio::any_io_executor executor, Service& service, PeerTransport& transport,
                   ListenerOptions options)
    : executor_(executor),
      service_(service),
      transport_(transport),
      options_(options),
      acceptor_(executor),
      ended_signal_(executor) {}

Status Listener::open(const net::Endpoint& address) {
  error_code error;
  tcp::resolver resolver(executor_);
  const auto found =
      resolver.resolve(address.host, std::to_string(address.port),
                       tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error || found.empty())
    return fail(Errc::kIo, "cannot resolve the listen address '{}': {}", address.to_string(),
                error.message());
  const tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor_.open(endpoint.protocol(), error);
  if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
  if (!error) port_ = acceptor_.local_endpoint(error).port();
  if (error)
    return fail(Errc::kIo, "cannot listen on {}: {}; stop what uses the port or choose another one",
                address.to_string(), error.message());
  return {};
}

template <class Coroutine>
void Listener::spawn(Coroutine coroutine) {
  ++running_;
  asio::co_spawn(executor_, std::move(coroutine), [this](std::exception_ptr error) {
    BALLAST_CHECK(!error, "a connection's coroutine threw");
    --running_;
    ended_signal_.notify();
  });
}

void Listener::start() { spawn(accept_loop()); }

void Listener::close() {
  closing_ = true;
  error_code ignored;
  acceptor_.close(ignored);
}

asio::awaitable<void> Listener::drain(Clock::time_point deadline) {
  while (requests_ > 0 && co_await ended_signal_.wait_until(deadline)) continue;
}

asio::awaitable<void> Listener::stop() {
  close();
  for (const auto& [number, weak] : connections_) {
    if (const auto connection = weak.lock()) connection->close();
  }
  while (running_ > 0) co_await ended_signal_.wait_until(Clock::time_point::max());
}

asio::awaitable<void> Listener::accept_loop() {
  while (!closing_) {
    auto [error, socket] = co_await acceptor_.async_accept(kToken);
    if (closing_) break;
    if (error) {
      // Out of descriptors, most likely: those that end make room.
      spdlog::warn("cannot accept a connection: {}", error.message());
      Timer pause(executor_, std::chrono::milliseconds(100));
      co_await pause.async_wait(kToken);
      continue;
    }
    if (connections_.size() >= options_.clients_max + kConnectionsBesideClients) {
      spdlog::warn("refused a connection: {} are open already", connections_.size());
      continue;
    }
    spawn(serve(std::move(socket)));
  }
}

asio::awaitable<void> Listener::serve(tcp::socket socket) {
  const auto connection = net::Connection::start(std::move(socket));
  const uint64_t number = ++accepted_;
  connections_[number] = connection;
  const auto frame = co_await connection->receive(Clock::now() + kGreetingTimeout, 0);
  pb::Hello hello;
  if (frame && frame->header.type == wire::FrameType::kHello && net::parse_frame(*frame, hello)) {
    pb::HelloReply reply = service_.greet(hello);
    const bool client = hello.kind() == pb::CONNECTION_CLIENT;
    if (client && clients_ >= options_.clients_max) {
      reply.mutable_failure()->set_code(static_cast<uint32_t>(Errc::kOverloaded));
      reply.mutable_failure()->set_message(
          fmt::format("{} clients are connected, which is the limit", clients_));
    }
    connection->send(net::make_frame(wire::FrameType::kHelloReply, 0, reply));
    if (reply.has_failure()) {
      log_refusal(connection->peer(), reply.failure().message());
      co_await connection->drained(1, Clock::now() + kGreetingTimeout);
    } else if (client) {
      ++clients_;
      co_await serve_client(connection);
      --clients_;
    } else {
      co_await transport_.serve(connection, hello);
    }
  } else if (frame || frame.error().code != Errc::kUnavailable) {
    spdlog::warn("{}: {}", connection->peer(),
                 frame ? "its first frame is no greeting" : frame.error().message);
  }
  connection->close();
  connections_.erase(number);
}

// A node that is refused knocks on: it is worth one line now and then.
void Listener::log_refusal(const std::string& peer, const std::string& why) {
  const auto now = Clock::now();
  if (refusals_.size() >= kRefusalsKept) refusals_.clear();
  const auto [refusal, is_new] = refusals_.try_emplace(why, now);
  if (!is_new && now - refusal->second < kRefusalLogPeriod) return;
  refusal->second = now;
  spdlog::warn("refused {}: {}", peer, why);
}

asio::awaitable<void> Listener::serve_client(std::shared_ptr<net::Connection> connection) {
  const auto under_way = std::make_shared<size_t>(0);
  const auto finished = std::make_shared<net::Signal>(executor_);
  while (!closing_) {
    // A client that waits for an answer is not idle.
    const auto patience =
        *under_way > 0 ? limits::kRequestDeadlineMax + kIdleTimeout : kIdleTimeout;
    auto frame = co_await connection->receive(Clock::now() + patience);
    if (!frame) {
      if (frame.error().code == Errc::kCorrupt || frame.error().code == Errc::kInvalidArgument)
        spdlog::warn("{}", frame.error().message);
      break;
    }
    if (frame->header.type != wire::FrameType::kRequest) {
      spdlog::warn("{} sent a frame that is no request", connection->peer());
      break;
    }
    ++*under_way;
    ++requests_;
    payload_bytes_ += frame->payload.size();
    spawn(answer(connection, *std::move(frame), under_way, finished));
    co_await admit(connection, *under_way, *finished);
  }
  // Answers may still be on their way; a client that has gone closes the connection itself.
  while (*under_way > 0) co_await finished->wait_until(Clock::time_point::max());
}

// Not reading on is how clients that ask too much at once are slowed down: each by the number of
// its requests, all together by the bytes that they bring.
asio::awaitable<void> Listener::admit(const std::shared_ptr<net::Connection>& connection,
                                      const size_t& under_way, net::Signal& finished) {
  co_await wait_while(connection, finished,
                      [&] { return under_way >= limits::kRequestsPerConnectionMax; });
  co_await wait_while(connection, ended_signal_,
                      [&] { return payload_bytes_ >= limits::kReceiveBytesMax; });
}

asio::awaitable<void> Listener::answer(std::shared_ptr<net::Connection> connection,
                                       wire::Frame frame, std::shared_ptr<size_t> under_way,
                                       std::shared_ptr<net::Signal> finished) {
  const size_t payload_bytes = frame.payload.size();
  pb::Request request;
  if (net::parse_frame(frame, request)) {
    const uint32_t payload_crc = frame.header.payload_crc;
    co_await reply(connection, frame.header.stream, std::move(request), std::move(frame.payload),
                   payload_crc);
  } else {
    spdlog::warn("{} sent a request that is no protobuf message", connection->peer());
    connection->close();
  }
  --*under_way;
  --requests_;
  payload_bytes_ -= payload_bytes;
  finished->notify();
  ended_signal_.notify();
}

// A block takes memory from when it is read until the client has taken it, so room for it is
// reserved before. A client that does not take what it asked for is cut off.
asio::awaitable<void> Listener::reply(std::shared_ptr<net::Connection> connection, uint64_t stream,
                                      pb::Request request, Bytes payload, uint32_t payload_crc) {
  const size_t reserved = request.has_get_block() ? limits::kBlockBytesMax : 0;
  while (reserved > 0 && reply_bytes_ + reserved > limits::kReplyBytesMax && !connection->closed())
    co_await ended_signal_.wait_until(Clock::time_point::max());
  reply_bytes_ += reserved;
  Answer answer = co_await service_.handle(std::move(request), std::move(payload), payload_crc);
  if (answer.reply.ByteSizeLong() > limits::kFrameHeaderBytesMax) {
    spdlog::error("a reply of {} bytes was not sent", answer.reply.ByteSizeLong());
    answer = {};
    answer.reply.mutable_failure()->set_code(static_cast<uint32_t>(Errc::kInternal));
    answer.reply.mutable_failure()->set_message("the reply is larger than a frame may be");
  }
  std::vector<Bytes> parts;
  if (!answer.payload.empty()) parts.push_back(std::move(answer.payload));
  const auto deadline = Clock::now() + options_.reply_stall;
  bool taken = co_await connection->drained(kReplyQueueBytes, deadline);
  taken = taken && connection->send(net::make_frame(wire::FrameType::kReply, stream, answer.reply,
                                                    std::move(parts), answer.payload_crc));
  if (reserved > 0) taken = taken && co_await connection->drained(1, deadline);
  if (!taken) connection->close();
  reply_bytes_ -= reserved;
}

}  // namespace ballast::server
