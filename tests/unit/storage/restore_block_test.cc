// Blocks that are damaged here, and what puts them right.
#include <utility>

#include "storage/kv/row_keys.h"
#include "tests/unit/storage/state_testing.h"

namespace ballast::storage {
namespace {

class RestoredBlocks : public testing::Test {
 protected:
  static constexpr uint64_t kEntries = 4;  // in a segment

  Status restore(const Bytes& bytes) {
    return t.machine().restore_block(digest_of(reference_of(bytes)), bytes);
  }
  uint64_t live_bytes() {
    uint64_t bytes = 0;
    for (const auto& use : *t.machine().segments()) bytes += use.bytes;
    return bytes;
  }

  TemporaryDirectory directory_;
  StateTester t{directory_.path(), std::make_shared<TestPayloads>(kEntries)};
  const Bytes one_ = block_bytes(1, 1000), two_ = block_bytes(2, 2000);
};

TEST_F(RestoredBlocks, lie_where_they_lay) {
  t.stage(one_);
  t.stage(two_);
  t.payloads().damage(t.entries()[0]);
  EXPECT_EQ(t.damaged(), 1);
  ASSERT_TRUE(restore(one_));
  EXPECT_EQ(t.damaged(), 0);
  EXPECT_EQ(live_bytes(), 3000u);
  t.expect_whole(one_);
}

TEST_F(RestoredBlocks, move_into_the_database_where_they_cannot) {
  t.stage(one_);
  t.stage(two_);
  t.payloads().damage(t.entries()[0]);
  t.payloads().restores = false;
  ASSERT_TRUE(restore(one_));
  EXPECT_EQ(live_bytes(), 2000u);
  t.expect_whole(one_);
  // Its segment is done with it.
  EXPECT_EQ(t.machine().move_blocks(1, 10'000).value_or(0), 2000u);
  EXPECT_EQ(t.machine().move_blocks(1, 10'000).value_or(1), 0u);
  ASSERT_TRUE(t.machine().flush());
  t.payloads().remove_segment(1);
  t.reopen();
  EXPECT_EQ(t.damaged(), 0);
  EXPECT_EQ(t.machine().applied().blocks, 2u);
}

TEST_F(RestoredBlocks, in_the_database_are_written_over) {
  t.stage(one_);
  EXPECT_EQ(t.machine().move_blocks(1, 10'000).value_or(0), 1000u);
  const std::string key = bytes_key(digest_of(reference_of(one_)));
  ASSERT_TRUE(t.rows().write(std::vector<RowChange>{{key, "something else"}}));
  EXPECT_EQ(t.damaged(), 1);
  ASSERT_TRUE(restore(one_));
  EXPECT_EQ(t.damaged(), 0);
  ASSERT_TRUE(t.rows().write(std::vector<RowChange>{{key, std::nullopt}}));
  EXPECT_EQ(t.damaged(), 1) << "no row says where it lies";
  ASSERT_TRUE(restore(one_));
  EXPECT_EQ(t.damaged(), 0);
}

TEST_F(RestoredBlocks, are_those_that_are_stored_and_no_others) {
  t.stage(one_);
  const std::string before = t.digest();
  EXPECT_EQ(restore(two_).error().code, Errc::kNotFound);
  const auto wrong = t.machine().restore_block(digest_of(reference_of(one_)), two_);
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, Errc::kInvalidArgument);
  EXPECT_EQ(t.digest(), before);
  t.expect_whole(one_);
}

TEST_F(RestoredBlocks, let_an_entry_be_applied_that_needed_them) {
  const auto data = t.stage(block_bytes(7, 500));
  const auto manifest = t.stage_manifest("m", {tensor_of({data}, "w")});
  const Entry& staged = t.entries().back();
  t.payloads().damage(staged);
  const Entry entry = commit_entry(t.next(), t.now, {publish("m", manifest)});
  const uint64_t before = t.next();
  const auto blocked = t.try_apply({&entry, 1});
  ASSERT_FALSE(blocked);
  EXPECT_EQ(blocked.error().code, Errc::kCorrupt);
  EXPECT_EQ(t.machine().blocked_on(), digest_of(manifest));
  EXPECT_EQ(t.next(), before) << "nothing was applied";
  ASSERT_TRUE(t.machine().restore_block(digest_of(manifest), staged.payload));
  const auto applied = t.try_apply({&entry, 1});
  ASSERT_TRUE(applied) << applied.error().message;
  EXPECT_APPLIED(applied->front());
  EXPECT_FALSE(t.machine().blocked_on());
}

// ---- who hears of it ----

TEST(Damage, is_told_whenever_it_is_met) {
  const TemporaryDirectory directory;
  const auto payloads = std::make_shared<TestPayloads>();
  auto rows = open_database({.directory = directory.path()});
  ASSERT_TRUE(rows);
  std::vector<std::pair<std::optional<Digest>, Errc>> heard;
  auto machine = StateMachine::over(*std::move(rows), payloads,
                                    [&](const std::optional<Digest>& block, const Error& error) {
                                      heard.emplace_back(block, error.code);
                                    });
  ASSERT_TRUE(machine);
  const Bytes bytes = block_bytes(1, 1000);
  const Entry entry = block_entry(1, bytes, kHour, kHour);
  ASSERT_TRUE((*machine)->apply(payloads->commit({&entry, 1})));
  const Digest digest = digest_of(reference_of(bytes));
  EXPECT_TRUE((*machine)->block(digest));
  EXPECT_TRUE((*machine)->verify_rows());
  EXPECT_TRUE(heard.empty());
  payloads->damage(entry);
  EXPECT_FALSE((*machine)->block(digest));
  EXPECT_FALSE((*machine)->move_blocks(1, 10'000));
  EXPECT_EQ((*machine)->verify_blocks(std::nullopt, {std::chrono::hours(1)})->damaged_size(), 1);
  ASSERT_EQ(heard.size(), 3u);
  for (const auto& [block, code] : heard) {
    EXPECT_EQ(block, digest);
    EXPECT_EQ(code, Errc::kCorrupt);
  }
}

TEST(Damage, a_verify_takes_no_more_than_its_budget) {
  const TemporaryDirectory directory;
  StateTester t(directory.path());
  for (uint64_t i = 1; i <= 10; ++i) t.stage(block_bytes(i, 1000));
  std::optional<Digest> after;
  int calls = 0;
  for (bool more = true; more; ++calls) {
    const auto reply =
        t.machine().verify_blocks(after, {.time = std::chrono::hours(1), .bytes = 2500});
    ASSERT_TRUE(reply);
    EXPECT_LE(reply->bytes(), 3000u);
    more = !reply->next().empty();
    if (more) after = *Digest::from_raw(reply->next());
  }
  EXPECT_EQ(calls, 4);
}

}  // namespace
}  // namespace ballast::storage
