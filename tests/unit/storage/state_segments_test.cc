// The counters of what is live in each log segment, and moving it out of one.
#include <atomic>
#include <map>
#include <random>
#include <sstream>
#include <thread>

#include "storage/kv/apply.h"
#include "storage/kv/row_keys.h"
#include "storage/kv/segment_use.h"
#include "tests/unit/storage/golden.h"
#include "tests/unit/storage/state_testing.h"

namespace ballast::storage {
namespace {

using Uses = std::vector<SegmentUse>;

// What the counters should be, and that each block has one home: from all rows, each time anew.
Uses recount(const RowView& rows) {
  std::map<std::string, uint64_t> lengths;
  std::map<std::string, int> homes;
  std::map<uint64_t, SegmentUse> uses;
  for (const auto all = rows.scan("", "\xFF"); all->valid(); all->next()) {
    const auto kind = static_cast<RowKind>(static_cast<unsigned char>(all->key()[0]));
    const std::string digest(all->key().substr(1));
    if (kind == RowKind::kBlock) lengths[digest] = parse_row<pb::BlockRow>(all->value())->length();
    if (kind == RowKind::kBytes) ++homes[digest];
    if (kind != RowKind::kPlace) continue;
    ++homes[digest];
    const uint64_t segment = parse_row<pb::PlaceRow>(all->value())->segment();
    uses[segment].sequence = segment;
    uses[segment].bytes += lengths.at(digest);
    ++uses[segment].blocks;
  }
  EXPECT_EQ(homes.size(), lengths.size());
  for (const auto& [digest, count] : homes) EXPECT_EQ(count, 1);
  Uses sorted;
  for (const auto& [segment, use] : uses) sorted.push_back(use);
  return sorted;
}

class Segments : public testing::Test {
 protected:
  static constexpr uint64_t kEntries = 4;  // in a segment

  Uses uses() {
    const auto found = t.machine().segments();
    EXPECT_TRUE(found) << found.error().to_string();
    return *found;
  }
  uint64_t move(uint64_t segment, uint64_t bytes_max) {
    const auto moved = t.machine().move_blocks(segment, bytes_max);
    EXPECT_TRUE(moved) << moved.error().to_string();
    return moved ? *moved : 0;
  }

  TemporaryDirectory directory_;
  StateTester t{directory_.path(), std::make_shared<TestPayloads>(kEntries)};
};

TEST_F(Segments, are_counted) {
  EXPECT_EQ(uses(), Uses());
  for (uint64_t i = 1; i <= 6; ++i) t.stage(block_bytes(i, 100 * i), i == 2 ? 0 : kMinute);
  EXPECT_EQ(uses(), (Uses{{1, 1000, 4}, {2, 1100, 2}}));
  t.stage(block_bytes(1, 100));
  EXPECT_EQ(uses(), (Uses{{1, 1000, 4}, {2, 1100, 2}})) << "it is there already";
  t.now += kHour / 2;
  EXPECT_APPLIED(t.commit({expire(10)}));
  EXPECT_EQ(uses(), (Uses{{1, 100, 1}})) << "the first was extended";
  t.reopen();
  EXPECT_EQ(uses(), (Uses{{1, 100, 1}}));
}

TEST_F(Segments, what_a_refused_commit_did_is_not_counted) {
  const auto old = t.stage(block_bytes(1, 100), 0);
  EXPECT_APPLIED(t.commit({put_key("k", tensor_of({old}))}));
  const auto before = uses();
  expect_refused(t.commit({delete_key("k"), delete_key("none")}), Errc::kNotFound, "none");
  EXPECT_EQ(uses(), before);
  EXPECT_APPLIED(t.commit({delete_key("k")}));
  EXPECT_EQ(uses(), Uses());
}

TEST_F(Segments, blocks_move_until_none_is_left) {
  std::vector<Bytes> blocks;
  for (uint64_t i = 1; i <= 4; ++i) blocks.push_back(block_bytes(i, 100'000));
  for (const Bytes& bytes : blocks) t.stage(bytes);
  t.stage(block_bytes(5, 70));
  const std::string digest = t.digest();
  EXPECT_EQ(move(1, 1), 100'000u) << "at least one";
  EXPECT_EQ(uses(), (Uses{{1, 300'000, 3}, {2, 70, 1}}));
  EXPECT_EQ(move(1, 250'000), 200'000u) << "as many as fit";
  EXPECT_EQ(move(1, 250'000), 100'000u);
  EXPECT_EQ(move(1, 250'000), 0u);
  EXPECT_EQ(move(7, 1), 0u) << "nothing lies there";
  EXPECT_EQ(uses(), (Uses{{2, 70, 1}}));
  EXPECT_EQ(t.digest(), digest) << "only this node is concerned";
  ASSERT_TRUE(t.machine().flush());
  t.payloads().remove_segment(1);
  t.reopen();
  for (const Bytes& bytes : blocks) t.expect_whole(bytes);
  EXPECT_EQ(t.damaged(), 0);
  EXPECT_EQ(recount(t.rows()), uses());
}

TEST_F(Segments, what_changes_between_moves_is_seen) {
  const Bytes again = block_bytes(2, 2000);
  t.stage(block_bytes(1, 1000), 0);
  t.stage(again, 0);
  t.stage(block_bytes(3, 3000));
  EXPECT_GT(move(1, 1), 0u);  // all three have been found now
  t.stage(block_bytes(4, 4000));
  EXPECT_APPLIED(t.commit({expire(10)}));
  t.stage(again);
  ASSERT_EQ(
      t.rows().row<pb::PlaceRow>(place_key(digest_of(reference_of(again))))->value().segment(), 2u);
  while (move(1, 1) > 0) {
  }
  EXPECT_EQ(uses(), (Uses{{2, 2000, 1}}));
  t.payloads().remove_segment(1);
  for (const Bytes& bytes : {again, block_bytes(3, 3000), block_bytes(4, 4000)})
    t.expect_whole(bytes);
  EXPECT_EQ(recount(t.rows()), uses());
}

// Rows that count the walks over all places.
class CountedRows final : public LentRows {
 public:
  using LentRows::LentRows;
  std::unique_ptr<RowCursor> scan(const std::string& lower,
                                  const std::string& upper) const override {
    if (lower == kind_key(RowKind::kPlace)) ++walks;
    return LentRows::scan(lower, upper);
  }
  std::unique_ptr<RowView> snapshot() const override {
    return std::make_unique<CountedRows>(*this);
  }
  static inline int walks = 0;
};

TEST(SegmentWalks, find_the_blocks_of_several_segments_at_once) {
  TemporaryDirectory directory;
  auto store = open_database({.directory = directory.path()});
  ASSERT_TRUE(store);
  const auto payloads = std::make_shared<TestPayloads>(2);
  const auto machine = *StateMachine::over(std::make_unique<CountedRows>(**store), payloads);
  std::vector<Entry> entries;
  for (uint64_t i = 1; i <= 6; ++i)
    entries.push_back(block_entry(i, block_bytes(i, 1000), 1000, kHour));
  ASSERT_TRUE(machine->apply(payloads->commit(entries)));
  CountedRows::walks = 0;
  const std::vector<uint64_t> segments{2, 3};
  ASSERT_TRUE(machine->find_blocks(segments));
  ASSERT_TRUE(machine->find_blocks(segments)) << "it is known already";
  for (const uint64_t segment : segments)
    for (const uint64_t moved : {2000, 0})
      EXPECT_EQ(machine->move_blocks(segment, 10'000).value_or(7), moved);
  EXPECT_EQ(CountedRows::walks, 1);
  EXPECT_EQ(machine->move_blocks(1, 10'000).value_or(7), 2000u) << "nobody looked for those";
  EXPECT_EQ(CountedRows::walks, 2);
  EXPECT_EQ(machine->segments()->size(), 0u);
}

TEST_F(Segments, what_cannot_be_read_stays_and_stops_no_other) {
  std::vector<Bytes> blocks;
  for (uint64_t i = 1; i <= 4; ++i) blocks.push_back(block_bytes(i, 1000));
  for (const Bytes& bytes : blocks) t.stage(bytes);
  t.payloads().damage(t.entries()[1]);
  EXPECT_EQ(move(1, 10'000), 3000u);
  for (int attempt = 0; attempt < 2; ++attempt) {
    const auto stuck = t.machine().move_blocks(1, 10'000);
    ASSERT_FALSE(stuck);
    EXPECT_EQ(stuck.error().code, Errc::kCorrupt);
    EXPECT_NE(stuck.error().message.find("segment 1 must stay"), std::string::npos);
    EXPECT_NE(stuck.error().message.find(digest_of(reference_of(blocks[1])).brief()),
              std::string::npos);
  }
  EXPECT_EQ(uses(), (Uses{{1, 1000, 1}}));
  EXPECT_EQ(t.damaged(), 1);
  t.payloads().damage(t.entries()[1]);  // repaired
  EXPECT_EQ(move(1, 10'000), 1000u);
  EXPECT_EQ(move(1, 10'000), 0u);
  EXPECT_EQ(t.damaged(), 0);
}

TEST_F(Segments, a_block_that_the_disk_refuses_to_read_is_a_damaged_one) {
  for (uint64_t i = 1; i <= 3; ++i) t.stage(block_bytes(i, 1000));
  t.payloads().failure = Error{Errc::kIo, "a bad sector"};
  EXPECT_EQ(move(1, 10'000), 2000u);
  EXPECT_FALSE(t.machine().move_blocks(1, 10'000));
  EXPECT_EQ(move(1, 10'000), 1000u) << "it was not forgotten";
  EXPECT_EQ(move(1, 10'000), 0u);
}

// ---- readers meanwhile ----

TEST_F(Segments, a_reader_whose_segment_goes_looks_again) {
  const Bytes bytes = block_bytes(1, 5000);
  t.stage(bytes);
  const auto move_away = [&] {
    EXPECT_EQ(move(1, 10'000), 5000u);
    t.payloads().remove_segment(1);
  };
  t.payloads().before_read = move_away;
  t.expect_whole(bytes);

  t.stage(block_bytes(2, 6000));
  t.payloads().before_read = [&] {
    EXPECT_EQ(move(1, 10'000), 6000u);
    t.payloads().remove_segment(1);
  };
  EXPECT_EQ(t.damaged(), 0);
}

TEST_F(Segments, a_reader_whose_block_goes_with_its_segment_finds_none) {
  const auto gone = [&] {
    EXPECT_APPLIED(t.commit({expire(1)}));
    t.payloads().remove_segment(1);
  };
  const auto reference = t.stage(block_bytes(1, 5000), 0);
  t.payloads().before_read = gone;
  const auto block = t.machine().block(digest_of(reference));
  ASSERT_FALSE(block);
  EXPECT_EQ(block.error().code, Errc::kNotFound);

  t.stage(block_bytes(2, 5000), 0);
  t.payloads().before_read = gone;
  EXPECT_EQ(t.damaged(), 0) << "what isn't stored is not damaged";
}

TEST_F(Segments, readers_never_miss_a_block_that_moves) {
  std::vector<Bytes> blocks;
  for (uint64_t i = 0; i < 40; ++i) blocks.push_back(block_bytes(i, 3000));
  for (const Bytes& bytes : blocks) t.stage(bytes);
  std::atomic<bool> stop = false;
  std::atomic<int> wrong = 0;
  std::atomic<uint64_t> reads = 0;
  std::vector<std::thread> readers;
  for (uint64_t seed = 0; seed < 2; ++seed)
    readers.emplace_back([&, seed] {
      std::mt19937_64 random(seed);
      while (!stop) {
        const Bytes& bytes = blocks[random() % blocks.size()];
        const auto block = t.machine().block(digest_of(reference_of(bytes)));
        if (!block || !(block->bytes == bytes)) ++wrong;
        ++reads;
      }
    });
  for (uint64_t segment = 1; segment <= blocks.size() / kEntries; ++segment) {
    for (const uint64_t before = reads; reads < before + 20;) std::this_thread::yield();
    while (move(segment, 3000) > 0) {
    }
    t.payloads().remove_segment(segment);
  }
  stop = true;
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(uses(), Uses());
}

// ---- against a recount ----

class SegmentsAtRandom : public testing::TestWithParam<uint64_t> {};

TEST_P(SegmentsAtRandom, the_counters_are_a_recount_and_moves_concern_no_other_node) {
  std::mt19937_64 random(GetParam());
  const auto pick = [&](uint64_t n) { return random() % n; };
  const TemporaryDirectory directory;
  StateTester t(directory.path(), std::make_shared<TestPayloads>(1 + pick(30)));
  std::vector<pb::BlockRef> blocks;
  std::vector<pb::BlockRef> manifests;
  const auto some = [&] { return blocks[pick(blocks.size())]; };
  uint64_t moved = 0;
  for (int step = 0; step < 400; ++step) {
    t.now += pick(5 * kMinute);
    const std::string key(1, static_cast<char>('a' + pick(6)));
    switch (blocks.empty() ? 0 : pick(11)) {
      case 0:
      case 1:
      case 2:
        blocks.push_back(t.stage(block_bytes(pick(30), 1 + pick(9) * 1000), pick(30 * kMinute)));
        break;
      case 3: t.commit({put_key(key, tensor_of({some(), some()}))}); break;
      case 4: t.commit({delete_key(key)}); break;
      case 5: manifests.push_back(t.stage_manifest("m", {tensor_of({some()}, "w")})); break;
      case 6:
        if (!manifests.empty()) t.commit({publish("m", manifests[pick(manifests.size())])});
        break;
      case 7: t.commit({delete_version("m", 1 + pick(8)), delete_key(key)}); break;
      case 8: t.commit({expire(static_cast<uint32_t>(pick(20)))}); break;
      case 9:
        if (pick(5) == 0) t.reopen();
        break;
      default:
        if (const auto uses = t.machine().segments(); !uses->empty()) {
          const auto bytes =
              t.machine().move_blocks((*uses)[pick(uses->size())].sequence, pick(20'000));
          ASSERT_TRUE(bytes) << bytes.error().to_string();
          EXPECT_GT(*bytes, 0u);
          moved += *bytes;
        }
    }
    ASSERT_EQ(*t.machine().segments(), recount(t.rows())) << "step " << step;
  }
  EXPECT_GT(moved, 0u);
  const auto verified = t.machine().verify_blocks(std::nullopt, {std::chrono::hours(1)});
  EXPECT_EQ(verified->damaged_size(), 0);
  EXPECT_EQ(verified->blocks(), t.machine().applied().blocks);

  const TemporaryDirectory other_directory;
  StateTester other(other_directory.path());
  for (const Entry& entry : t.entries()) other.apply(entry);
  EXPECT_EQ(other.digest(), t.digest());
  for (size_t i = 0; i < t.results().size(); ++i)
    ASSERT_EQ(other.results()[i].SerializeAsString(), t.results()[i].SerializeAsString());
}

INSTANTIATE_TEST_SUITE_P(Seeds, SegmentsAtRandom, testing::Range<uint64_t>(1, 9));

// ---- rows of before ----

std::string bytes_of_hex(std::string_view hex) {
  std::string bytes;
  for (size_t at = 0; at + 1 < hex.size(); at += 2)
    bytes += static_cast<char>(std::stoi(std::string(hex.substr(at, 2)), nullptr, 16));
  return bytes;
}
std::string hex_of(std::string_view bytes) {
  std::string hex;
  for (const char byte : bytes) hex += fmt::format("{:02X}", static_cast<unsigned char>(byte));
  return hex;
}

TEST(SegmentsOfBefore, rows_without_counters_are_counted_once) {
  if (std::getenv("BALLAST_REWRITE") != nullptr) GTEST_SKIP();
  const TemporaryDirectory directory;
  const auto rows = open_database({directory.path(), 1 << 20, 1 << 20, nullptr});
  ASSERT_TRUE(rows);
  std::istringstream before(golden("rows/rows_v2.txt", ""));
  for (std::string key, value; before >> key && std::getline(before, value);) {
    const std::string raw_key = bytes_of_hex(key);
    const std::string raw_value = bytes_of_hex(std::string_view(value).substr(1));
    ASSERT_TRUE((*rows)->write(std::vector<RowChange>{{raw_key, raw_value}}));
  }
  const auto dump = [&] {
    std::string all;
    for (const auto row = (*rows)->scan("", "\xFF"); row->valid(); row->next())
      all += hex_of(row->key()) + " " + hex_of(row->value()) + "\n";
    return all;
  };
  for (int opening = 0; opening < 2; ++opening) {
    const auto machine =
        StateMachine::over(std::make_unique<LentRows>(**rows), std::make_shared<TestPayloads>());
    ASSERT_TRUE(machine) << machine.error().to_string();
    EXPECT_EQ((*machine)->segments()->size(), 1u);
    EXPECT_EQ(dump(), golden("rows/rows_v3.txt", ""));
  }
  // Only once: what is wrong afterwards is not counted away.
  const std::string key = segment_use_key(1);
  const std::string wrong = segment_use_value({1, 5, 1});
  ASSERT_TRUE((*rows)->write(std::vector<RowChange>{{key, wrong}}));
  const auto machine =
      StateMachine::over(std::make_unique<LentRows>(**rows), std::make_shared<TestPayloads>());
  EXPECT_EQ(*(*machine)->segments(), (Uses{{1, 5, 1}}));
}

TEST(SegmentsOfBefore, counters_that_cannot_be_are_damage) {
  EXPECT_EQ(parse_segment_use(3, std::string(15, 'x')).error().code, Errc::kCorrupt);
  EXPECT_EQ(*parse_segment_use(3, segment_use_value({3, 1 << 20, 7})), (SegmentUse{3, 1 << 20, 7}));
  EXPECT_EQ(use_without({3, 100, 2}, 101, 1).error().code, Errc::kCorrupt);
  EXPECT_EQ(use_without({3, 100, 2}, 1, 3).error().code, Errc::kCorrupt);
  EXPECT_EQ(*use_without({3, 100, 2}, 60, 1), (SegmentUse{3, 40, 1}));
}

}  // namespace
}  // namespace ballast::storage
