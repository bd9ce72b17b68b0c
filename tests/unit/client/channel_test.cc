// How a client notices that a node has stopped, and what it must not take for that: fake nodes on
// loopback, which read and answer what the test wants.
#include "client/internal/channel.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "client/internal/router.h"
#include "proto/base/limits.h"

namespace ballast::client {
namespace {

using std::chrono::milliseconds;
using Connection = std::shared_ptr<net::Connection>;

Clock::time_point in(milliseconds delay) { return Clock::now() + delay; }

asio::awaitable<void> sleep(milliseconds time) {
  Timer timer(co_await asio::this_coro::executor, in(time));
  co_await timer.async_wait(kToken);
}

// A frame without payload as it crosses the wire.
std::string bytes_of(const net::OutgoingFrame& frame) {
  return std::string(as_text(wire::encode_frame_header(frame.header))) + frame.message;
}

// Accepts connections and greets; the rest is the test's.
class FakeNode {
 public:
  using Serve = std::function<asio::awaitable<void>(Connection)>;

  FakeNode(asio::io_context& io, Serve serve)
      : io_(io), acceptor_(io, {asio::ip::address_v4::loopback(), 0}), serve_(std::move(serve)) {
    greeting.set_cluster(std::string(16, 'c'));
    asio::co_spawn(io_, [this] { return accept(); }, asio::detached);
  }

  net::Endpoint endpoint() const { return {"127.0.0.1", acceptor_.local_endpoint().port()}; }

  pb::HelloReply greeting;
  bool greets = true;
  size_t accepted = 0;

 private:
  asio::awaitable<void> accept() {
    for (;;) {
      auto [error, socket] = co_await acceptor_.async_accept(kToken);
      if (error) co_return;
      ++accepted;
      asio::co_spawn(
          io_, [this, c = net::Connection::start(std::move(socket))] { return greet(c); },
          asio::detached);
    }
  }
  asio::awaitable<void> greet(Connection connection) {
    if (greets) {
      const auto hello = co_await connection->receive(in(milliseconds(5000)));
      if (!hello) co_return;
      connection->send(net::make_frame(wire::FrameType::kHelloReply, 0, greeting));
      co_await serve_(connection);
    }
    // As a frozen process does, it holds on to the connection.
    co_await sleep(milliseconds(60'000));
  }

  asio::io_context& io_;
  tcp::acceptor acceptor_;
  Serve serve_;
};

class ChannelTest : public ::testing::Test {
 protected:
  // A request that takes longer than silence may last is answered all the same.
  void expect_slow_answer(const net::Endpoint& endpoint, const Bytes& payload) {
    run([&]() -> asio::awaitable<void> {
      const auto channel = std::make_shared<Channel>(io_.get_executor(), endpoint);
      const auto begin = Clock::now();
      const auto response =
          co_await channel->call(status_request(), payload, {}, in(milliseconds(20'000)));
      EXPECT_TRUE(response) << response.error().message;
      EXPECT_GE(Clock::now() - begin, milliseconds(1500)) << "it was not slow enough to tell";
    });
  }
  void run(std::function<asio::awaitable<void>()> body) {
    asio::co_spawn(io_, body, [this](std::exception_ptr error) {
      io_.stop();
      if (error) std::rethrow_exception(error);
    });
    io_.run();
  }

  static pb::Request status_request() {
    pb::Request request;
    request.mutable_get_status();
    return request;
  }
  static net::OutgoingFrame status_reply(uint64_t stream, std::vector<Bytes> payload = {}) {
    pb::Reply reply;
    reply.mutable_status()->set_name("fake");
    return net::make_frame(wire::FrameType::kReply, stream, reply, std::move(payload));
  }
  // Reads requests and answers pings alone. Returns the first other request's stream.
  static asio::awaitable<void> answer_pings(Connection connection, uint64_t& stream) {
    for (;;) {
      const auto frame = co_await connection->receive(in(milliseconds(60'000)));
      if (!frame) co_return;
      pb::Request request;
      EXPECT_TRUE(net::parse_frame(*frame, request));
      if (!request.has_ping()) {
        stream = frame->header.stream;
        continue;
      }
      pb::Reply reply;
      reply.mutable_ping();
      connection->send(net::make_frame(wire::FrameType::kReply, frame->header.stream, reply));
    }
  }

  std::shared_ptr<Channel> channel_to(const FakeNode& node) {
    return std::make_shared<Channel>(io_.get_executor(), node.endpoint());
  }

  asio::io_context io_{1};
};

TEST_F(ChannelTest, a_node_that_falls_silent_is_noticed_within_a_second_or_so) {
  FakeNode node(io_, [](Connection) -> asio::awaitable<void> { co_return; });
  run([&]() -> asio::awaitable<void> {
    const auto channel = channel_to(node);
    EXPECT_TRUE(co_await channel->greet(in(milliseconds(5000))));
    const auto begin = Clock::now();
    const auto response =
        co_await channel->call(status_request(), {}, {}, in(milliseconds(10'000)));
    EXPECT_FALSE(response);
    if (response) co_return;
    EXPECT_EQ(response.error().code, Errc::kUnknownOutcome);
    EXPECT_NE(response.error().message.find("has not answered for 1."), std::string::npos)
        << response.error().message;
    EXPECT_GE(Clock::now() - begin, milliseconds(900));
    EXPECT_LE(Clock::now() - begin, milliseconds(2500));
    EXPECT_TRUE(channel->down());
  });
}

TEST_F(ChannelTest, an_answer_may_take_long_if_the_node_lives) {
  uint64_t stream = 0;
  FakeNode node(io_, [&](Connection connection) -> asio::awaitable<void> {
    asio::co_spawn(io_, answer_pings(connection, stream), asio::detached);
    co_await sleep(milliseconds(2500));
    connection->send(status_reply(stream));
  });
  run([&]() -> asio::awaitable<void> {
    const auto channel = channel_to(node);
    const auto response =
        co_await channel->call(status_request(), {}, {}, in(milliseconds(10'000)));
    EXPECT_TRUE(response) << response.error().message;
    EXPECT_FALSE(channel->down());
    EXPECT_EQ(node.accepted, 1U);
  });
}

TEST_F(ChannelTest, an_idle_connection_is_not_silent) {
  FakeNode node(io_, [&](Connection connection) -> asio::awaitable<void> {
    for (;;) {
      const auto frame = co_await connection->receive(in(milliseconds(60'000)));
      if (!frame) co_return;
      co_await sleep(milliseconds(200));
      connection->send(status_reply(frame->header.stream));
    }
  });
  run([&]() -> asio::awaitable<void> {
    const auto channel = channel_to(node);
    EXPECT_TRUE(co_await channel->call(status_request(), {}, {}, in(milliseconds(5000))));
    co_await sleep(milliseconds(1500));
    EXPECT_TRUE(co_await channel->call(status_request(), {}, {}, in(milliseconds(5000))));
    EXPECT_EQ(node.accepted, 1U);
  });
}

TEST_F(ChannelTest, an_answer_that_trickles_is_a_sign_of_life) {
  tcp::acceptor acceptor(io_, {asio::ip::address_v4::loopback(), 0});
  const net::Endpoint endpoint{"127.0.0.1", acceptor.local_endpoint().port()};
  const auto serve = [&]() -> asio::awaitable<void> {
    auto [error, socket] = co_await acceptor.async_accept(kToken);
    const auto send = [&](const net::OutgoingFrame& frame, size_t piece,
                          milliseconds pause) -> asio::awaitable<void> {
      const std::string bytes = bytes_of(frame);
      for (size_t at = 0; at < bytes.size(); at += piece) {
        co_await asio::async_write(socket, asio::buffer(bytes.substr(at, piece)), kToken);
        co_await sleep(pause);
      }
    };
    pb::HelloReply greeting;
    co_await send(net::make_frame(wire::FrameType::kHelloReply, 0, greeting), 1000, {});
    // Nothing is read, so no ping is ever answered; 50 bytes take two and a half seconds.
    co_await send(status_reply(1), 4, milliseconds(200));
    co_await sleep(milliseconds(60'000));
  };
  asio::co_spawn(io_, serve, asio::detached);
  expect_slow_answer(endpoint, {});
}

TEST_F(ChannelTest, a_request_that_is_taken_slowly_is_a_sign_of_life) {
  tcp::acceptor acceptor(io_, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  acceptor.set_option(asio::socket_base::receive_buffer_size(64 << 10));
  const net::Endpoint endpoint{"127.0.0.1", acceptor.local_endpoint().port()};
  const auto serve = [&]() -> asio::awaitable<void> {
    auto [error, socket] = co_await acceptor.async_accept(kToken);
    std::string bytes =
        bytes_of(net::make_frame(wire::FrameType::kHelloReply, 0, pb::HelloReply()));
    co_await asio::async_write(socket, asio::buffer(bytes), kToken);
    std::vector<std::byte> taken(256 << 10);
    // Two and a half seconds for the block; the pings wait behind it.
    for (size_t left = limits::kBlockBytesMax; left > taken.size();) {
      auto [failed, got] = co_await asio::async_read(socket, asio::buffer(taken), kToken);
      if (failed) co_return;
      left -= got;
      co_await sleep(milliseconds(150));
    }
    bytes = bytes_of(status_reply(1));
    co_await asio::async_write(socket, asio::buffer(bytes), kToken);
    co_await sleep(milliseconds(60'000));
  };
  asio::co_spawn(io_, serve, asio::detached);
  expect_slow_answer(endpoint, Bytes{MutableBytes(limits::kBlockBytesMax)});
}

TEST_F(ChannelTest, a_node_that_accepts_and_does_not_greet_costs_all_callers_one_second) {
  FakeNode node(io_, {});
  node.greets = false;
  run([&]() -> asio::awaitable<void> {
    const auto channel = channel_to(node);
    size_t failed = 0;
    const auto begin = Clock::now();
    for (int i = 0; i < 8; ++i) {
      asio::co_spawn(
          io_,
          [&]() -> asio::awaitable<void> {
            const auto response =
                co_await channel->call(status_request(), {}, {}, in(milliseconds(10'000)));
            if (!response && response.error().code == Errc::kUnavailable) ++failed;
          },
          asio::detached);
    }
    while (failed < 8 && Clock::now() - begin < milliseconds(5000))
      co_await sleep(milliseconds(10));
    EXPECT_EQ(failed, 8U);
    EXPECT_LE(Clock::now() - begin, milliseconds(2000));
    EXPECT_EQ(node.accepted, 1U);
    EXPECT_TRUE(channel->down());
    // Later one of them tries again, and the others are still warned.
    co_await sleep(milliseconds(1200));
    EXPECT_FALSE(channel->down());
    asio::co_spawn(
        io_,
        [&]() -> asio::awaitable<void> {
          EXPECT_FALSE(co_await channel->greet(in(milliseconds(5000))));
          ++failed;
        },
        asio::detached);
    co_await sleep(milliseconds(50));
    EXPECT_TRUE(channel->down());
    while (failed < 9) co_await sleep(milliseconds(10));
  });
}

// Three members: the first one leads and freezes, the others go on naming it until the second one
// is elected.
TEST_F(ChannelTest, the_router_does_not_go_back_to_a_stopped_primary) {
  size_t asked = 0;
  auto elected_at = Clock::time_point::max();
  const auto follow = [&](bool successor) {
    return [&, successor](Connection connection) -> asio::awaitable<void> {
      for (;;) {
        const auto frame = co_await connection->receive(in(milliseconds(60'000)));
        if (!frame) co_return;
        ++asked;
        if (successor && Clock::now() >= elected_at) {
          connection->send(status_reply(frame->header.stream));
          continue;
        }
        pb::Reply reply;
        reply.mutable_failure()->set_code(static_cast<uint32_t>(Errc::kNotLeader));
        reply.mutable_failure()->set_leader(1);
        connection->send(net::make_frame(wire::FrameType::kReply, frame->header.stream, reply));
      }
    };
  };
  FakeNode first(io_, [](Connection) -> asio::awaitable<void> { co_return; });
  FakeNode second(io_, follow(true));
  FakeNode third(io_, follow(false));
  uint64_t id = 0;
  for (const FakeNode* node : {&first, &second, &third}) {
    pb::Member& member = *first.greeting.add_members();
    member.set_id(++id);
    member.set_address(node->endpoint().to_string());
  }
  first.greeting.set_leader(1);
  run([&]() -> asio::awaitable<void> {
    Router router(io_.get_executor(), Options{});
    const auto connected = co_await router.connect({first.endpoint()}, in(milliseconds(5000)));
    EXPECT_TRUE(connected) << connected.error().message;
    const auto begin = Clock::now();
    elected_at = begin + milliseconds(1600);
    const auto response =
        co_await router.at_leader(status_request(), {}, {}, in(milliseconds(10'000)));
    EXPECT_TRUE(response) << response.error().message;
    EXPECT_LE(Clock::now() - begin, milliseconds(2300));
    EXPECT_EQ(first.accepted, 1U) << "the connection that told the members serves the request";
    EXPECT_LE(asked, 150U) << "asking around must not spin";
    EXPECT_GE(asked, 10U);
  });
}

}  // namespace
}  // namespace ballast::client
