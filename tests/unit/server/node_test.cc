// What the node tells those who wait for a write when leadership moves.
#include "server/node/node.h"

#include <gtest/gtest.h>

#include "tests/unit/server/one_node.h"

namespace ballast::server {
namespace {

std::vector<Node::Draft> draft() {
  pb::CommitEntry commit;
  commit.set_time_ms(1);
  std::vector<Node::Draft> drafts(1);
  drafts[0].header = Bytes::copy_of(commit.SerializeAsString());
  return drafts;
}

// Another primary of the next term, whose log lacks everything behind `previous`.
void take_over(OneNode& one, Index previous) {
  const raft::Core& core = one.node->core();
  const Term term(core.term().value() + 1);
  const Entry noop(term, previous + 1, EntryKind::kNoop);
  one.node->step({.from = NodeId(2),
                  .to = NodeId(1),
                  .term = term,
                  .body = raft::Append{.previous_index = previous,
                                       .previous_term = core.term_at(previous),
                                       .previous_chain = core.chain_at(previous),
                                       .commit = previous,
                                       .entries = {noop.meta()}}},
                 {noop});
}

TEST(Node, a_wait_knows_its_writes_term) {
  OneNode one(3);
  one.run([&]() -> asio::awaitable<void> {
    const auto written = co_await one.node->write(draft(), pb::ACK_SYNC, soon());
    EXPECT_TRUE(written);
    if (!written) co_return;
    const auto same = co_await one.node->wait(written->token, pb::ACK_SYNC, soon());
    EXPECT_TRUE(same);
    pb::Token later = written->token;  // of a primary that this node has not heard of
    later.set_term(later.term() + 1);
    const auto unheard = co_await one.node->wait(later, pb::ACK_SYNC, soon());
    EXPECT_TRUE(!unheard && unheard.error().code == Errc::kNotLeader)
        << "it must not be called lost";
    pb::Token earlier = written->token;
    earlier.set_term(earlier.term() - 1);
    const auto lost = co_await one.node->wait(earlier, pb::ACK_SYNC, soon());
    EXPECT_TRUE(!lost && lost.error().code == Errc::kConflict);
    pb::Token beyond = written->token;
    beyond.set_index(beyond.index() + 10);
    const auto never = co_await one.node->wait(beyond, pb::ACK_SYNC, soon());
    EXPECT_TRUE(!never && never.error().code == Errc::kConflict);
  });
}

TEST(Node, waiters_of_a_deposed_primary_are_told_at_once) {
  OneNode one(3);
  one.run([&]() -> asio::awaitable<void> {
    const auto written = co_await one.node->write(draft(), pb::ACK_SYNC, soon());
    EXPECT_TRUE(written);
    const Index before = one.node->core().last();
    one.peers.acknowledge = false;
    // Nothing will ever be applied at its index.
    asio::post(one.io, [&] { take_over(one, before); });
    const auto lost = co_await one.node->write(draft(), pb::ACK_SYNC, soon());
    EXPECT_FALSE(lost);
    if (lost) co_return;
    EXPECT_EQ(lost.error().code, Errc::kUnavailable) << lost.error().to_string();
    EXPECT_EQ(one.node->core().role(), raft::Role::kFollower);
    // And whoever asks for it now is sent to who can tell.
    pb::Token token;
    token.set_term(one.node->core().term().value() - 1);
    token.set_index(before.value() + 1);
    const auto wait = co_await one.node->wait(token, pb::ACK_SYNC, soon());
    EXPECT_TRUE(!wait && wait.error().code == Errc::kNotLeader);
  });
}

// Those before the place where the logs part may still be committed by the next primary.
TEST(Node, a_write_that_the_next_primary_has_is_not_lost) {
  OneNode one(3);
  one.run([&]() -> asio::awaitable<void> {
    const auto first = co_await one.node->write(draft(), pb::ACK_SYNC, soon());
    EXPECT_TRUE(first);
    one.peers.acknowledge = false;
    std::optional<Result<Node::Written>> kept;
    net::Signal done(one.io.get_executor());
    asio::co_spawn(
        one.io,
        [&]() -> asio::awaitable<void> {
          kept = co_await one.node->write(draft(), pb::ACK_SYNC, soon());
          done.notify();
        },
        asio::detached);
    while (one.node->core().last() == Index(first->token.index())) co_await one.turn();
    const Index last = one.node->core().last();
    take_over(one, last);
    for (int i = 0; i < 3; ++i) co_await one.turn();
    EXPECT_FALSE(kept) << "nobody knows yet";
    one.node->step({.from = NodeId(2),
                    .to = NodeId(1),
                    .term = one.node->core().term(),
                    .body = raft::Heartbeat{.commit = last + 1}},
                   {});
    while (!kept && co_await done.wait_until(soon())) continue;
    EXPECT_TRUE(kept && *kept) << "the next primary has committed it";
  });
}

TEST(Node, a_configuration_goes_through_the_log_like_everything_else) {
  OneNode one(1);
  one.peers.acknowledge = false;
  one.run([&]() -> asio::awaitable<void> {
    pb::ConfigurationEntry next = one.node->membership().newest();
    next.add_members()->set_id(2);
    next.mutable_members()->rbegin()->set_name("n2");
    const auto change = [&](const pb::ConfigurationEntry& target) {
      std::vector<Node::Draft> drafts(1);
      drafts[0].kind = EntryKind::kConfiguration;
      drafts[0].header =
          Bytes::copy_of(enter(one.node->membership().newest(), target).SerializeAsString());
      return one.node->write(std::move(drafts), pb::ACK_SYNC, soon());
    };
    const auto added = co_await change(next);
    EXPECT_TRUE(added) << added.error().to_string();
    if (!added) co_return;
    EXPECT_EQ(one.node->membership().newest_index(), Index(added->token.index()));
    EXPECT_EQ(find_member(one.node->membership().newest(), NodeId(2))->name(), "n2");
    EXPECT_TRUE(one.node->core().configuration().is_learner(NodeId(2)));

    next.mutable_members()->rbegin()->set_voter(true);
    const auto promoted = co_await change(next);
    EXPECT_TRUE(!promoted && promoted.error().code == Errc::kRefused)
        << "nobody has heard of it yet";
    EXPECT_FALSE(one.node->core().configuration().joint());
  });
}

}  // namespace
}  // namespace ballast::server
