// The decision table of docs/formats/log_segment.md, row by row: a torn tail is cut off, a head
// that rots is restored, and one that rots with its copy is an error that names file and offset.
#include "tests/unit/storage/killed_log.h"

namespace ballast::storage {
namespace {

TEST(LogDamage, a_torn_last_record_is_cut_off_wherever_it_tears) {
  const std::vector<Entry> kept{make_entry(1, 1, 5000), make_entry(2, 1, 0)};
  const Entry last = make_entry(3, 1, 7000);
  KilledLog log({kept, {last}});
  const uint64_t start = kHeader + 4096 + 8192 + 4096;
  const size_t size = 4096 + 8192;
  const std::string record = read_at(log.segment(), start, size);
  for (const bool zeros : {true, false}) {
    for (size_t cut = 0; cut < 4096 + 7000; cut += 512) {
      log.forget_durable_mark();
      const std::string rest = zeros ? std::string(size - cut, '\0') : garbage(size - cut);
      write_at(log.segment(), start, record.substr(0, cut) + rest);
      SCOPED_TRACE(fmt::format("cut at {}, zeros {}", cut, zeros));
      log.expect_entries(kept);
      if (cut > 0)
        EXPECT_EQ(nonzero_bytes(log.segment(), start, 4096), 0u)
            << "its head is erased, so that it can't come back";
    }
  }
  log.forget_durable_mark();
  write_at(log.segment(), start, record);
  log.expect_entries({kept[0], kept[1], last});
}

TEST(LogDamage, a_log_goes_on_after_a_torn_tail) {
  const std::vector<Entry> kept{make_entry(1, 1, 5000)};
  KilledLog log({kept, {make_entry(2, 1, 100'000)}});
  write_at(log.segment(), kHeader + 4096 + 8192 + 50'000, garbage(10'000));
  {
    const auto opened = log.open();
    ASSERT_TRUE(opened);
    append_and_wait(**opened, {make_entry(2, 2, 10)});
  }
  log.expect_entries({kept[0], make_entry(2, 2, 10)});
}

TEST(LogDamage, a_torn_batch_may_have_lost_its_first_record_only) {
  const std::vector<Entry> kept{make_entry(1, 1, 100)};
  std::vector<Entry> batch;
  for (uint64_t i = 2; i <= 9; ++i) batch.push_back(make_entry(i, 1, 100));
  KilledLog log({kept, batch});
  const uint64_t start = kHeader + 8192;
  write_at(log.segment(), start + 8192 * 3, std::string(4096, '\0'));
  std::vector<Entry> whole = kept;
  whole.insert(whole.end(), batch.begin(), batch.begin() + 3);
  log.expect_entries(whole);
  EXPECT_EQ(nonzero_bytes(log.segment(), start + 8192 * 3, 8192 * 4 + 4096), 0u);
}

TEST(LogDamage, bit_flips_in_a_head_before_a_later_batch_are_rot) {
  std::vector<Entry> entries;
  for (uint64_t i = 1; i <= 6; ++i) entries.push_back(make_entry(i, 1, 3000, 200));
  KilledLog log({{entries[0]}, {entries[1]}, {entries[2], entries[3]}, {entries[4]}, {entries[5]}});
  const std::string whole = log.bytes();
  for (uint64_t record = 0; record < 5; ++record) {
    const uint64_t start = kHeader + record * 8192;
    // Magic, CRC, chain, term, length, entry header.
    for (const uint64_t at : {0, 5, 9, 57, 73, 150}) {
      SCOPED_TRACE(fmt::format("record {} at {}", record, at));
      log.forget_durable_mark();
      flip_bit(log.segment(), start + at);
      log.rot_copy_at(1, start + 8192, 200);
      log.expect_corrupt(1, start);
      log.rot_copy_at(1, start + 8192, 200);
      log.expect_restored(entries, {{1, start}});
      EXPECT_TRUE(log.bytes() == whole);
    }
  }
  log.expect_entries(entries);
}

// Others have the bytes; to read all of a log at each start would take long.
TEST(LogDamage, a_payload_that_was_durable_may_have_rotted_and_is_noticed_when_it_is_read) {
  std::vector<Entry> entries;
  for (uint64_t i = 1; i <= 4; ++i) entries.push_back(make_entry(i, 1, 3000));
  KilledLog log({{entries[0]}, {entries[1], entries[2]}, {entries[3]}});
  for (uint64_t record = 0; record < 3; ++record) {
    log.forget_durable_mark();
    flip_bit(log.segment(), kHeader + record * 8192 + 4096 + 2999);
    {
      const auto opened = log.open();
      ASSERT_TRUE(opened) << opened.error().message;
      EXPECT_EQ((*opened)->last(), Index(4));
      for (uint64_t i = 1; i <= 4; ++i) {
        const auto read = (*(*opened)->prepare_read(Index(i), Index(i)))->entries();
        EXPECT_EQ(read.has_value(), i != record + 1);
      }
    }
    flip_bit(log.segment(), kHeader + record * 8192 + 4096 + 2999);
  }
  log.forget_durable_mark();
  flip_bit(log.segment(), kHeader + 3 * 8192 + 4096 + 2999);
  log.expect_entries({entries[0], entries[1], entries[2]});  // it may be a torn write
}

// What a start finds of a log of four batches when record 2 is not what it should be.
void expect_rot_of_the_second(KilledLog& log, std::string_view why, bool payload_is_whole) {
  const std::string damaged = log.bytes();
  log.rot_copy_at(1, kHeader + 2 * 8192);
  log.expect_corrupt(1, kHeader + 8192, why);
  write_at(log.segment(), 0, damaged);
  const auto opened = log.open();
  ASSERT_TRUE(opened) << opened.error().message;
  for (uint64_t i = 1; i <= 4; ++i) {
    EXPECT_TRUE((*(*opened)->prepare_read(Index(i), Index(i)))->heads()) << i;
    EXPECT_EQ((*(*opened)->prepare_read(Index(i), Index(i)))->entries().has_value(),
              i != 2 || payload_is_whole);
  }
}

std::vector<std::vector<Entry>> four_batches(size_t first_payload = 3000) {
  std::vector<std::vector<Entry>> batches{{make_entry(1, 1, first_payload)}};
  for (uint64_t i = 2; i <= 4; ++i) batches.push_back({make_entry(i, 1, 3000)});
  return batches;
}

TEST(LogDamage, a_hole_is_rot) {
  KilledLog log(four_batches());
  write_at(log.segment(), kHeader + 8192, std::string(8192, '\0'));
  expect_rot_of_the_second(log, "magic", false);
}

TEST(LogDamage, a_record_that_was_written_for_another_place_is_rot) {
  KilledLog log(four_batches());
  write_at(log.segment(), kHeader + 8192, read_at(log.segment(), kHeader, 8192));
  expect_rot_of_the_second(log, "another place", false);
}

TEST(LogDamage, a_record_of_another_chain_does_not_follow) {
  KilledLog log(four_batches());
  const KilledLog stale(four_batches(2000));
  write_at(log.segment(), kHeader + 8192, read_at(stale.segment(), kHeader + 8192, 8192));
  expect_rot_of_the_second(log, "does not follow", true);
}

TEST(LogDamage, the_last_batch_is_rot_if_it_is_known_to_have_been_durable) {
  const std::vector<Entry> entries{make_entry(1, 1, 10), make_entry(2, 1, 10),
                                   make_entry(3, 1, 10)};
  KilledLog log({{entries[0]}, {entries[1]}});
  {
    const auto opened = log.open();
    append_and_wait(**opened, {entries[2]});
  }  // closing marks how far the log is durable
  const auto whole = log.files();
  flip_bit(log.segment(), kHeader + 2 * 8192 + 60);
  log.rot_copies_in_hard_state();
  log.expect_corrupt(1, kHeader + 2 * 8192, "CRC32C");
  log.rot_copies_in_hard_state();
  log.expect_restored(entries, {{1, kHeader + 2 * 8192}});
  EXPECT_TRUE(log.files() == whole);
  flip_bit(log.segment(), kHeader + 2 * 8192 + 60);
  log.forget_durable_mark();
  log.expect_entries({entries[0], entries[1]});
}

TEST(LogDamage, the_last_batch_is_rot_once_the_log_has_been_idle) {
  const std::vector<Entry> first{make_entry(1, 1, 10), make_entry(2, 1, 10)};
  const Entry last = make_entry(3, 1, 10);
  for (const bool idle : {false, true}) {
    KilledLog log({first});
    log.append_and_kill(last, idle);
    flip_bit(log.segment(), kHeader + 2 * 8192 + 60);
    if (idle) {
      log.rot_copies_in_hard_state();
      log.expect_corrupt(1, kHeader + 2 * 8192, "CRC32C");
      log.rot_copies_in_hard_state();
      log.expect_restored({first[0], first[1], last}, {{1, kHeader + 2 * 8192}});
    } else {
      log.expect_entries(first);  // the window that the format page describes
    }
  }
}

TEST(LogDamage, under_load_the_log_notes_each_second_how_far_it_is_durable) {
  const Entry second = make_entry(2, 1, 10);
  for (const bool late : {false, true}) {
    KilledLog log({{make_entry(1, 1, 10)}});
    log.append_under_load_and_kill(second, make_entry(3, 1, 10),
                                   std::chrono::milliseconds(late ? 1000 : 999));
    // Neither the head of record 2 nor one behind it is left to tell.
    for (const uint64_t record : {1, 2})
      write_at(log.segment(), kHeader + record * 8192, std::string(4096, '\0'));
    if (late) {
      log.rot_copies_in_hard_state();
      log.expect_corrupt(1, kHeader + 8192, "magic");
      log.rot_copies_in_hard_state();
      log.expect_restored({make_entry(1, 1, 10), second}, {{1, kHeader + 8192}});
    } else {
      log.expect_entries({make_entry(1, 1, 10)});
    }
  }
}

TEST(LogDamage, a_hard_state_that_was_cut_off_is_an_error) {
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{100}, 2 * kHardStateSlotBytes - 1}) {
    const KilledLog log({{make_entry(1, 1, 10)}});
    std::filesystem::resize_file(log / "hard_state", bytes);
    const auto opened = log.open();
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code, Errc::kCorrupt) << opened.error().message;
    EXPECT_NE(opened.error().message.find("let it join as a new node"), std::string::npos);
  }
}

TEST(LogDamage, a_segment_that_ends_within_its_header_is_damaged) {
  const KilledLog log({{make_entry(1, 1, 10)}});
  std::filesystem::resize_file(log.segment(), 100);
  log.expect_corrupt(1, 100, "cut off");
}

TEST(LogDamage, either_copy_of_the_hard_state_says_how_far_the_log_was_durable) {
  for (const uint64_t slot : {0, 1}) {
    KilledLog log({{make_entry(1, 1, 10)}});
    log.append_and_kill(make_entry(2, 1, 10), true);
    flip_bit(log / "hard_state", slot * kHardStateSlotBytes + 33);
    flip_bit(log.segment(), kHeader + 8192 + 60);
    log.rot_copies_in_hard_state();
    log.expect_corrupt(1, kHeader + 8192, "CRC32C");
  }
}

TEST(LogDamage, a_segment_that_is_reported_as_damaged_keeps_its_records) {
  std::vector<Entry> entries;
  for (uint64_t i = 1; i <= 4; ++i) entries.push_back(make_entry(i, 1, 4 << 20));
  KilledLog log({{entries[0]}, {entries[1]}, {entries[2]}});
  log.append_and_kill(entries[3], true);  // begins the second segment
  std::filesystem::remove(log.segment(3));
  for (const uint64_t at : {uint64_t{20}, kHeader + 20}) flip_bit(log.segment(2), at);
  for (int round = 0; round < 2; ++round) log.expect_corrupt(1, kHeader + 3 * (4096 + (4 << 20)));
  for (const uint64_t at : {uint64_t{20}, kHeader + 20}) flip_bit(log.segment(2), at);
  log.expect_entries(entries);
}

class RolledOver : public testing::Test {
 protected:
  static std::vector<std::vector<Entry>> batches() {
    std::vector<std::vector<Entry>> all;
    for (uint64_t i = 1; i <= 6; ++i) all.push_back({make_entry(i, 1, 4 << 20)});
    all.push_back({make_entry(7, 1, 10)});
    return all;  // entries 1 to 3 in the first segment, the others in the second
  }
  static std::vector<Entry> entries() {
    std::vector<Entry> all;
    for (const auto& batch : batches()) all.push_back(batch.front());
    return all;
  }
  KilledLog log_{batches()};
  static constexpr uint64_t kBig = 4096 + (4 << 20);
};

TEST_F(RolledOver, the_end_of_a_full_segment_is_rot) {
  const std::string whole = log_.bytes(1);
  flip_bit(log_.segment(1), kHeader + 2 * kBig + 50);
  log_.rot_copy_at(2, kHeader);
  log_.expect_corrupt(1, kHeader + 2 * kBig, "record header");
  log_.rot_copy_at(2, kHeader);
  log_.expect_restored(entries(), {{1, kHeader + 2 * kBig}});
  EXPECT_TRUE(log_.bytes(1) == whole);
}

// Its bytes were durable, and to read all of a log takes long: whoever needs them notices.
TEST_F(RolledOver, a_rotten_payload_of_a_full_segment_is_noticed_when_it_is_read) {
  flip_bit(log_.segment(1), kHeader + 2 * kBig + 100'000);
  const auto log = log_.open();
  ASSERT_TRUE(log) << log.error().to_string();
  EXPECT_EQ((*log)->last(), Index(7));
  EXPECT_TRUE((*(*log)->prepare_read(Index(1), Index(2)))->entries());
  const auto rotten = (*(*log)->prepare_read(Index(3), Index(3)))->entries();
  ASSERT_FALSE(rotten);
  EXPECT_EQ(rotten.error().code, Errc::kCorrupt);
  EXPECT_TRUE((*(*log)->prepare_read(Index(1), Index(7)))->heads()) << "they are whole";
  const Entry third = make_entry(3, 1, 4 << 20);
  EXPECT_FALSE((*log)->payloads()->read((*log)->place_of(Index(3)), 4 << 20, third.payload_crc,
                                        ReadFrom::kCache));
}

TEST_F(RolledOver, a_segment_header_with_later_batches_is_rot) {
  const std::string whole = log_.bytes(2);
  flip_bit(log_.segment(2), 20);
  flip_bit(log_.segment(2), kHeader + 20);
  log_.expect_corrupt(2, 0, "segment header");
  flip_bit(log_.segment(2), kHeader + 20);
  log_.expect_restored(entries(), {{2, 0}});
  EXPECT_TRUE(log_.bytes(2) == whole);
}

TEST_F(RolledOver, a_torn_first_batch_leaves_the_segment_unused) {
  // Header and record went in one write; the header is what is missing. The next segment is made
  // only after that write.
  std::filesystem::remove(log_.segment(3));
  write_at(log_.segment(2), kHeader + kBig, std::string(2 * kBig + 8192, '\0'));
  write_at(log_.segment(2), 0, std::string(4096, '\0'));
  log_.expect_entries(
      {make_entry(1, 1, 4 << 20), make_entry(2, 1, 4 << 20), make_entry(3, 1, 4 << 20)});
  EXPECT_EQ(nonzero_bytes(log_.segment(2), kHeader, 4096), 0u);
}

TEST_F(RolledOver, a_segment_without_header_before_another_is_rot) {
  {
    append_and_wait(**log_.open(), {make_entry(8, 1, 4 << 20), make_entry(9, 1, 4 << 20)});
  }
  ASSERT_TRUE(std::filesystem::exists(log_.segment(3)));
  log_.forget_durable_mark();
  const std::string whole = log_.bytes(2);
  write_at(log_.segment(2), 0, std::string(4096, '\0'));
  flip_bit(log_.segment(2), kHeader + 20);
  log_.expect_corrupt(2, 0, "magic");
  flip_bit(log_.segment(2), kHeader + 20);
  auto all = entries();
  for (const uint64_t i : {8, 9}) all.push_back(make_entry(i, 1, 4 << 20));
  log_.expect_restored(all, {{2, 0}});
  EXPECT_TRUE(log_.bytes(2) == whole);
}

TEST_F(RolledOver, a_torn_first_record_behind_its_header_is_cut_off) {
  write_at(log_.segment(2), kHeader, std::string(3 * kBig + 8192, '\0'));
  log_.expect_entries(
      {make_entry(1, 1, 4 << 20), make_entry(2, 1, 4 << 20), make_entry(3, 1, 4 << 20)});
}

TEST_F(RolledOver, a_missing_segment_is_an_error) {
  std::filesystem::remove(log_.segment(1));
  const auto log = log_.open();
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().code, Errc::kCorrupt);
  EXPECT_NE(log.error().message.find(log_.segment(1)), std::string::npos);
}

TEST_F(RolledOver, a_segment_that_was_cut_off_is_an_error) {
  std::filesystem::resize_file(log_.segment(2), kHeader + 8192);
  log_.expect_corrupt(2, 0);
}

TEST(LogDamage, one_damaged_hard_state_is_restored_from_the_other) {
  for (const uint64_t slot : {0, 1}) {
    const TemporaryDirectory directory;
    const HardState state{Term(9), NodeId(4)};
    {
      append_and_wait(*open_log(small_log(directory.path())), {}, state);
    }
    const std::string path = directory / "hard_state";
    const std::string good = read_at(path, 0, 2 * kHardStateSlotBytes);
    flip_bit(path, slot * kHardStateSlotBytes + 33);
    EXPECT_EQ(open_log(small_log(directory.path()))->hard_state(), state);
    EXPECT_EQ(read_at(path, 0, 2 * kHardStateSlotBytes), good) << "repaired";
  }
}

TEST(LogDamage, the_newer_hard_state_holds) {
  const TemporaryDirectory directory;
  const std::string path = directory / "hard_state";
  std::string old;
  {
    const auto log = open_log(small_log(directory.path()));
    append_and_wait(*log, {}, HardState{Term(1), NodeId(1)});
    old = read_at(path, 0, kHardStateSlotBytes);
    append_and_wait(*log, {}, HardState{Term(2), NodeId(0)});
  }
  write_at(path, kHardStateSlotBytes, old);
  EXPECT_EQ(open_log(small_log(directory.path()))->hard_state(), (HardState{Term(2), NodeId(0)}));
}

TEST(LogDamage, two_damaged_hard_states_are_an_error) {
  const TemporaryDirectory directory;
  {
    append_and_wait(*open_log(small_log(directory.path())), {}, HardState{Term(9), NodeId(4)});
  }
  flip_bit(directory / "hard_state", 33);
  flip_bit(directory / "hard_state", kHardStateSlotBytes + 41);
  const auto log = open_segment_log(small_log(directory.path()));
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().code, Errc::kCorrupt);
  EXPECT_NE(log.error().message.find("term and vote"), std::string::npos);
}

TEST(LogDamage, entries_without_a_hard_state_are_an_error) {
  const TemporaryDirectory directory;
  {
    append_and_wait(*open_log(small_log(directory.path())), {make_entry(1, 1, 10)});
  }
  std::filesystem::remove(directory / "hard_state");
  const auto log = open_segment_log(small_log(directory.path()));
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().code, Errc::kCorrupt);
}

TEST(LogDamage, a_read_notices_rot_and_names_the_place) {
  const TemporaryDirectory directory;
  const auto log = open_log(small_log(directory.path()));
  append_and_wait(*log, {make_entry(1, 1, 5000), make_entry(2, 1, 5000)});
  const uint64_t second = kHeader + 4096 + 8192;
  for (const uint64_t at : {10, 130, 4096 + 77}) {
    flip_bit(directory / segment_name(1), second + at);
    const auto entries = (*log->prepare_read(Index(1), Index(2)))->entries();
    ASSERT_FALSE(entries);
    EXPECT_EQ(entries.error().code, Errc::kCorrupt);
    EXPECT_NE(entries.error().message.find(fmt::format("at offset {}", second)), std::string::npos)
        << entries.error().message;
    flip_bit(directory / segment_name(1), second + at);
  }
  EXPECT_EQ(read_all(*log).size(), 2u);
}

}  // namespace
}  // namespace ballast::storage
