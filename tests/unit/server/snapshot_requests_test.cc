// What a node answers to one that takes a snapshot from it.
#include <gtest/gtest.h>

#include "tests/unit/server/one_node.h"

namespace ballast::server {
namespace {

using Connection = std::shared_ptr<net::Connection>;

asio::awaitable<pb::Reply> answer(OneNode& one, const Connection& connection, pb::Request request) {
  auto reply = co_await one.ask(connection, std::move(request));
  EXPECT_TRUE(reply);
  co_return reply ? *std::move(reply) : pb::Reply();
}

// So far ahead that nothing which the node still applies by itself comes up to it.
constexpr uint64_t kFarAhead = 1'000'000;

pb::Request get_block(uint64_t applied) {
  pb::Request request;
  request.mutable_get_block()->set_digest(std::string(Digest::kSize, 'd'));
  request.mutable_get_block()->set_applied(applied);
  return request;
}

pb::Request open_snapshot(Index has) {
  pb::Request request;
  request.mutable_open_snapshot()->set_has(has.value());
  return request;
}

int code_of(const pb::Reply& reply) { return static_cast<int>(reply.failure().code()); }

// A node that has just begun again may not have applied the entry that stored the block.
TEST(SnapshotRequests, that_a_block_is_not_stored_is_said_by_who_has_applied_enough) {
  OneNode one;
  one.run([&]() -> asio::awaitable<void> {
    const Connection client = co_await one.client();
    const uint64_t applied = one.node->state().applied().index.value();
    const auto knows = co_await answer(one, client, get_block(applied));
    EXPECT_EQ(code_of(knows), static_cast<int>(Errc::kNotFound)) << knows.failure().message();
    const auto lags = co_await answer(one, client, get_block(applied + kFarAhead));
    EXPECT_EQ(code_of(lags), static_cast<int>(Errc::kUnavailable)) << lags.failure().message();
  });
}

TEST(SnapshotRequests, whoever_has_what_the_log_goes_on_from_gets_no_snapshot) {
  OneNode one;
  one.run([&]() -> asio::awaitable<void> {
    const Connection client = co_await one.client();
    const Index commit = one.node->core().commit();
    const auto goes_on = co_await answer(one, client, open_snapshot(commit));
    EXPECT_TRUE(goes_on.open_snapshot().log_goes_on());
    EXPECT_EQ(goes_on.open_snapshot().id(), 0u);
    for (const Index has : {Index(), commit + kFarAhead}) {
      const auto opened = co_await answer(one, client, open_snapshot(has));
      EXPECT_FALSE(opened.open_snapshot().log_goes_on());
      EXPECT_GT(opened.open_snapshot().id(), 0u);
    }
  });
}

// Else a receiver that brings newer rows again and again would find too many open.
TEST(SnapshotRequests, a_snapshot_is_closed_with_its_last_rows) {
  OneNode one;
  one.run([&]() -> asio::awaitable<void> {
    const Connection client = co_await one.client();
    for (int i = 0; i < 20; ++i) {
      const auto opened = co_await answer(one, client, open_snapshot(Index()));
      EXPECT_FALSE(opened.has_failure()) << opened.failure().message();
      pb::Request read;
      read.mutable_read_snapshot()->set_id(opened.open_snapshot().id());
      const auto page = co_await answer(one, client, read);
      EXPECT_TRUE(page.read_snapshot().last());
      const auto again = co_await answer(one, client, read);
      EXPECT_EQ(code_of(again), static_cast<int>(Errc::kNotFound));
    }
  });
}

}  // namespace
}  // namespace ballast::server
