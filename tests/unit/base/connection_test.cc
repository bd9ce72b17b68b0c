#include "proto/net/connection.h"

#include <gtest/gtest.h>

#include "proto/base/limits.h"
#include "proto/peer.pb.h"

namespace ballast::net {
namespace {

using std::chrono::milliseconds;

// Two ends of a connection on one loop; the test's coroutine gets both.
class ConnectionTest : public ::testing::Test {
 protected:
  using Body = std::function<asio::awaitable<void>(std::shared_ptr<Connection>, tcp::socket)>;

  void run(Body body) {
    tcp::acceptor acceptor(io_, {asio::ip::address_v4::loopback(), 0});
    const uint16_t port = acceptor.local_endpoint().port();
    const auto main = [&]() -> asio::awaitable<void> {
      auto connected =
          co_await Connection::connect(io_.get_executor(), {"127.0.0.1", port}, soon());
      auto [error, socket] = co_await acceptor.async_accept(kToken);
      EXPECT_TRUE(connected);
      if (!connected || error) co_return;
      co_await body(*connected, std::move(socket));
      (*connected)->close();
    };
    asio::co_spawn(io_, main, [](std::exception_ptr error) {
      if (error) std::rethrow_exception(error);
    });
    io_.run();
  }

  static Clock::time_point soon(milliseconds delay = milliseconds(5000)) {
    return Clock::now() + delay;
  }

  static OutgoingFrame hello(uint64_t from, std::vector<Bytes> payload = {}) {
    pb::Hello message;
    message.set_from(from);
    return make_frame(wire::FrameType::kHello, from, message, std::move(payload));
  }

  asio::io_context io_{1};
};

TEST_F(ConnectionTest, frames_arrive_whole_and_in_order) {
  run([](std::shared_ptr<Connection> near, tcp::socket socket) -> asio::awaitable<void> {
    const auto far = Connection::start(std::move(socket));
    for (uint64_t i = 0; i < 100; ++i)
      EXPECT_TRUE(near->send(
          hello(i, {Bytes::copy_of(std::string(i * 1000, 'a')), Bytes::copy_of("end")})));
    for (uint64_t i = 0; i < 100; ++i) {
      const auto frame = co_await far->receive(soon());
      EXPECT_TRUE(frame);
      if (!frame) break;
      pb::Hello message;
      EXPECT_TRUE(parse_frame(*frame, message));
      EXPECT_EQ(message.from(), i);
      EXPECT_EQ(frame->payload.size(), i * 1000 + 3);
      EXPECT_EQ(frame->payload.slice(i * 1000, 3).text(), "end");
    }
    far->close();
  });
}

TEST_F(ConnectionTest, silence_ends_at_the_deadline) {
  run([](std::shared_ptr<Connection> near, tcp::socket socket) -> asio::awaitable<void> {
    const auto frame = co_await near->receive(soon(milliseconds(60)));
    EXPECT_FALSE(frame);
    EXPECT_EQ(frame.error().code, Errc::kDeadline);
    EXPECT_TRUE(near->closed());
    socket.close();
  });
}

TEST_F(ConnectionTest, a_frame_with_a_flipped_bit_closes_the_connection) {
  run([](std::shared_ptr<Connection> near, tcp::socket socket) -> asio::awaitable<void> {
    const OutgoingFrame frame = hello(1, {Bytes::copy_of("payload")});
    std::string bytes(as_text(wire::encode_frame_header(frame.header)));
    bytes += frame.message + "paylobd";
    co_await asio::async_write(socket, asio::buffer(bytes), kToken);
    const auto received = co_await near->receive(soon());
    EXPECT_EQ(received.error().code, Errc::kCorrupt);
    EXPECT_TRUE(near->closed());
  });
}

TEST_F(ConnectionTest, a_stranger_is_told_apart) {
  run([](std::shared_ptr<Connection> near, tcp::socket socket) -> asio::awaitable<void> {
    const std::string http = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    co_await asio::async_write(socket, asio::buffer(http), kToken);
    const auto received = co_await near->receive(soon());
    EXPECT_EQ(received.error().code, Errc::kCorrupt);
  });
}

TEST_F(ConnectionTest, a_full_queue_takes_nothing_more) {
  run([](std::shared_ptr<Connection> near, tcp::socket socket) -> asio::awaitable<void> {
    // Nobody reads: the queue fills up to its bound and then refuses.
    const Bytes block = Bytes{MutableBytes(limits::kBlockBytesMax)};
    size_t taken = 0;
    while (near->send(hello(1, {block}))) ++taken;
    EXPECT_GT(taken, 1u);
    EXPECT_LE(near->queued_bytes(), limits::kSendQueueBytesMax);
    near->close();
    EXPECT_FALSE(near->send(hello(2)));
    socket.close();
    co_return;
  });
}

TEST(Endpoint, parses) {
  EXPECT_EQ(parse_endpoint("127.0.0.1:7400")->to_string(), "127.0.0.1:7400");
  EXPECT_EQ(parse_endpoint("[::1]:1")->host, "::1");
  EXPECT_EQ(parse_endpoint("[::1]:1")->to_string(), "[::1]:1");
  EXPECT_EQ(parse_endpoint("node1:65535")->port, 65535);
  for (const char* text : {"", "host", ":1", "host:", "host:0", "host:65536", "host:1x", "::1:5"})
    EXPECT_FALSE(parse_endpoint(text)) << text;
}

}  // namespace
}  // namespace ballast::net
