// What garbage() counts, against what Expire then takes.
#include "storage/kv/row_keys.h"
#include "tests/unit/storage/state_testing.h"

namespace ballast::storage {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kAllAtOnce = std::chrono::hours(1);

class Garbage : public testing::Test {
 protected:
  pb::GarbageReply garbage(const std::string& after = "", milliseconds budget = kAllAtOnce) {
    const auto reply = t.machine().garbage(after, t.now, budget);
    EXPECT_TRUE(reply) << reply.error().to_string();
    return reply.value_or(pb::GarbageReply());
  }
  Errc error(const std::string& after = "") {
    const auto reply = t.machine().garbage(after, t.now, kAllAtOnce);
    return reply ? Errc{} : reply.error().code;
  }

  TemporaryDirectory directory_;
  StateTester t{directory_.path()};
};

TEST_F(Garbage, is_none_at_first) { EXPECT_EQ(garbage().SerializeAsString(), ""); }

TEST_F(Garbage, is_what_no_commit_names) {
  const auto named = t.stage(block_bytes(1, 100), kMinute);
  t.stage(block_bytes(2, 200), kMinute);
  t.stage(block_bytes(3, 400), kHour);
  EXPECT_APPLIED(t.commit({put_key("k", tensor_of({named}))}));
  const auto fresh = garbage();
  EXPECT_EQ(fresh.blocks(), 2u);
  EXPECT_EQ(fresh.bytes(), 600u);
  EXPECT_EQ(fresh.due_blocks(), 0u);
  EXPECT_EQ(fresh.next_lease_ms(), kMinute);
  EXPECT_EQ(fresh.last_lease_ms(), kHour);
  EXPECT_APPLIED(t.commit({delete_key("k")}));
  EXPECT_EQ(garbage().blocks(), 3u) << "it is stored until its lease is over";
}

TEST_F(Garbage, is_due_exactly_when_expire_takes_it) {
  t.stage(block_bytes(1, 100), kMinute);
  t.stage(block_bytes(2, 200), 2 * kMinute);
  for (const uint64_t wait : {kMinute - 1, uint64_t{1}, kMinute}) {
    t.now += wait;
    const auto seen = garbage();
    EXPECT_EQ(t.machine().has_expired(t.now), seen.due_blocks() > 0);
    EXPECT_EQ(seen.next_lease_ms() == 0, seen.blocks() == seen.due_blocks());
    const auto expired = t.commit({expire(10)});
    EXPECT_EQ(expired.operations(0).rows(), seen.due_blocks());
    EXPECT_EQ(garbage().bytes(), seen.bytes() - seen.due_bytes());
  }
  EXPECT_EQ(garbage().SerializeAsString(), "");
}

TEST_F(Garbage, is_due_by_the_logs_time_if_the_clock_is_behind_it) {
  t.stage(block_bytes(1, 100), kMinute);
  t.now += kHour;
  EXPECT_APPLIED(t.commit({put_key("k", tensor_of({}))}));
  t.now -= kHour;
  EXPECT_EQ(garbage().due_blocks(), 1u);
}

TEST_F(Garbage, are_sessions_that_end) {
  const std::string session(16, 's');
  EXPECT_APPLIED(t.commit_as(session, 1, {put_key("k", tensor_of({}))}));
  t.now += 24 * kHour - 1;
  EXPECT_EQ(garbage().due_sessions(), 0u);
  t.now += 1;
  EXPECT_EQ(garbage().due_sessions(), 1u);
  EXPECT_EQ(t.commit({expire(10)}).operations(0).rows(), 1u);
  EXPECT_EQ(garbage().due_sessions(), 0u);
}

TEST_F(Garbage, is_counted_in_steps) {
  constexpr uint64_t kBlocks = 20;
  for (uint64_t i = 0; i < kBlocks; ++i) t.stage(block_bytes(i, 100 + i), (1 + i % 3) * kMinute);
  t.now += 2 * kMinute;
  const auto whole = garbage();
  EXPECT_EQ(whole.next(), "");
  pb::GarbageReply sum;
  uint64_t steps = 0;
  do {
    const auto step = garbage(sum.next(), milliseconds(0));
    EXPECT_EQ(step.blocks(), 1u) << "each goes on";
    sum.set_blocks(sum.blocks() + step.blocks());
    sum.set_bytes(sum.bytes() + step.bytes());
    sum.set_due_blocks(sum.due_blocks() + step.due_blocks());
    sum.set_due_bytes(sum.due_bytes() + step.due_bytes());
    if (sum.next_lease_ms() == 0) sum.set_next_lease_ms(step.next_lease_ms());
    sum.set_last_lease_ms(step.last_lease_ms());
    sum.set_next(step.next());
    ++steps;
  } while (!sum.next().empty());
  EXPECT_EQ(steps, kBlocks);
  EXPECT_EQ(sum.SerializeAsString(), whole.SerializeAsString());
}

TEST_F(Garbage, goes_on_though_what_it_stopped_at_is_gone) {
  t.stage(block_bytes(1, 100), kMinute);
  t.stage(block_bytes(2, 200), 2 * kMinute);
  const auto first = garbage("", milliseconds(0));
  t.now += kMinute;
  EXPECT_APPLIED(t.commit({expire(10)}));
  EXPECT_FALSE(t.machine().has_expired(t.now)) << "which moves the floor on";
  EXPECT_EQ(garbage(first.next()).bytes(), 200u);
}

TEST_F(Garbage, is_asked_for_behind_what_a_reply_said) {
  EXPECT_EQ(error("a"), Errc::kInvalidArgument);
  EXPECT_EQ(error(std::string(41, 'a')), Errc::kInvalidArgument);
}

TEST_F(Garbage, has_rows_that_fit_each_other) {
  const auto digest = digest_of(t.stage(block_bytes(1, 100), kMinute));
  const std::string block = block_key(digest);
  ASSERT_TRUE(t.rows().write(std::vector<RowChange>{{block, std::nullopt}}));
  EXPECT_EQ(error(), Errc::kCorrupt);
  const std::string lease = kind_key(RowKind::kLease) + "short";
  ASSERT_TRUE(t.rows().write(
      std::vector<RowChange>{{lease_key(t.now + kMinute, digest), std::nullopt}, {lease, ""}}));
  EXPECT_EQ(error(), Errc::kCorrupt);
}

}  // namespace
}  // namespace ballast::storage
