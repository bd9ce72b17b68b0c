// Every head of the log has a second place, and what rots in the first comes back from it: the same
// bytes, and only what is known to have been durable.
#include "tests/unit/storage/killed_log.h"

namespace ballast::storage {
namespace {

constexpr uint64_t kRecord = 8192;  // of an entry with a small payload
constexpr uint64_t kBig = 4096 + (4 << 20);

std::vector<Entry> small_entries(uint64_t first, uint64_t last) {
  std::vector<Entry> entries;
  for (uint64_t i = first; i <= last; ++i) entries.push_back(make_entry(i, 1, 100));
  return entries;
}

std::vector<std::vector<Entry>> one_by_one(const std::vector<Entry>& entries) {
  std::vector<std::vector<Entry>> batches;
  for (const Entry& entry : entries) batches.push_back({entry});
  return batches;
}

// What was closed: the hard state says that all of it was durable.
KilledLog closed_log(const std::vector<Entry>& entries) {
  return KilledLog(one_by_one(entries), /*closed=*/true);
}

std::string bare_head(const KilledLog& log, uint64_t offset, size_t header_bytes = 40) {
  return read_at(log.segment(), offset, kRecordFixedBytes + header_bytes);
}

TEST(SecondPlace, a_record_carries_the_head_of_the_one_before_it) {
  const KilledLog log({small_entries(1, 2), small_entries(3, 4)});
  EXPECT_EQ(nonzero_bytes(log.segment(), second_place_at(kHeader), 4096 - 136), 0u) << "the first";
  for (uint64_t record = 1; record < 4; ++record) {
    const uint64_t offset = kHeader + record * kRecord;
    EXPECT_EQ(read_at(log.segment(), second_place_at(offset), 136),
              bare_head(log, offset - kRecord));
  }
}

TEST(SecondPlace, the_first_record_after_a_start_carries_one_too) {
  const auto entries = small_entries(1, 3);
  KilledLog log({{entries[0], entries[1]}});
  log.append_and_kill(entries[2], false);
  EXPECT_EQ(read_at(log.segment(), second_place_at(kHeader + 2 * kRecord), 136),
            bare_head(log, kHeader + kRecord));
  flip_bit(log.segment(), kHeader + kRecord + 70);
  log.expect_restored(entries, {{1, kHeader + kRecord}});
}

TEST(SecondPlace, the_hard_state_carries_the_head_of_the_last_durable_record) {
  const KilledLog log = closed_log(small_entries(1, 3));
  for (const uint64_t slot : {0, 1})
    EXPECT_EQ(read_at(log / "hard_state", slot * kHardStateSlotBytes + 96, 136),
              bare_head(log, kHeader + 2 * kRecord));
}

TEST(SecondPlace, each_head_of_a_closed_log_is_restored_as_it_was) {
  const auto entries = small_entries(1, 4);
  const KilledLog log = closed_log(entries);
  const auto whole = log.files();
  for (uint64_t record = 0; record < 4; ++record) {
    const uint64_t offset = kHeader + record * kRecord;
    for (const std::string& junk : {std::string(4096, '\0'), garbage(4096), garbage(1)}) {
      SCOPED_TRACE(fmt::format("record {}, {} bytes", record, junk.size()));
      write_at(log.segment(), offset, junk);
      log.expect_restored(entries, {{1, offset}});
      EXPECT_TRUE(log.files() == whole);
    }
  }
}

TEST(SecondPlace, damage_at_several_places_is_healed_at_one_start) {
  std::vector<Entry> entries = small_entries(1, 5);
  for (uint64_t i = 6; i <= 10; ++i) entries.push_back(make_entry(i, 1, 4 << 20));
  entries.push_back(make_entry(11, 1, 100));
  entries.push_back(make_entry(12, 1, 100));
  const KilledLog log = closed_log(entries);  // 6 to 8 end the first segment
  const auto whole = log.files();
  const uint64_t last_of_first = kHeader + 5 * kRecord + 2 * kBig;
  const uint64_t last = kHeader + 2 * kBig + kRecord;
  const std::vector<KilledLog::Head> heads{
      {1, 0},   {1, kHeader + kRecord}, {1, kHeader + 3 * kRecord}, {1, last_of_first}, {2, 0},
      {2, last}};
  for (const auto& head : heads)
    write_at(log.segment(head.segment), head.offset, std::string(4096, '\0'));
  log.expect_restored(entries, heads);
  EXPECT_TRUE(log.files() == whole);
  log.expect_entries(entries);
}

TEST(SecondPlace, headers_of_the_first_a_middle_and_the_last_segment_are_restored) {
  std::vector<Entry> entries;
  for (uint64_t i = 1; i <= 8; ++i) entries.push_back(make_entry(i, 1, 4 << 20));
  const KilledLog log = closed_log(entries);  // three in each segment
  const auto whole = log.files();
  for (const uint64_t segment : {1, 2, 3}) {
    write_at(log.segment(segment), 0, garbage(4096));
    log.expect_restored(entries, {{segment, 0}});
    // One that was written for another segment.
    write_at(log.segment(segment), 0, read_at(log.segment(1 + segment % 3), 0, 4096));
    log.expect_restored(entries, {{segment, 0}});
  }
  for (const uint64_t segment : {1, 2, 3}) write_at(log.segment(segment), 0, garbage(4096));
  log.expect_restored(entries, {{1, 0}, {2, 0}, {3, 0}});
  EXPECT_TRUE(log.files() == whole);
}

TEST(SecondPlace, two_neighbours_that_rot_are_an_error_and_all_stays_as_it_is) {
  const KilledLog log = closed_log(small_entries(1, 6));
  // The first of these alone could be restored.
  for (const uint64_t record : {1, 3, 4})
    write_at(log.segment(), kHeader + record * kRecord, std::string(4096, '\0'));
  const auto before = log.files();
  log.expect_corrupt(1, kHeader + 3 * kRecord, "magic");
  EXPECT_TRUE(log.files() == before);
}

TEST(SecondPlace, a_file_that_is_cut_off_is_an_error) {
  const KilledLog log = closed_log(small_entries(1, 4));
  std::filesystem::resize_file(log.segment(), kHeader + 3 * kRecord);
  log.expect_corrupt(1, 0);
}

// It was not acknowledged, and its payload may be anything.
TEST(SecondPlace, a_record_of_a_torn_batch_does_not_come_back_from_its_copy) {
  const auto entries = small_entries(1, 5);
  for (uint64_t torn = 1; torn < 4; ++torn) {
    SCOPED_TRACE(torn);
    const KilledLog log({{entries[0]}, {entries.begin() + 1, entries.end()}});
    const uint64_t offset = kHeader + torn * kRecord;
    EXPECT_EQ(read_at(log.segment(), second_place_at(offset + kRecord), 136),
              bare_head(log, offset));
    write_at(log.segment(), offset, std::string(4096, '\0'));
    log.expect_entries({entries.begin(), entries.begin() + static_cast<ptrdiff_t>(torn)});
    // What carried the copy is gone, too: nothing brings it back later.
    EXPECT_EQ(nonzero_bytes(log.segment(), offset, 4096), 0u);
    EXPECT_EQ(nonzero_bytes(log.segment(), offset + kRecord, 4096), 0u);
  }
}

TEST(SecondPlace, rot_before_a_torn_batch_is_restored_and_the_batch_is_cut_off) {
  const auto entries = small_entries(1, 6);
  const KilledLog log(
      {{entries[0]}, {entries[1]}, {entries[2]}, {entries.begin() + 3, entries.end()}});
  for (const uint64_t record : {1, 4})
    write_at(log.segment(), kHeader + record * kRecord, std::string(4096, '\0'));
  log.expect_restored({entries.begin(), entries.begin() + 4}, {{1, kHeader + kRecord}});
}

// A header whose batch may have been torn is none that rotted.
TEST(SecondPlace, the_header_of_a_torn_first_batch_does_not_come_back) {
  const auto entries = small_entries(1, 2);
  const KilledLog log({entries});
  write_at(log.segment(), 0, std::string(4096, '\0'));
  log.expect_entries({});
  EXPECT_EQ(nonzero_bytes(log.segment(), 0, kHeader + 2 * kRecord - 4096), 0u);
}

TEST(SecondPlace, a_head_that_is_too_long_has_no_copy) {
  for (const bool fits : {true, false}) {
    // 4,000 bytes are free beside the fixed header alone.
    const size_t header = fits ? 4000 - kRecordFixedBytes : 4001 - kRecordFixedBytes;
    const std::vector<Entry> entries{make_entry(1, 1, 100), make_entry(2, 1, 100, header),
                                     make_entry(3, 1, 100, 0), make_entry(4, 1, 100)};
    const KilledLog log = closed_log(entries);
    flip_bit(log.segment(), kHeader + kRecord + 90);
    if (fits) {
      log.expect_restored(entries, {{1, kHeader + kRecord}});
    } else {
      log.expect_corrupt(1, kHeader + kRecord);
    }
  }
}

TEST(SecondPlace, a_long_last_head_is_not_in_the_hard_state) {
  const KilledLog log = closed_log({make_entry(1, 1, 100), make_entry(2, 1, 100, 5000)});
  flip_bit(log.segment(), kHeader + kRecord + 4096 + 90);
  log.expect_corrupt(1, kHeader + kRecord);
}

TEST(SecondPlace, a_long_head_carries_the_copy_behind_its_end) {
  const std::vector<Entry> entries{make_entry(1, 1, 100), make_entry(2, 1, 100, 5000)};
  const KilledLog log = closed_log(entries);
  EXPECT_EQ(read_at(log.segment(), second_place_at(kHeader + kRecord, 5000), 136),
            bare_head(log, kHeader));
  flip_bit(log.segment(), kHeader + 90);
  log.expect_restored(entries, {{1, kHeader}});
}

TEST(SecondPlace, a_copy_of_another_chain_is_not_taken) {
  auto batches = one_by_one(small_entries(1, 4));
  const KilledLog log(batches);
  batches[0] = {make_entry(1, 1, 200)};
  const KilledLog other(batches);
  const uint64_t carrier = kHeader + 2 * kRecord;
  write_at(log.segment(), second_place_at(carrier),
           read_at(other.segment(), second_place_at(carrier), 136));
  flip_bit(log.segment(), kHeader + kRecord + 70);
  log.expect_corrupt(1, kHeader + kRecord, "CRC32C");
}

// As one that was written before there were second places.
TEST(SecondPlace, rot_in_a_log_without_copies_is_an_error) {
  const auto entries = small_entries(1, 3);
  const KilledLog log(one_by_one(entries));
  for (uint64_t record = 1; record < 3; ++record)
    write_at(log.segment(), second_place_at(kHeader + record * kRecord), std::string(136, '\0'));
  flip_bit(log.segment(), kHeader + 70);
  log.expect_corrupt(1, kHeader, "CRC32C");
  flip_bit(log.segment(), kHeader + 70);
  log.expect_entries(entries);
}

// The record before it is no part of the log any more.
TEST(SecondPlace, the_first_record_behind_the_logs_start_is_restored) {
  std::vector<Entry> entries;
  for (uint64_t i = 1; i <= 5; ++i) entries.push_back(make_entry(i, 1, 4 << 20));
  const KilledLog log = closed_log(entries);
  {
    const auto opened = log.open();
    bool done = false;
    (*opened)->begin_behind({Index(3), Term(1), 0}, [&] { done = true; });
    poll_until(**opened, [&] { return done; });
  }
  for (const uint64_t at : {uint64_t{0}, kHeader}) {
    flip_bit(log.segment(2), at + 20);
    const auto opened = log.open();
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ((*opened)->base().index, Index(3));
    EXPECT_TRUE(read_from_base(**opened) == (std::vector<Entry>{entries[3], entries[4]}));
  }
}

}  // namespace
}  // namespace ballast::storage
