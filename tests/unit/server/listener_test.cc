// What clients may do to a node: whatever they send, and whatever they leave unread, the node goes
// on serving the others.
#include "server/service/listener.h"

#include <gtest/gtest.h>

#include <set>

#include "client/internal/channel.h"
#include "proto/base/crc32c.h"
#include "proto/base/digest.h"
#include "tests/unit/server/one_node.h"

namespace ballast::server {
namespace {

using Connection = std::shared_ptr<net::Connection>;

Bytes big_block() { return Bytes::copy_of(std::string(limits::kBlockBytesMax, 'b')); }

// Stages the block; gives the request that reads it.
asio::awaitable<pb::Request> stage(OneNode& one, Connection connection, Bytes block) {
  pb::Request request;
  request.set_ack(pb::ACK_SYNC);
  pb::BlockRef& reference = *request.mutable_stage_block()->mutable_block();
  reference.set_digest(std::string(sha256(block.span()).text()));
  reference.set_length(static_cast<uint32_t>(block.size()));
  reference.set_crc32c(crc32c(block.span()));
  const std::string digest = reference.digest();
  const auto reply = co_await one.ask(std::move(connection), request, std::move(block));
  EXPECT_TRUE(reply && reply->has_write()) << (reply ? reply->failure().message() : "no reply");
  pb::Request get;
  get.set_deadline_ms(60'000);
  get.mutable_get_block()->set_digest(digest);
  co_return get;
}

// ---- greetings ----

TEST(Listener, a_greeting_with_a_payload_is_refused) {
  OneNode one;
  one.run([&]() -> asio::awaitable<void> {
    pb::Hello hello;
    hello.set_protocol(wire::kProtocolVersion);
    const auto bare = co_await one.greet(hello);
    EXPECT_TRUE(bare.reply);
    const auto laden = co_await one.greet(hello, {Bytes::copy_of("x")});
    EXPECT_FALSE(laden.reply) << "no memory is taken for strangers";
    EXPECT_TRUE(co_await one.answers(bare.connection));
  });
}

TEST(Listener, too_many_clients_are_told_so_and_peers_have_their_places) {
  OneNode one(3, {.clients_max = 2});
  one.run([&]() -> asio::awaitable<void> {
    const Connection first = co_await one.client();
    const Connection second = co_await one.client();
    pb::Hello hello;
    hello.set_protocol(wire::kProtocolVersion);
    auto third = co_await one.greet(hello);
    EXPECT_TRUE(third.reply);
    if (!third.reply) co_return;
    EXPECT_EQ(third.reply->failure().code(), static_cast<uint32_t>(Errc::kOverloaded));
    EXPECT_NE(third.reply->failure().message().find("2 clients"), std::string::npos);
    EXPECT_FALSE(co_await third.connection->receive(soon())) << "and the connection is closed";
    // The client's library tells it from a refusal: it tries again, or another node.
    const auto channel = std::make_shared<client::Channel>(
        one.io.get_executor(), net::Endpoint{"127.0.0.1", one.listener->port()});
    const auto greeting = co_await channel->greet(soon());
    EXPECT_TRUE(!greeting && greeting.error().code == Errc::kOverloaded);

    pb::Hello peer = hello;
    peer.set_kind(pb::CONNECTION_CONTROL);
    peer.set_cluster(one.cluster.id.raw());
    peer.set_from(2);
    peer.set_to(1);
    const auto nameless = co_await one.greet(peer);
    EXPECT_TRUE(nameless.reply && nameless.reply->has_failure()) << "it does not say its disk";
    peer.set_from_disk("0123456789abcdef");
    peer.set_from_name("n2");
    peer.set_from_address("127.0.0.1:2");
    const auto accepted = co_await one.greet(peer);
    EXPECT_TRUE(accepted.reply && !accepted.reply->has_failure());
    EXPECT_TRUE(co_await one.answers(first));

    second->close();  // the node sees that a moment later
    const auto deadline = soon();
    do {
      third = co_await one.greet(hello);
    } while (third.reply && third.reply->has_failure() && Clock::now() < deadline);
    EXPECT_TRUE(co_await one.answers(third.connection));
  });
}

// ---- requests ----

TEST(Listener, a_request_that_is_no_message_closes_only_its_connection) {
  OneNode one;
  one.run([&]() -> asio::awaitable<void> {
    const Connection good = co_await one.client();
    const Connection bad = co_await one.client();
    net::OutgoingFrame garbage = net::make_frame(wire::FrameType::kRequest, 7, pb::Request(), {});
    garbage.message = "\xff\xff\xff no message";
    garbage.header.message_bytes = static_cast<uint32_t>(garbage.message.size());
    garbage.header.message_crc = crc32c(as_byte_span(garbage.message));
    bad->send(std::move(garbage));
    const auto reply = co_await bad->receive(soon());
    EXPECT_FALSE(reply);
    EXPECT_TRUE(!reply && reply.error().code == Errc::kUnavailable) << "closed by the node";
    EXPECT_TRUE(co_await one.answers(good));
  });
}

// Requests and replies have the same limit, and a reply says more than it quotes.
TEST(Listener, an_error_that_quotes_a_long_name_does_not_outgrow_its_frame) {
  OneNode one;
  one.run([&]() -> asio::awaitable<void> {
    const std::string name(limits::kFrameHeaderBytesMax - 100, 'n');
    std::vector<pb::Request> requests(5);
    requests[0].mutable_get_key()->set_key(name);
    requests[1].mutable_get_version()->set_model(name);
    requests[2].mutable_get_version()->set_model("m");
    requests[2].mutable_get_version()->set_alias(name);
    requests[3].mutable_list_aliases()->set_model(name);
    requests[4].mutable_get_block()->set_digest(name);
    const Connection connection = co_await one.client();
    for (const pb::Request& request : requests) {
      const auto reply = co_await one.ask(connection, request);
      EXPECT_TRUE(reply) << "request " << request.kind_case();
      if (!reply) co_return;
      EXPECT_LE(reply->failure().message().size(), limits::kErrorMessageBytesMax + 4);
    }
    EXPECT_TRUE(co_await one.answers(connection));
  });
}

// ---- replies that nobody takes ----

TEST(Listener, a_client_that_reads_late_gets_all_it_asked_for) {
  OneNode one;
  one.run([&]() -> asio::awaitable<void> {
    const Connection slow = co_await one.client();
    const Connection other = co_await one.client();
    const pb::Request get = co_await stage(one, slow, big_block());
    // More than a connection queues, and less than the node keeps for replies.
    constexpr uint64_t kReplies = 36;
    static_assert(kReplies * limits::kBlockBytesMax > 2 * limits::kSendQueueBytesMax);
    static_assert((kReplies + 1) * limits::kBlockBytesMax < limits::kReplyBytesMax);
    for (uint64_t stream = 1; stream <= kReplies; ++stream)
      slow->send(net::make_frame(wire::FrameType::kRequest, stream, get));
    // Requests of another client go the same way, so these are behind those of the first.
    for (int i = 0; i < 8; ++i) EXPECT_TRUE(co_await one.ask(other, get));
    std::set<uint64_t> answered;
    while (answered.size() < kReplies) {
      const auto frame = co_await slow->receive(soon());
      EXPECT_TRUE(frame) << answered.size() << " replies, then: " << frame.error().message;
      if (!frame) co_return;
      EXPECT_EQ(frame->payload.size(), limits::kBlockBytesMax);
      answered.insert(frame->header.stream);
    }
  });
}

TEST(Listener, a_client_that_never_reads_is_cut_off_and_gives_its_room_back) {
  OneNode one(1, {.reply_stall = std::chrono::milliseconds(200)});
  one.run([&]() -> asio::awaitable<void> {
    const Connection other = co_await one.client();
    const pb::Request get = co_await stage(one, other, big_block());
    // A connection reads nothing unless it is asked to.
    const Connection greedy = co_await one.client();
    constexpr uint64_t kAsked = limits::kRequestsPerConnectionMax;
    static_assert(kAsked * limits::kBlockBytesMax > limits::kReplyBytesMax);
    for (uint64_t stream = 1; stream <= kAsked; ++stream)
      greedy->send(net::make_frame(wire::FrameType::kRequest, stream, get));
    const auto deadline = soon();
    while (one.listener->clients() > 1 && Clock::now() < deadline) co_await one.turn();
    EXPECT_EQ(one.listener->clients(), 1u) << "it is not cut off";
    const auto reply = co_await one.ask(other, get);
    EXPECT_TRUE(reply && reply->has_get_block()) << "there is room for others";
    // What the system had taken is still there to read; then the connection ends.
    uint64_t replies = 0;
    while (co_await greedy->receive(soon())) ++replies;
    EXPECT_LT(replies, kAsked);
    EXPECT_TRUE(co_await one.answers(other));
  });
}

// ---- signs of life ----

TEST(Listener, a_ping_is_answered_at_once) {
  OneNode one;
  one.run([&]() -> asio::awaitable<void> {
    pb::Request ping;
    ping.mutable_ping();
    const auto reply = co_await one.ask(co_await one.client(), ping);
    EXPECT_TRUE(reply && reply->has_ping());
  });
}

TEST(Listener, a_client_whose_requests_are_not_read_is_told_that_the_node_lives) {
  OneNode one(3);
  one.run([&]() -> asio::awaitable<void> {
    const Connection client = co_await one.client();
    const Bytes block = Bytes::copy_of("a block that no other node will have");
    pb::Request request;
    request.set_ack(pb::ACK_SYNC);
    request.set_deadline_ms(60'000);
    pb::BlockRef& reference = *request.mutable_stage_block()->mutable_block();
    reference.set_digest(std::string(sha256(block.span()).text()));
    reference.set_length(static_cast<uint32_t>(block.size()));
    reference.set_crc32c(crc32c(block.span()));
    one.peers.acknowledge = false;
    for (uint64_t stream = 1; stream <= limits::kRequestsPerConnectionMax; ++stream)
      client->send(net::make_frame(wire::FrameType::kRequest, stream, request, {block}));
    const auto frame = co_await client->receive(soon());
    pb::Reply reply;
    EXPECT_TRUE(frame && net::parse_frame(*frame, reply));
    EXPECT_TRUE(reply.has_ping()) << "another reply came first";
    if (frame) EXPECT_EQ(frame->header.stream, 0U) << "it answers nothing";
    one.peers.acknowledge = true;
  });
}

}  // namespace
}  // namespace ballast::server
