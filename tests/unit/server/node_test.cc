// What the node tells those who wait for a write when leadership moves.
#include "server/node/node.h"

#include <gtest/gtest.h>

#include <atomic>

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

// ---- a full disk ----

constexpr uint64_t kPlenty = 1000 * limits::kMiB;
constexpr uint64_t kNoSegment = 20 * limits::kMiB;  // above the floor of 8

SpaceOptions space_of(const std::atomic<uint64_t>& free) {
  return {.name = "n1",
          .directory = "/data",
          .segment_bytes = 16 * limits::kMiB,
          .write_buffer_bytes = 8 * limits::kMiB,
          .measure = [&free] { return storage::Space{free, kPlenty}; }};
}

std::vector<Node::Draft> delete_draft() {
  std::vector<Node::Draft> drafts = draft();
  drafts[0].frees = true;
  return drafts;
}

asio::awaitable<Errc> write_outcome(OneNode& one, std::vector<Node::Draft> drafts) {
  const auto written = co_await one.node->write(std::move(drafts), pb::ACK_SYNC, soon());
  co_return written ? Errc{} : written.error().code;
}

TEST(FullDisk, refuses_writes_takes_deletes_and_is_over_by_itself) {
  std::atomic<uint64_t> free = 0;
  OneNode one(1, {}, space_of(free));
  one.run([&]() -> asio::awaitable<void> {
    EXPECT_TRUE(one.node->full());
    const auto refused = co_await one.node->write(draft(), pb::ACK_SYNC, soon());
    EXPECT_TRUE(!refused && refused.error().code == Errc::kNoSpace);
    EXPECT_EQ(co_await write_outcome(one, delete_draft()), Errc{});
    EXPECT_TRUE(co_await one.node->linearize(soon()));
    free = kPlenty;
    while (one.node->full()) co_await one.turn();
    EXPECT_EQ(co_await write_outcome(one, draft()), Errc{});
    free = 0;
    while (!one.node->full()) co_await one.turn();
    EXPECT_EQ(co_await write_outcome(one, draft()), Errc::kNoSpace);
  });
}

TEST(FullDisk, a_primary_takes_nothing_that_no_majority_can_store) {
  std::atomic<uint64_t> free = kPlenty;
  OneNode one(3, {}, space_of(free));
  one.run([&]() -> asio::awaitable<void> {
    EXPECT_EQ(co_await write_outcome(one, draft()), Errc{});
    one.peers.full = true;
    while (one.node->core().majority_has_space()) co_await one.turn();
    EXPECT_FALSE(one.node->full());
    EXPECT_EQ(co_await write_outcome(one, draft()), Errc::kNoSpace);
    EXPECT_EQ(co_await write_outcome(one, delete_draft()), Errc{});
    one.peers.full = false;
    while (!one.node->core().majority_has_space()) co_await one.turn();
    EXPECT_EQ(co_await write_outcome(one, draft()), Errc{});
  });
}

// Nobody else can be the primary while they do not answer TimeoutNow, but it is tried.
TEST(FullDisk, a_primary_hands_over_to_who_has_space) {
  std::atomic<uint64_t> free = kPlenty;
  OneNode one(3, {}, space_of(free));
  one.run([&]() -> asio::awaitable<void> {
    EXPECT_EQ(co_await write_outcome(one, draft()), Errc{});
    free = 0;
    while (!one.node->core().view().transfer_to) co_await one.turn();
    EXPECT_EQ(co_await write_outcome(one, draft()), Errc::kUnavailable);
  });
}

TEST(FullDisk, an_append_waits_until_it_can_be_stored_or_nobody_wants_it) {
  std::atomic<uint64_t> free = kNoSegment;
  OneNode one(1, {}, space_of(free));
  one.run([&]() -> asio::awaitable<void> {
    while (one.node->log().room().next != storage::Outlook::kLacking) co_await one.turn();
    std::vector<Entry> entries;
    for (uint64_t i = 1; i <= 4; ++i)
      entries.emplace_back(one.node->core().term(), one.node->core().last() + i, EntryKind::kBlock,
                           Bytes(), Bytes(MutableBytes(4 * limits::kMiB)));
    const std::span all(entries);
    EXPECT_TRUE(co_await one.node->room_for(all.first(2), [] { return false; }));
    EXPECT_FALSE(co_await one.node->room_for(all, [] { return true; }));
    int asked = 0;
    EXPECT_TRUE(co_await one.node->room_for(all, [&] {
      ++asked;
      free = kPlenty;
      return false;
    }));
    EXPECT_GT(asked, 0) << "it did not wait";
    EXPECT_EQ(one.node->log().room().next, storage::Outlook::kAssured);
  });
}

TEST(FullDisk, what_finds_no_space_for_its_rows_is_applied_when_there_is_some) {
  OneNode one(1);
  one.run([&]() -> asio::awaitable<void> {
    EXPECT_EQ(co_await write_outcome(one, draft()), Errc{});
    one.rows_full = true;
    const Index before = one.node->state().applied().index;
    const auto late = co_await one.node->write(draft(), pb::ACK_SYNC,
                                               Clock::now() + std::chrono::milliseconds(300));
    EXPECT_TRUE(!late && late.error().code == Errc::kUnknownOutcome);
    EXPECT_EQ(one.node->core().commit(), before + 1);
    EXPECT_EQ(one.node->state().applied().index, before);
    one.rows_full = false;
    EXPECT_EQ(co_await write_outcome(one, draft()), Errc{});
    EXPECT_EQ(one.node->state().applied().index, before + 2);
  });
}

// ---- letting go of space ----

TEST(CollectGarbage, is_over_when_a_flush_changes_nothing) {
  OneNode one;
  one.run([&]() -> asio::awaitable<void> {
    EXPECT_EQ(co_await write_outcome(one, draft()), Errc{});
    const auto more = co_await one.node->collect_garbage(soon());
    EXPECT_TRUE(more && !*more);
    const auto again = co_await one.node->collect_garbage(soon());
    EXPECT_TRUE(again && !*again) << "there was nothing to flush";
    const auto at_once = co_await one.node->collect_garbage(Clock::now());
    EXPECT_TRUE(at_once && *at_once) << "who has no time does not know";
  });
}

TEST(CollectGarbage, flushes_nothing_on_a_full_disk_and_says_so) {
  std::atomic<uint64_t> free = 0;
  OneNode one(1, {}, space_of(free));
  one.run([&]() -> asio::awaitable<void> {
    const auto more = co_await one.node->collect_garbage(soon());
    EXPECT_TRUE(!more && more.error().code == Errc::kNoSpace);
  });
}

TEST(CollectGarbage, is_asked_for_by_any_client) {
  OneNode one;
  one.run([&]() -> asio::awaitable<void> {
    const auto connection = co_await one.client();
    pb::Request collect;
    collect.mutable_collect_garbage();
    const auto collected = co_await one.ask(connection, collect);
    EXPECT_TRUE(collected && collected->has_collect_garbage());
    pb::Request count;
    count.mutable_garbage();
    const auto counted = co_await one.ask(connection, count);
    EXPECT_TRUE(counted && counted->garbage().has_log());
    if (counted) EXPECT_GT(counted->garbage().log().bytes(), 0u);
    count.mutable_garbage()->set_after("x");
    const auto refused = co_await one.ask(connection, count);
    EXPECT_TRUE(refused &&
                refused->failure().code() == static_cast<uint32_t>(Errc::kInvalidArgument));
  });
}

TEST(Node, what_is_read_for_others_gives_way_to_the_log_once_for_each_mib) {
  OneNode one;
  one.run([&]() -> asio::awaitable<void> {
    const storage::LogStore& log = one.node->log();
    asio::co_spawn(one.io, one.node->write(draft(), pb::ACK_SYNC, soon()), asio::detached);
    while (log.durable() == log.last()) co_await one.turn();
    const Index written = log.last();
    while (log.oldest_pending_us() == 0) continue;  // in its first microsecond
    co_await one.node->give_way(4096);
    EXPECT_LT(log.durable(), written) << "a small read has waited";
    const auto began = Clock::now();
    co_await one.node->give_way(1 << 20);
    EXPECT_TRUE(log.durable() >= written || Clock::now() - began >= std::chrono::milliseconds(10));
  });
}

}  // namespace
}  // namespace ballast::server
