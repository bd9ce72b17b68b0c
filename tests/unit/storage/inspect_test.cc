// What `ballastd inspect` is told of whole and of damaged disks, and that looking changes nothing.
#include <filesystem>
#include <fstream>
#include <map>

#include "storage/kv/block_rows.h"
#include "storage/kv/inspect_state.h"
#include "storage/log/hard_state_file.h"
#include "storage/log/inspect_log.h"
#include "storage/log/record.h"
#include "storage/log/segment_file.h"
#include "tests/unit/storage/log_testing.h"
#include "tests/unit/storage/state_testing.h"

namespace ballast::storage {
namespace {

constexpr size_t kBlockBytes = 100'000;
constexpr uint64_t kFirstPayload = kSegmentHeaderBytes + 4096;

std::map<std::string, std::string> contents(const std::string& directory) {
  std::map<std::string, std::string> files;
  for (const auto& file : std::filesystem::recursive_directory_iterator(directory)) {
    if (!file.is_regular_file()) continue;
    std::ifstream in(file.path(), std::ios::binary);
    files[file.path()] = std::string(std::istreambuf_iterator<char>(in), {});
  }
  return files;
}

uint64_t rows_of(const StateReport& state, std::string_view kind) {
  const auto found = std::ranges::find(state.kinds, kind, &StateReport::Kind::name);
  return found == state.kinds.end() ? 0 : found->rows;
}

// A node's log and rows: three blocks and a key that names two of them.
class Inspect : public testing::Test {
 protected:
  Inspect() {
    std::filesystem::create_directory(log_path());
    std::vector<Entry> entries;
    std::vector<pb::BlockRef> blocks;
    for (uint64_t i = 1; i <= 3; ++i) {
      const Bytes bytes = block_bytes(i, kBlockBytes);
      entries.push_back(block_entry(i, bytes, kHour, kHour));
      blocks.push_back(reference_of(bytes));
    }
    digest_of_first_ = digest_of(blocks[0]).hex();
    entries.push_back(commit_entry(4, kHour, {put_key("k", tensor_of({blocks[0], blocks[1]}))}));
    const auto log = open_log(small_log(log_path()));
    append_and_wait(*log, entries, HardState{Term(1), NodeId(2)});
    const auto state = open_state(directory_ / "state", log->payloads());
    std::vector<Committed> all;
    for (const Entry& entry : entries)
      all.push_back(committed(entry, entry.payload.empty() ? Place() : log->place_of(entry.index)));
    EXPECT_TRUE(state->apply(all));
  }

  std::string log_path() const { return directory_ / "log"; }
  std::string segment() const { return log_path() + "/" + segment_name(1); }
  std::unique_ptr<LogReport> look_at_log() const {
    auto report = inspect_log(log_path(), GroupId(1));
    EXPECT_TRUE(report) << report.error().to_string();
    return *std::move(report);
  }
  StateReport look_at_state() const {
    const auto log = look_at_log();
    const auto report = inspect_state(directory_ / "state", log->payloads);
    EXPECT_TRUE(report) << report.error().to_string();
    return *report;
  }

  TemporaryDirectory directory_;
  std::string digest_of_first_;
};

TEST_F(Inspect, a_whole_disk) {
  const auto before = contents(directory_.path());
  const auto log = look_at_log();
  EXPECT_EQ(log->damage, "");
  EXPECT_EQ(log->hard_state.state, (HardState{Term(1), NodeId(2)}));
  EXPECT_EQ(log->hard_state.whole_copies, 2);
  EXPECT_EQ(log->last, Index(4));
  ASSERT_GE(log->segments.size(), 1u);
  const SegmentReport& first = log->segments[0];
  EXPECT_TRUE(first.begun);
  EXPECT_EQ(first.records, 4u);
  EXPECT_EQ(first.payload_bytes, 3 * kBlockBytes);
  EXPECT_EQ(first.first, Index(1));
  EXPECT_EQ(first.last, Index(4));
  EXPECT_EQ(first.damage, "");

  const StateReport state = look_at_state();
  EXPECT_EQ(state.applied.index(), 4u);
  EXPECT_EQ(state.damaged_blocks, 0u);
  EXPECT_EQ(rows_of(state, "keys"), 1u);
  EXPECT_EQ(rows_of(state, "blocks"), 3u);
  EXPECT_EQ(rows_of(state, "places"), 3u);
  EXPECT_EQ(rows_of(state, "leases"), 1u) << "of the block that nothing names";
  EXPECT_TRUE(contents(directory_.path()) == before) << "looking changed something";
}

TEST_F(Inspect, a_rotten_payload_is_damage_of_the_log_and_of_a_block) {
  flip_bit(segment(), kFirstPayload + 50'000);
  const auto log = look_at_log();
  EXPECT_EQ(log->damage, "it ends at record 0, but record 4 was durable");
  EXPECT_EQ(log->segments[0].end, kSegmentHeaderBytes);
  EXPECT_EQ(log->segments[0].damage, "payload does not match its CRC32C");
  EXPECT_EQ(log->segments[0].records, 0u);
  const StateReport state = look_at_state();
  EXPECT_EQ(state.damaged_blocks, 1u);
  EXPECT_EQ(state.damaged, std::vector{digest_of_first_});
}

TEST_F(Inspect, blocks_whose_home_is_the_database) {
  {
    const auto rows = open_database({directory_ / "state", 1 << 20, 1 << 20, nullptr});
    ASSERT_TRUE(rows);
    for (const auto& [seed, bytes] :
         {std::pair(1, block_bytes(1, kBlockBytes)), std::pair(2, block_bytes(99, kBlockBytes))}) {
      const Digest digest = digest_of(reference_of(block_bytes(seed, kBlockBytes)));
      const BytesRow row = bytes_row(digest, bytes);
      const std::string place = place_key(digest);
      ASSERT_TRUE((*rows)->write(std::vector<RowChange>{row.change(), {place, std::nullopt}}));
    }
    ASSERT_TRUE((*rows)->flush());
  }
  const StateReport state = look_at_state();
  EXPECT_EQ(rows_of(state, "bytes"), 1u) << "of those that could be read";
  EXPECT_EQ(rows_of(state, "places"), 1u);
  EXPECT_EQ(state.damaged, std::vector{digest_of(reference_of(block_bytes(2, kBlockBytes))).hex()});
}

TEST_F(Inspect, the_last_record_is_missed_because_it_was_durable) {
  const auto log = look_at_log();
  const uint64_t last = log->segments[0].end - 4096;
  write_at(segment(), last, std::string(4096, '\0'));
  for (const uint64_t slot : {0, 1})  // its copies
    flip_bit(log_path() + "/hard_state", slot * kHardStateSlotBytes + 96 + 50);
  EXPECT_EQ(look_at_log()->last, Index(3));
  EXPECT_EQ(look_at_log()->damage, "it ends at record 3, but record 4 was durable");
}

TEST_F(Inspect, heads_that_a_start_will_restore) {
  const uint64_t last = look_at_log()->segments[0].end - 4096;
  for (const uint64_t at : {uint64_t{0}, last}) write_at(segment(), at, std::string(4096, '\0'));
  const auto before = contents(directory_.path());
  const auto log = look_at_log();
  EXPECT_EQ(log->last, Index(4));
  EXPECT_EQ(log->segments[0].records, 4u);
  EXPECT_EQ(log->segments[0].damage,
            "rotten heads that the next start restores: 2, the first at offset 0");
  EXPECT_EQ(log->damage, "segment 1 has " + log->segments[0].damage);
  EXPECT_TRUE(contents(directory_.path()) == before) << "looking changed something";
  open_log(small_log(log_path()));
  EXPECT_EQ(look_at_log()->damage, "");
}

// It is a torn one: the start cuts it off.
TEST_F(Inspect, a_head_of_which_nobody_knows_that_it_was_durable_is_not_restored) {
  const uint64_t second = kFirstPayload + direct_round_up(kBlockBytes);
  MutableBytes never(2 * kHardStateSlotBytes);
  for (const uint64_t slot : {0, 1})
    encode_hard_state({.group = GroupId(1), .sequence = 1}, {},
                      never.span().subspan(slot * kHardStateSlotBytes, kHardStateSlotBytes));
  write_at(log_path() + "/hard_state", 0, as_text(never.span()));
  write_at(segment(), second, std::string(4096, '\0'));
  EXPECT_EQ(look_at_log()->last, Index(1));
  EXPECT_EQ(look_at_log()->damage, "");
}

TEST_F(Inspect, what_a_crash_leaves_behind_the_end_is_no_damage) {
  write_at(segment(), look_at_log()->segments[0].end, "half of a record");
  EXPECT_EQ(look_at_log()->damage, "");
}

TEST_F(Inspect, one_copy_of_term_and_vote) {
  flip_bit(log_path() + "/hard_state", 33);
  EXPECT_EQ(look_at_log()->hard_state.whole_copies, 1);
  EXPECT_EQ(look_at_log()->hard_state.state, (HardState{Term(1), NodeId(2)}));
  flip_bit(log_path() + "/hard_state", kHardStateSlotBytes + 33);
  EXPECT_EQ(look_at_log()->damage, "no copy of term and vote is whole");
}

TEST_F(Inspect, term_and_vote_are_cut_off) {
  std::filesystem::resize_file(log_path() + "/hard_state", kHardStateSlotBytes);
  EXPECT_EQ(look_at_log()->hard_state.whole_copies, 1);
  std::filesystem::resize_file(log_path() + "/hard_state", 20);
  EXPECT_EQ(look_at_log()->damage, "no copy of term and vote is whole");
}

TEST_F(Inspect, a_missing_segment) {
  std::filesystem::rename(segment(), log_path() + "/" + segment_name(3));
  EXPECT_NE(look_at_log()->damage.find("segment 1 is missing"), std::string::npos);
  EXPECT_EQ(look_at_state().damaged_blocks, 3u);
}

TEST(InspectNew, a_directory_that_no_node_has_used_is_whole) {
  const TemporaryDirectory directory;
  const auto log = inspect_log(directory.path(), GroupId(1));
  ASSERT_TRUE(log);
  EXPECT_FALSE((*log)->made);
  EXPECT_EQ((*log)->damage, "");
  EXPECT_TRUE(inspect_state(directory.path(), (*log)->payloads));
}

}  // namespace
}  // namespace ballast::storage
