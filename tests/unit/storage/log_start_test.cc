// Where the log begins: it forgets entries segment by segment, or begins anew behind a snapshot.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <random>

#include "tests/unit/storage/log_testing.h"

namespace ballast::storage {
namespace {

constexpr size_t kMiB = 1 << 20;

std::vector<Entry> entries_of(uint64_t first, uint64_t last, uint64_t term = 1,
                              size_t payload = kMiB) {
  std::vector<Entry> entries;
  for (uint64_t index = first; index <= last; ++index)
    entries.push_back(make_entry(index, term, payload));
  return entries;
}

void begin_and_wait(LogStore& log, LogBase base) {
  bool done = false;
  log.begin_behind(base, [&] { done = true; });
  poll_until(log, [&] { return done; });
}

std::vector<uint64_t> homes(const LogStore& log) {
  std::vector<uint64_t> segments;
  for (const LogStore::Home& home : log.homes()) segments.push_back(home.segment);
  return segments;
}

std::vector<Entry> read_from(const LogStore& log, Index first) {
  auto read = log.prepare_read(first, log.last());
  BALLAST_CHECK(read.has_value(), "{}", read.error().message);
  auto entries = (*read)->entries();
  BALLAST_CHECK(entries.has_value(), "{}", entries.error().message);
  return *std::move(entries);
}

TEST(LogStart, a_log_forgets_whole_segments_and_their_payloads_stay_readable) {
  const TemporaryDirectory directory;
  const LogOptions options = small_log(directory.path());
  LogBase base;
  Place place;
  {
    const auto log = open_log(options);
    append_and_wait(*log, entries_of(1, 40));
    EXPECT_EQ(log->may_begin_behind(Index(10)), Index(0)) << "the first segment holds more";
    base = {log->may_begin_behind(Index(20)), Term(1), 0xABCD};
    ASSERT_GT(base.index, Index(10));
    ASSERT_LE(base.index, Index(20));
    place = log->place_of(Index(3));
    begin_and_wait(*log, base);
    EXPECT_EQ(log->base(), base);
    EXPECT_EQ(homes(*log), std::vector<uint64_t>{1});
    EXPECT_EQ(log->prepare_read(base.index, Index(40)).error().code, Errc::kNotFound);
    EXPECT_EQ(log->entries().front().index, base.index + 1);
    append_and_wait(*log, entries_of(41, 41));
  }
  const auto log = open_log(options);
  EXPECT_EQ(log->base(), base);
  EXPECT_EQ(homes(*log), std::vector<uint64_t>{1});
  EXPECT_TRUE(read_from(*log, base.index + 1) == entries_of(base.index.value() + 1, 41));
  const Entry third = make_entry(3, 1, kMiB);
  EXPECT_EQ(log->payloads()->read(place, kMiB, third.payload_crc, ReadFrom::kCache).value(),
            third.payload);
}

TEST(LogStart, a_home_that_is_retired_and_trimmed_is_gone_for_good) {
  const TemporaryDirectory directory;
  const LogOptions options = small_log(directory.path());
  Index base;
  {
    const auto log = open_log(options);
    append_and_wait(*log, entries_of(1, 60));
    const Place place = log->place_of(Index(3));
    const uint64_t bytes = log->disk_bytes();
    base = log->may_begin_behind(Index(60));
    begin_and_wait(*log, {base, Term(1), 0});
    EXPECT_EQ(homes(*log), (std::vector<uint64_t>{1, 2, 3}));
    log->retire_home(2);
    log->retire_home(1);
    EXPECT_EQ(homes(*log), std::vector<uint64_t>{3});
    EXPECT_EQ(log->spare_bytes(), 2 * kSmallSegment);
    EXPECT_EQ(log->disk_bytes(), bytes);
    ASSERT_TRUE(log->trim_spares(0));
    EXPECT_EQ(log->disk_bytes(), bytes - 2 * kSmallSegment);
    const uint32_t crc = make_entry(3, 1, kMiB).payload_crc;
    EXPECT_FALSE(log->payloads()->read(place, kMiB, crc, ReadFrom::kCache));
  }
  const auto log = open_log(options);
  EXPECT_EQ(homes(*log), std::vector<uint64_t>{3});
  EXPECT_TRUE(read_from(*log, base + 1) == entries_of(base.value() + 1, 60));
}

TEST(LogStart, it_is_no_place_to_begin_where_a_later_segment_replaces_what_is_before) {
  const TemporaryDirectory directory;
  const LogOptions options = small_log(directory.path());
  const auto log = open_log(options);
  append_and_wait(*log, entries_of(1, 20));
  const Index first_end = log->may_begin_behind(Index(20));
  // The second segment began behind first_end; what replaces its entry before lies in it too.
  append_and_wait(*log, entries_of(first_end.value() - 1, 60, 2));
  const Index place = log->may_begin_behind(Index(first_end.value() + 5));
  EXPECT_EQ(place, Index(0));
  const Index later = log->may_begin_behind(Index(60));
  ASSERT_GT(later, first_end);
  begin_and_wait(*log, {later, Term(2), 0});
  EXPECT_TRUE(read_from(*log, later + 1) == entries_of(later.value() + 1, 60, 2));
}

TEST(LogStart, appends_go_on_while_it_is_written) {
  const TemporaryDirectory directory;
  const LogOptions options = small_log(directory.path());
  {
    const auto log = open_log(options);
    append_and_wait(*log, entries_of(1, 40));
    const Index base = log->may_begin_behind(Index(40));
    std::string order;
    log->append(HardState{Term(3), NodeId(1)}, entries_of(41, 44), [&] { order += 'a'; });
    log->begin_behind({base, Term(1), 5}, [&] { order += 'b'; });
    log->append(HardState{Term(4), NodeId(2)}, entries_of(45, 50, 4), [&] { order += 'c'; });
    poll_until(*log, [&] { return order.size() == 3; });
    EXPECT_EQ(order, "abc");
    EXPECT_EQ(log->base().index, base);
    EXPECT_EQ(log->last(), Index(50));
  }
  const auto log = open_log(options);
  EXPECT_EQ(log->hard_state(), (HardState{Term(4), NodeId(2)}));
  EXPECT_EQ(log->base().chain, 5u);
  EXPECT_TRUE(read_from(*log, Index(45)) == entries_of(45, 50, 4));
}

TEST(LogStart, behind_a_snapshot_the_log_begins_anew_and_keeps_its_homes) {
  const TemporaryDirectory directory;
  LogOptions options = small_log(directory.path());
  Place place;
  {
    const auto log = open_log(options);
    append_and_wait(*log, entries_of(1, 20), HardState{Term(9), NodeId(3)});
    place = log->place_of(Index(20));
  }
  options.installed = LogBase{Index(1000), Term(7), 99};
  for (int start = 0; start < 2; ++start) {
    const auto log = open_log(options);
    EXPECT_EQ(log->base(), *options.installed);
    EXPECT_EQ(log->hard_state(), (HardState{Term(9), NodeId(3)}));
    EXPECT_EQ(homes(*log), (std::vector<uint64_t>{1, 2}));
    EXPECT_EQ(log->last(), Index(start == 0 ? 1000 : 1003)) << "nothing is dropped twice";
    if (start == 0) append_and_wait(*log, entries_of(1001, 1003, 8));
    EXPECT_TRUE(read_from(*log, Index(1001)) == entries_of(1001, 1003, 8));
    const Entry entry = make_entry(20, 1, kMiB);
    EXPECT_EQ(log->payloads()->read(place, kMiB, entry.payload_crc, ReadFrom::kCache).value(),
              entry.payload);
  }
}

// A founder that begins with a backup has never been in a term: the core must not find an entry of
// a later one in its log.
TEST(LogStart, a_new_log_behind_a_snapshot_is_in_its_term_and_has_not_voted) {
  const TemporaryDirectory directory;
  LogOptions options = small_log(directory.path());
  options.installed = LogBase{Index(1000), Term(7), 99};
  for (int start = 0; start < 2; ++start) {
    const auto log = open_log(options);
    EXPECT_EQ(log->base(), *options.installed);
    EXPECT_EQ(log->hard_state(), HardState{.term = Term(7)});
    EXPECT_EQ(log->last(), Index(1000));
  }
}

TEST(LogStart, a_log_that_holds_the_snapshots_place_goes_on) {
  const TemporaryDirectory directory;
  LogOptions options = small_log(directory.path());
  append_and_wait(*open_log(options), entries_of(1, 20));
  options.installed = LogBase{Index(15), Term(1), 99};
  EXPECT_EQ(open_log(options)->base(), LogBase());
  EXPECT_TRUE(read_all(*open_log(options)) == entries_of(1, 20));
  options.installed->term = Term(2);  // of another history
  EXPECT_EQ(open_log(options)->base(), *options.installed);
}

TEST(LogStart, a_missing_segment_behind_the_start_is_damage) {
  const TemporaryDirectory directory;
  const LogOptions options = small_log(directory.path());
  {
    const auto log = open_log(options);
    append_and_wait(*log, entries_of(1, 40));
    begin_and_wait(*log, {log->may_begin_behind(Index(20)), Term(1), 0});
  }
  std::filesystem::remove(directory / segment_name(2));
  const auto log = open_segment_log(options);
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().code, Errc::kCorrupt);
  EXPECT_NE(log.error().message.find("0002.log' is missing"), std::string::npos);
}

// Appends, replaced suffixes, starts and reopenings in any order, against a map.
class LogStartModel : public testing::TestWithParam<unsigned> {};

TEST_P(LogStartModel, holds_what_it_should) {
  const TemporaryDirectory directory;
  const LogOptions options = small_log(directory.path());
  std::mt19937 random(GetParam());
  const auto below = [&](uint64_t bound) { return random() % bound; };
  auto log = open_log(options);
  std::map<uint64_t, Entry> model;
  uint64_t last = 0;
  uint64_t committed = 0;
  uint64_t term = 1;
  for (int step = 0; step < 60; ++step) {
    const uint64_t choice = below(10);
    if (choice < 6) {
      uint64_t first = last + 1;
      if (below(4) == 0) {
        first = committed + 1 + below(last - committed + 1);
        ++term;
      }
      std::vector<Entry> entries;
      for (uint64_t i = 0; i <= below(12); ++i)
        entries.push_back(make_entry(first + i, term, 1 + below(2 * kMiB)));
      last = first + entries.size() - 1;
      model.erase(model.lower_bound(first), model.end());
      for (const Entry& entry : entries) model[entry.index.value()] = entry;
      append_and_wait(*log, std::move(entries));
      if (below(2) == 0) committed += below(last - committed + 1);
    } else if (choice < 9) {
      const Index base = log->may_begin_behind(Index(committed));
      if (base <= log->base().index) continue;
      ASSERT_LE(base.value(), committed);
      begin_and_wait(*log, {base, model.at(base.value()).term, 0});
      if (below(2) == 0) log->retire_home(homes(*log).front());
      if (below(4) == 0) ASSERT_TRUE(log->trim_spares(kSmallSegment));
    } else {
      log.reset();
      log = open_log(options);
      ASSERT_TRUE(log);
    }
    ASSERT_EQ(log->last(), Index(last)) << "step " << step;
    std::vector<Entry> expected;
    for (auto at = model.upper_bound(log->base().index.value()); at != model.end(); ++at)
      expected.push_back(at->second);
    ASSERT_TRUE(read_from_base(*log) == expected) << "step " << step;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, LogStartModel, testing::Range(1u, 5u));

}  // namespace
}  // namespace ballast::storage
