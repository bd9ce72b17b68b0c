// Reads that may be a little old, at a node whose peers answer or do not.
#include <gtest/gtest.h>

#include <vector>

#include "tests/unit/server/one_node.h"

namespace ballast::server {
namespace {

using namespace std::chrono_literals;

pb::Request bounded_get(uint64_t max_staleness_us) {
  pb::Request request;
  request.set_read(pb::READ_BOUNDED);
  request.set_max_staleness_us(max_staleness_us);
  request.mutable_list_keys();
  return request;
}

TEST(BoundedRead, the_first_one_asks_and_those_after_it_do_not) {
  OneNode one(3);
  one.run([&]() -> asio::awaitable<void> {
    EXPECT_TRUE(co_await one.node->freshen(1h, soon()));
    EXPECT_EQ(one.node->read_probes(), 1u);
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(co_await one.node->freshen(1h, soon()));
    EXPECT_EQ(one.node->read_probes(), 1u);
    EXPECT_EQ(one.node->bounded_reads(), 101u);
  });
}

TEST(BoundedRead, a_linearizable_read_asks_for_those_after_it) {
  OneNode one(3);
  one.run([&]() -> asio::awaitable<void> {
    EXPECT_TRUE(co_await one.node->linearize(soon()));
    EXPECT_TRUE(co_await one.node->freshen(1h, soon()));
    EXPECT_EQ(one.node->read_probes(), 1u);
  });
}

TEST(BoundedRead, those_that_wait_share_a_probe) {
  OneNode one(3);
  one.run([&]() -> asio::awaitable<void> {
    int done = 0;
    net::Signal signal(one.io.get_executor());
    for (int i = 0; i < 10; ++i) {
      asio::co_spawn(
          one.io,
          [&]() -> asio::awaitable<void> {
            EXPECT_TRUE(co_await one.node->freshen(1h, soon()));
            ++done;
            signal.notify();
          },
          asio::detached);
    }
    while (done < 10 && co_await signal.wait_until(soon())) continue;
    EXPECT_EQ(done, 10);
    EXPECT_EQ(one.node->read_probes(), 1u);
  });
}

// The peers vanish: what is known of the node's freshness stays true, but no more is learnt.
TEST(BoundedRead, a_node_without_a_majority_serves_until_the_bound_is_over) {
  OneNode one(3);
  one.run([&]() -> asio::awaitable<void> {
    EXPECT_TRUE(co_await one.node->freshen(1h, soon()));
    one.peers.acknowledge = false;
    Status stale = co_await one.node->freshen(1ms, soon());
    while (stale) {  // the bound is not over yet
      co_await one.turn();
      stale = co_await one.node->freshen(1ms, soon());
    }
    EXPECT_EQ(stale.error().code, Errc::kTooStale) << stale.error().to_string();
    EXPECT_NE(stale.error().message.find("ms old, more than the 1 ms"), std::string::npos)
        << stale.error().message;
    EXPECT_NE(one.node->core().role(), raft::Role::kLeader) << "it has noticed";
    EXPECT_TRUE(co_await one.node->freshen(1h, soon()));
  });
}

TEST(BoundedRead, a_deadline_ends_the_wait) {
  OneNode one(3);
  one.run([&]() -> asio::awaitable<void> {
    one.peers.acknowledge = false;
    const auto stale = co_await one.node->freshen(1h, Clock::now() + 5ms);
    EXPECT_TRUE(!stale && stale.error().code == Errc::kTooStale);
    EXPECT_NE(stale.error().message.find("can't tell how old"), std::string::npos)
        << stale.error().message;
  });
}

TEST(BoundedRead, the_bound_must_make_sense) {
  struct Row {
    uint64_t max_staleness_us;
    Errc code;  // 0: answered
  };
  const std::vector<Row> table = {
      {0, Errc::kInvalidArgument},
      {999, Errc::kInvalidArgument},
      {1'000'000, Errc{}},
      {3'600'000'000, Errc{}},
      {3'600'000'001, Errc::kInvalidArgument},
      {UINT64_MAX, Errc::kInvalidArgument},
  };
  OneNode one;
  one.run([&]() -> asio::awaitable<void> {
    const auto connection = co_await one.client();
    for (const Row& row : table) {
      const auto reply = co_await one.ask(connection, bounded_get(row.max_staleness_us));
      EXPECT_TRUE(reply);
      if (!reply) co_return;
      EXPECT_EQ(reply->failure().code(), static_cast<uint32_t>(row.code))
          << row.max_staleness_us << ": " << reply->failure().message();
      EXPECT_EQ(reply->has_list_keys(), row.code == Errc{});
    }
    pb::Request request = bounded_get(1'000'000);
    request.set_read(static_cast<pb::ReadLevel>(9));
    const auto reply = co_await one.ask(connection, request);
    EXPECT_TRUE(reply && reply->failure().code() == static_cast<uint32_t>(Errc::kInvalidArgument))
        << "a level of a later version is not taken for a weaker one";
  });
}

}  // namespace
}  // namespace ballast::server
