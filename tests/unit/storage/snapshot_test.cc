// A snapshot's way out of one database and into another.
#include <gtest/gtest.h>

#include "proto/files/files.h"
#include "storage/kv/row_keys.h"
#include "storage/kv/segment_use.h"
#include "storage/log/segment_file.h"
#include "storage/log/segment_set.h"
#include "storage/snapshot/incoming.h"
#include "storage/snapshot/snapshot_rows.h"
#include "tests/unit/storage/state_testing.h"

namespace ballast::storage {
namespace {

constexpr uint64_t kBlocks = 20;

Bytes block(uint64_t number) { return block_bytes(number, 200'000); }

// The rows of a state in pages of a few.
std::vector<pb::RowPage> pages_of(const StateMachine& state) {
  const std::unique_ptr<RowView> view = state.rows();
  std::vector<pb::RowPage> pages;
  std::string after;
  for (bool last = false; !last;) {
    auto page = snapshot_page(*view, after, 500);
    EXPECT_TRUE(page) << page.error().message;
    last = page->last;
    if (!page->rows.rows().empty()) after = page->rows.rows().rbegin()->key();
    pages.push_back(std::move(page->rows));
  }
  return pages;
}

// What a log has whose homes came with a snapshot, beside what was there before.
class WithArrived final : public Payloads {
 public:
  WithArrived(const std::string& directory, std::shared_ptr<const Payloads> before)
      : before_(std::move(before)) {
    for (const std::string& name : *list_directory(directory)) {
      auto segment = open_segment(directory, *parse_segment_name(name));
      EXPECT_TRUE(segment) << segment.error().message;
      arrived_.add(*std::move(segment));
    }
  }
  Result<Bytes> read(Place place, uint32_t bytes, uint32_t crc, ReadFrom from) const override {
    return of(place).read(place, bytes, crc, from);
  }
  Status restore(Place place, const Bytes& payload) const override {
    return of(place).restore(place, payload);
  }

 private:
  const Payloads& of(Place place) const { return has_arrived(place.segment) ? arrived_ : *before_; }

  SegmentSet arrived_;
  const std::shared_ptr<const Payloads> before_;
};

class SnapshotTest : public testing::Test {
 protected:
  SnapshotTest() { write(*source_, *source_payloads_, kBlocks); }

  // Blocks and a key of each.
  static void write(StateMachine& state, TestPayloads& payloads, uint64_t blocks) {
    std::vector<Entry> entries;
    for (uint64_t i = 1; i <= blocks; ++i) {
      entries.push_back(block_entry(2 * i - 1, block(i), 1000, kHour));
      entries.push_back(commit_entry(
          2 * i, 1000, {put_key(std::to_string(i), tensor_of({reference_of(block(i))}))}));
    }
    ASSERT_TRUE(state.apply(payloads.commit(entries)));
  }
  IncomingOptions options() const {
    return {.rows = {.directory = directory_ / "incoming"},
            .blocks = {.directory = directory_ / "blocks",
                       .log = directory_ / "log",
                       .segment_bytes = segment_bytes_}};
  }
  std::unique_ptr<IncomingSnapshot> open() {
    auto incoming = IncomingSnapshot::open(options());
    EXPECT_TRUE(incoming) << incoming.error().message;
    return *std::move(incoming);
  }
  void add_rows(IncomingSnapshot& incoming) {
    ASSERT_TRUE(incoming.begin());
    for (const pb::RowPage& page : pages_of(*source_)) ASSERT_TRUE(incoming.add(page));
  }
  std::vector<pb::BlockRef> missing(IncomingSnapshot& incoming, const StateMachine& current) {
    auto missing = incoming.missing(current.rows().get(), std::nullopt, 1000);
    EXPECT_TRUE(missing) << missing.error().message;
    EXPECT_FALSE(missing->next);
    return std::move(missing->blocks);
  }
  Bytes bytes_of(const pb::BlockRef& reference) const {
    return source_->block(digest_of(reference))->bytes;
  }
  LogBase base() const { return {source_->applied().index, source_->applied().term, 77}; }
  std::unique_ptr<StateMachine> installed(std::shared_ptr<const Payloads> payloads) {
    return open_state(directory_ / "incoming",
                      std::make_shared<WithArrived>(directory_ / "blocks", std::move(payloads)));
  }
  bool has_home(const StateMachine& state, const Bytes& bytes) const {
    const Digest digest = digest_of(reference_of(bytes));
    const auto rows = state.rows();
    return *rows->get(bytes_key(digest)) || *rows->get(place_key(digest));
  }
  size_t segments() const { return list_directory(directory_ / "blocks")->size(); }
  // What came is the source's, and reads whole.
  void expect_installed(std::shared_ptr<const Payloads> payloads) {
    const auto rows = look_at_rows(directory_ / "incoming");
    ASSERT_TRUE(rows) << rows.error().message;
    EXPECT_EQ(rows->index, base().index);
    EXPECT_EQ(rows->installed, base());
    const auto state = installed(std::move(payloads));
    EXPECT_EQ(state->state_digest()->digest(), source_->state_digest()->digest());
    const auto verified = state->verify_blocks(std::nullopt, {std::chrono::minutes(1)});
    ASSERT_TRUE(verified) << verified.error().message;
    EXPECT_EQ(verified->blocks(), kBlocks);
    EXPECT_EQ(verified->damaged_size(), 0);
    EXPECT_EQ(*state->segments(), *count_uses(*state->rows()));
  }

  const TemporaryDirectory directory_;
  uint64_t segment_bytes_ = 16 << 20;
  const std::shared_ptr<TestPayloads> source_payloads_ = std::make_shared<TestPayloads>();
  const std::shared_ptr<TestPayloads> own_payloads_ = std::make_shared<TestPayloads>(4);
  const std::unique_ptr<StateMachine> source_ = open_state(directory_ / "source", source_payloads_);
  const std::unique_ptr<StateMachine> own_ = open_state(directory_ / "own", own_payloads_);
};

TEST_F(SnapshotTest, gives_the_same_state_to_a_node_that_has_nothing) {
  {
    const auto incoming = open();
    add_rows(*incoming);
    const auto blocks = missing(*incoming, *own_);
    ASSERT_EQ(blocks.size(), kBlocks);
    for (const pb::BlockRef& reference : blocks)
      ASSERT_TRUE(incoming->add_block(reference, bytes_of(reference)));
    EXPECT_TRUE(missing(*incoming, *own_).empty());
    ASSERT_TRUE(incoming->finish(base()));
  }
  expect_installed(own_payloads_);
}

TEST_F(SnapshotTest, takes_over_what_the_node_has) {
  write(*own_, *own_payloads_, 8);
  ASSERT_TRUE(own_->move_blocks(1, 1));  // one of them into the database
  {
    const auto incoming = open();
    add_rows(*incoming);
    const auto needed = incoming->needed(own_->rows().get(), std::nullopt);
    ASSERT_TRUE(needed) << needed.error().message;
    EXPECT_FALSE(needed->next);
    const auto blocks = missing(*incoming, *own_);
    ASSERT_EQ(blocks.size(), kBlocks - 8);
    uint64_t bytes = 0;
    for (const pb::BlockRef& reference : blocks) bytes += arriving_bytes(reference);
    // The one in the database is copied.
    EXPECT_GE(needed->bytes, bytes + (8 << 10));
    EXPECT_LE(needed->bytes, bytes + arriving_bytes(reference_of(block(kBlocks - 1))) + (8 << 10));
    EXPECT_EQ(incoming->needed(own_->rows().get(), std::nullopt)->bytes, bytes)
        << "it has been copied";
    for (const pb::BlockRef& reference : blocks)
      ASSERT_TRUE(incoming->add_block(reference, bytes_of(reference)));
    ASSERT_TRUE(incoming->finish(base()));
  }
  expect_installed(own_payloads_);
}

// Nobody has it any more. Until those entries are applied here too, it is damaged.
TEST_F(SnapshotTest, a_block_that_later_entries_have_deleted_need_not_come) {
  const pb::BlockRef gone = reference_of(block(3));
  {
    const auto incoming = open();
    add_rows(*incoming);
    for (const pb::BlockRef& reference : missing(*incoming, *own_)) {
      if (reference.digest() == gone.digest()) continue;
      ASSERT_TRUE(incoming->add_block(reference, bytes_of(reference)));
    }
    ASSERT_TRUE(incoming->finish(base()));
  }
  const auto state = installed(own_payloads_);
  EXPECT_EQ(state->block(digest_of(gone)).error().code, Errc::kCorrupt);
  const uint64_t next = base().index.value() + 1;
  const std::vector<Entry> entries{commit_entry(next, 2000, {delete_key("3")}),
                                   commit_entry(next + 1, 2 * kHour, {expire(10)})};
  ASSERT_TRUE(source_->apply(source_payloads_->commit(entries)));
  ASSERT_TRUE(state->apply(own_payloads_->commit(entries)));
  EXPECT_EQ(state->state_digest()->digest(), source_->state_digest()->digest());
  EXPECT_EQ(state->block(digest_of(gone)).error().code, Errc::kNotFound);
  const auto verified = state->verify_blocks(std::nullopt, {std::chrono::minutes(1)});
  ASSERT_TRUE(verified);
  EXPECT_EQ(verified->blocks(), kBlocks - 1);
  EXPECT_EQ(verified->damaged_size(), 0);
  EXPECT_EQ(*state->segments(), *count_uses(*state->rows()));
}

TEST_F(SnapshotTest, blocks_that_newer_rows_do_not_name_make_room) {
  {
    const auto incoming = open();
    add_rows(*incoming);
    for (const pb::BlockRef& reference : missing(*incoming, *own_))
      ASSERT_TRUE(incoming->add_block(reference, bytes_of(reference)));
    const uint64_t next = base().index.value() + 1;
    ASSERT_TRUE(source_->apply(source_payloads_->commit(
        std::vector<Entry>{commit_entry(next, 2000, {delete_key("3")}),
                           commit_entry(next + 1, 2 * kHour, {expire(10)})})));
    add_rows(*incoming);
    ASSERT_TRUE(incoming->drop_unnamed());
    EXPECT_TRUE(missing(*incoming, *own_).empty());
    ASSERT_TRUE(incoming->finish(base()));
  }
  const auto state = installed(own_payloads_);
  EXPECT_FALSE(has_home(*state, block(3)));
  EXPECT_EQ(state->state_digest()->digest(), source_->state_digest()->digest());
}

// Rows in use of which those that say where blocks lie are damaged.
class DamagedRows final : public RowView {
 public:
  Result<std::optional<std::string>> get(const std::string&) const override {
    return fail(Errc::kCorrupt, "a rotten table");
  }
  std::unique_ptr<RowCursor> scan(const std::string&, const std::string&) const override {
    return nullptr;
  }
  Result<std::optional<std::string>> last_key(const std::string&,
                                              const std::string&) const override {
    return fail(Errc::kCorrupt, "a rotten table");
  }
};

TEST_F(SnapshotTest, what_damaged_rows_in_use_do_not_tell_is_fetched) {
  const auto incoming = open();
  add_rows(*incoming);
  const DamagedRows current;
  const auto missing = incoming->missing(&current, std::nullopt, 2 * kBlocks);
  ASSERT_TRUE(missing) << missing.error().message;
  EXPECT_EQ(missing->blocks.size(), kBlocks);
}

TEST_F(SnapshotTest, what_has_arrived_survives_a_new_attempt_and_is_dropped_if_nothing_names_it) {
  std::vector<pb::BlockRef> blocks;
  {
    const auto incoming = open();
    add_rows(*incoming);
    blocks = missing(*incoming, *own_);
    for (size_t i = 0; i < 15; ++i)
      ASSERT_TRUE(incoming->add_block(blocks[i], bytes_of(blocks[i])));
    ASSERT_TRUE(incoming->add_block(reference_of(block(99)), block(99)));
    ASSERT_TRUE(incoming->flush());
  }
  {
    const auto incoming = open();
    add_rows(*incoming);
    const auto rest = missing(*incoming, *own_);
    ASSERT_EQ(rest.size(), kBlocks - 15);
    for (const pb::BlockRef& reference : rest)
      ASSERT_TRUE(incoming->add_block(reference, bytes_of(reference)));
    ASSERT_TRUE(incoming->finish(base()));
  }
  expect_installed(own_payloads_);
  const auto state = installed(own_payloads_);
  EXPECT_FALSE(has_home(*state, block(99)));
}

TEST_F(SnapshotTest, rows_of_a_format_that_nobody_knows_are_refused) {
  const auto incoming = open();
  ASSERT_TRUE(incoming->begin());
  std::vector<pb::RowPage> pages = pages_of(*source_);
  pb::RowPage::Row& row = *pages[0].mutable_rows(0);
  ASSERT_EQ(row.key(), kind_key(RowKind::kApplied));
  pb::AppliedRow applied;
  ASSERT_TRUE(applied.ParseFromString(row.value()));
  applied.set_format(99);
  row.set_value(applied.SerializeAsString());
  for (const pb::RowPage& page : pages) ASSERT_TRUE(incoming->add(page));
  for (const pb::BlockRef& reference : missing(*incoming, *own_))
    ASSERT_TRUE(incoming->add_block(reference, bytes_of(reference)));
  EXPECT_EQ(incoming->finish(base()).error().code, Errc::kRefused);
}

// Whoever opens the rows reads numbers out of their keys, and stops if there are none.
TEST_F(SnapshotTest, rows_whose_keys_nobody_writes_are_refused) {
  const auto key = [](RowKind kind, const std::string& behind) { return kind_key(kind) + behind; };
  const std::string digest(Digest::kSize, 'd');
  const std::string time(8, 't');
  const std::string keys[] = {key(RowKind::kApplied, "x"),
                              key(RowKind::kSessions, "x"),
                              key(RowKind::kKey, ""),
                              key(RowKind::kModel, ""),
                              key(RowKind::kVersion, "m" + time),
                              key(RowKind::kVersion, std::string("m\0t", 3)),
                              key(RowKind::kVersion, '\0' + time),
                              key(RowKind::kAlias, "m"),
                              key(RowKind::kAlias, std::string("m\0", 2)),
                              key(RowKind::kSession, "s"),
                              key(RowKind::kSessionTime, time),
                              key(RowKind::kBlock, digest + "x"),
                              key(RowKind::kLease, time),
                              key(RowKind::kLease, digest),
                              key(RowKind::kConfiguration, "x")};
  const auto incoming = open();
  for (const std::string& one : keys) {
    ASSERT_TRUE(incoming->begin());
    pb::RowPage page;
    page.add_rows()->set_key(one);
    const Status added = incoming->add(page);
    EXPECT_TRUE(!added && added.error().code == Errc::kCorrupt) << static_cast<int>(one[0]);
  }
}

// What a state machine counts from then on would be wrong.
TEST_F(SnapshotTest, rows_that_are_not_as_many_as_they_say_are_refused) {
  const auto finished_with = [&](auto&& change) {
    std::vector<pb::RowPage> pages = pages_of(*source_);
    pb::RowPage::Row& row = *pages[0].mutable_rows(0);
    pb::AppliedRow applied;
    EXPECT_TRUE(applied.ParseFromString(row.value()));
    change(applied);
    row.set_value(applied.SerializeAsString());
    const auto incoming = open();
    EXPECT_TRUE(incoming->begin());
    for (const pb::RowPage& page : pages) EXPECT_TRUE(incoming->add(page));
    for (const pb::BlockRef& reference : missing(*incoming, *own_))
      EXPECT_TRUE(incoming->add_block(reference, bytes_of(reference)));
    const Status finished = incoming->finish(base());
    return finished ? Errc{} : finished.error().code;
  };
  EXPECT_EQ(finished_with([](auto&) {}), Errc{});
  EXPECT_EQ(finished_with([](auto& row) { row.set_blocks(row.blocks() - 1); }), Errc::kCorrupt);
  EXPECT_EQ(finished_with([](auto& row) { row.set_block_bytes(0); }), Errc::kCorrupt);
}

TEST_F(SnapshotTest, sessions_that_are_not_as_many_as_they_say_are_refused) {
  for (const std::string& value : {std::string("7"), big_endian(7)}) {
    const auto incoming = open();
    ASSERT_TRUE(incoming->begin());
    pb::RowPage first = pages_of(*source_)[0];
    first.mutable_rows()->DeleteSubrange(1, first.rows_size() - 1);
    pb::RowPage::Row& sessions = *first.add_rows();
    sessions.set_key(kind_key(RowKind::kSessions));
    sessions.set_value(value);
    std::vector<pb::RowPage> pages = pages_of(*source_);
    pages[0].mutable_rows()->DeleteSubrange(0, 1);
    ASSERT_TRUE(incoming->add(first));
    for (const pb::RowPage& page : pages) ASSERT_TRUE(incoming->add(page));
    const Status finished = incoming->finish(base());
    EXPECT_TRUE(!finished && finished.error().code == Errc::kCorrupt);
  }
}

TEST_F(SnapshotTest, what_does_not_belong_into_it_is_refused) {
  const auto incoming = open();
  add_rows(*incoming);
  const auto blocks = missing(*incoming, *own_);
  EXPECT_EQ(incoming->add_block(blocks[0], bytes_of(blocks[1])).error().code, Errc::kCorrupt);
  EXPECT_EQ(missing(*incoming, *own_).size(), kBlocks);
  pb::RowPage own_row;
  own_row.add_rows()->set_key(kind_key(RowKind::kPlace) + "x");
  EXPECT_EQ(incoming->add(own_row).error().code, Errc::kCorrupt) << "of one node alone";
  EXPECT_EQ(incoming->add(pages_of(*source_)[0]).error().code, Errc::kCorrupt) << "out of order";
  LogBase other = base();
  other.index = other.index + 1;
  EXPECT_EQ(incoming->finish(other).error().code, Errc::kCorrupt);
}

}  // namespace
}  // namespace ballast::storage
