#include <thread>

#include "storage/log/record.h"
#include "storage/log/segment_file.h"
#include "tests/unit/storage/held_queue.h"
#include "tests/unit/storage/log_testing.h"

namespace ballast::storage {
namespace {

TEST(SegmentLog, new_log_is_empty) {
  const TemporaryDirectory directory;
  const auto log = open_log(small_log(directory.path()));
  EXPECT_EQ(log->last(), Index(0));
  EXPECT_EQ(log->durable(), Index(0));
  EXPECT_EQ(log->hard_state(), HardState());
  EXPECT_TRUE(log->entries().empty());
  EXPECT_GE(log->disk_bytes(), 0u);
  EXPECT_EQ(log->oldest_pending_us(), 0u);
}

TEST(SegmentLog, entries_of_all_sizes_survive_reopening) {
  const TemporaryDirectory directory;
  std::vector<Entry> entries;
  for (const size_t size : {0, 1, 100, 4095, 4096, 4097, 8192, 65536, 1 << 20, (1 << 20) + 1,
                            4 << 20, (4 << 20) - 1, 0, 12345})
    for (const size_t header : {0, 40, 4000, 4001, 56 << 10})
      entries.push_back(make_entry(entries.size() + 1, 3, size, header));
  {
    const auto log = open_log(small_log(directory.path()));
    append_and_wait(*log, entries, HardState{Term(3), NodeId(2)});
    EXPECT_EQ(log->durable(), Index(entries.size()));
    EXPECT_TRUE(read_all(*log) == entries);
    EXPECT_GT(log->last_append_us(), 0u);
  }
  const auto log = open_log(small_log(directory.path()));
  EXPECT_EQ(log->hard_state(), (HardState{Term(3), NodeId(2)}));
  const auto metas = log->entries();
  ASSERT_EQ(metas.size(), entries.size());
  for (size_t i = 0; i < metas.size(); ++i) EXPECT_EQ(metas[i], entries[i].meta());
  EXPECT_TRUE(read_all(*log) == entries);
  EXPECT_GE(log->disk_bytes(), 2 * kSmallSegment) << "it rolled over";
}

TEST(SegmentLog, read_payloads_are_direct) {
  const TemporaryDirectory directory;
  const auto log = open_log(small_log(directory.path()));
  append_and_wait(*log, {make_entry(1, 1, 5000), make_entry(2, 1, 8192)});
  for (const Entry& entry : read_all(*log)) EXPECT_TRUE(entry.payload.direct());
}

TEST(SegmentLog, slices_that_are_not_direct_are_copied) {
  const TemporaryDirectory directory;
  const Entry entry(Term(1), Index(1), EntryKind::kBlock, pattern(1, 40),
                    pattern(2, 20000).slice(4096, 5000));
  ASSERT_FALSE(entry.payload.direct());
  {
    const auto log = open_log(small_log(directory.path()));
    append_and_wait(*log, {entry});
  }
  const auto log = open_log(small_log(directory.path()));
  EXPECT_TRUE(read_all(*log) == std::vector<Entry>{entry});
}

TEST(SegmentLog, completions_come_in_order_and_in_poll) {
  const TemporaryDirectory directory;
  const auto log = open_log(small_log(directory.path()));
  std::vector<int> order;
  for (int i = 0; i < 100; ++i) {
    std::vector<Entry> entries;
    if (i % 10 != 7) entries.push_back(make_entry(log->last().value() + 1, 1, 100));
    const auto state = i % 13 == 0 ? std::optional(HardState{Term(1), NodeId(1)}) : std::nullopt;
    log->append(state, std::move(entries), [&order, i] { order.push_back(i); });
  }
  EXPECT_TRUE(order.empty());
  poll_until(*log, [&] { return order.size() == 100; });
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
  EXPECT_EQ(log->durable(), Index(90));
}

TEST(SegmentLog, append_of_nothing_completes) {
  const TemporaryDirectory directory;
  const auto log = open_log(small_log(directory.path()));
  append_and_wait(*log, {});
  append_and_wait(*log, {}, HardState{Term(7), NodeId(3)});
  append_and_wait(*log, {});
}

TEST(SegmentLog, appends_that_wait_form_one_batch) {
  const TemporaryDirectory directory;
  const auto log = open_log(small_log(directory.path()));
  int done = 0;
  int polls = 0;
  for (uint64_t i = 1; i <= 65; ++i)
    log->append(std::nullopt, {make_entry(i, 1, 1000)}, [&] { ++done; });
  poll_until(*log, [&] {
    ++polls;
    return done == 65;
  });
  EXPECT_LE(polls, 10) << "the first append alone, then the other 64 together";
}

TEST(SegmentLog, a_completion_may_append) {
  const TemporaryDirectory directory;
  const auto log = open_log(small_log(directory.path()));
  uint64_t index = 0;
  std::function<void()> next = [&] {
    if (index < 20) log->append(std::nullopt, {make_entry(++index, 1, 10)}, [&] { next(); });
  };
  next();
  poll_until(*log, [&] { return log->durable() == Index(20); });
}

TEST(SegmentLog, a_later_record_replaces_the_suffix) {
  const TemporaryDirectory directory;
  std::vector<Entry> expected;
  {
    const auto log = open_log(small_log(directory.path()));
    std::vector<Entry> first;
    for (uint64_t i = 1; i <= 10; ++i) first.push_back(make_entry(i, 1, 500 * i));
    append_and_wait(*log, first);
    append_and_wait(*log, {make_entry(6, 2, 9000), make_entry(7, 2, 1)});
    EXPECT_EQ(log->last(), Index(7));
    EXPECT_EQ(log->durable(), Index(7));
    append_and_wait(*log, {make_entry(7, 3, 77)});
    expected.assign(first.begin(), first.begin() + 5);
    expected.push_back(make_entry(6, 2, 9000));
    expected.push_back(make_entry(7, 3, 77));
    EXPECT_TRUE(read_all(*log) == expected);
  }
  const auto log = open_log(small_log(directory.path()));
  EXPECT_TRUE(read_all(*log) == expected);
}

TEST(SegmentLog, replacing_what_is_in_flight_is_not_durable_before_its_own_write) {
  const TemporaryDirectory directory;
  auto disk = make_uring_queue();
  ASSERT_TRUE(disk) << disk.error().to_string();
  auto held = std::make_unique<HeldQueue>(*std::move(disk));
  HeldQueue& queue = *held;
  const auto log = *open_segment_log(small_log(directory.path()), {.queue = std::move(held)});
  int done = 0;
  log->append(std::nullopt, {make_entry(1, 1, 1 << 20), make_entry(2, 1, 1 << 20)},
              [&] { ++done; });
  // The first segment may still be in the making.
  while (queue.held() == 0) wait_for_event(*log);
  log->append(std::nullopt, {make_entry(2, 2, 50)}, [&] { ++done; });
  EXPECT_EQ(log->last(), Index(2));

  queue.let_one_go();
  poll_until(*log, [&] { return done == 1; });
  EXPECT_EQ(log->durable(), Index(1)) << "entry 2 was replaced meanwhile";
  EXPECT_FALSE(log->prepare_read(Index(2), Index(2)));

  queue.let_one_go();
  poll_until(*log, [&] { return done == 2; });
  EXPECT_EQ(log->durable(), Index(2));
  EXPECT_TRUE(read_all(*log).back() == make_entry(2, 2, 50));
}

TEST(SegmentLog, payloads_are_read_by_place) {
  const TemporaryDirectory directory;
  std::vector<Entry> entries;
  for (uint64_t i = 1; i <= 30; ++i) entries.push_back(make_entry(i, 1, i * i * 1500, i * 300));
  const auto expect_all = [&](const LogStore& log) {
    const auto payloads = log.payloads();
    for (const Entry& entry : entries) {
      const auto size = static_cast<uint32_t>(entry.payload.size());
      const auto read =
          payloads->read(log.place_of(entry.index), size, entry.payload_crc, ReadFrom::kCache);
      ASSERT_TRUE(read) << read.error().to_string();
      EXPECT_EQ(*read, entry.payload);
    }
  };
  std::shared_ptr<const Payloads> payloads;
  {
    const auto log = open_log(small_log(directory.path()));
    // One by one: what was read ahead of the log's end is written afterwards.
    for (const Entry& entry : entries) {
      append_and_wait(*log, {entry});
      const auto size = static_cast<uint32_t>(entry.payload.size());
      EXPECT_TRUE(log->payloads()->read(log->place_of(entry.index), size, entry.payload_crc,
                                        ReadFrom::kCache));
    }
    expect_all(*log);
    payloads = log->payloads();
  }
  const auto log = open_log(small_log(directory.path()));
  expect_all(*log);
  const Entry& entry = entries[7];
  EXPECT_TRUE(payloads->read(log->place_of(entry.index),
                             static_cast<uint32_t>(entry.payload.size()), entry.payload_crc,
                             ReadFrom::kCache))
      << "readers may outlive the log";
}

TEST(SegmentLog, a_damaged_payload_is_an_error_that_says_where) {
  const TemporaryDirectory directory;
  const Entry entry = make_entry(1, 1, 10'000);
  const auto log = open_log(small_log(directory.path()));
  append_and_wait(*log, {entry});
  const Place place = log->place_of(Index(1));
  const auto read = [&](Place at) {
    return log->payloads()->read(at, 10'000, entry.payload_crc, ReadFrom::kCache);
  };
  write_at(directory / segment_name(1), place.offset() + 5000, "?");
  const auto damaged = read(place);
  ASSERT_FALSE(damaged);
  EXPECT_EQ(damaged.error().code, Errc::kCorrupt);
  EXPECT_NE(damaged.error().message.find(segment_name(1) + "' at offset 8192"), std::string::npos)
      << damaged.error().message;
  EXPECT_EQ(read({2, place.unit}).error().code, Errc::kCorrupt) << "no such segment";
  EXPECT_FALSE(read({1, kSmallSegment / kDirectAlignment})) << "behind the segment's end";
}

class RestoredPayloads : public testing::Test {
 protected:
  RestoredPayloads() {
    for (uint64_t i = 1; i <= 3; ++i) entries_.push_back(make_entry(i, 1, 3000 * i));
    append_and_wait(*log_, entries_);
    whole_ = read_at(path_, 0, kRead);
  }
  Place place(uint64_t index) const { return log_->place_of(Index(index)); }
  Status restore(Place place, const Bytes& payload) {
    return log_->payloads()->restore(place, payload);
  }
  bool is_readable(uint64_t index) {
    return (*log_->prepare_read(Index(index), Index(index)))->entries().has_value();
  }

  static constexpr size_t kRead = 100'000;
  const TemporaryDirectory directory_;
  const std::string path_ = directory_ / segment_name(1);
  std::unique_ptr<LogStore> log_ = open_log(small_log(directory_.path()));
  std::vector<Entry> entries_;
  std::string whole_;  // what the file holds
};

TEST_F(RestoredPayloads, are_what_they_were) {
  for (uint64_t i = 1; i <= 3; ++i) {
    write_at(path_, place(i).offset(), std::string(3000 * i, '?'));
    EXPECT_FALSE(is_readable(i));
    const Status restored = restore(place(i), entries_[i - 1].payload);
    ASSERT_TRUE(restored) << restored.error().message;
    EXPECT_TRUE(is_readable(i));
  }
  EXPECT_TRUE(read_at(path_, 0, kRead) == whole_);
  append_and_wait(*log_, {make_entry(4, 1, 100)});
  EXPECT_TRUE(is_readable(4));
}

TEST_F(RestoredPayloads, never_lie_where_others_belong) {
  const Bytes& second = entries_[1].payload;
  for (const Place wrong :
       {place(1), place(3), Place{1, 0}, Place{1, 1}, Place{1, place(2).unit - 1},
        Place{2, place(2).unit}, Place{1, kSmallSegment / kDirectAlignment},
        Place{1, kSmallSegment / kDirectAlignment - 1}}) {
    const Status restored = restore(wrong, second);
    ASSERT_FALSE(restored) << wrong.segment << ", " << wrong.unit;
    EXPECT_EQ(restored.error().code, Errc::kCorrupt) << restored.error().message;
  }
  // Its record says so no more.
  flip_bit(path_, place(2).offset() - 4096 + 60);
  EXPECT_FALSE(restore(place(2), second));
  flip_bit(path_, place(2).offset() - 4096 + 60);
  EXPECT_TRUE(read_at(path_, 0, kRead) == whole_);
}

TEST(SegmentLog, reads_of_what_is_not_durable_are_refused) {
  const TemporaryDirectory directory;
  const auto log = open_log(small_log(directory.path()));
  log->append(std::nullopt, {make_entry(1, 1, 100)}, [] {});
  for (const auto& [first, last] : {std::pair(1, 1), std::pair(0, 0), std::pair(2, 2)}) {
    const auto read = log->prepare_read(Index(first), Index(last));
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, Errc::kNotFound);
  }
  poll_until(*log, [&] { return log->durable() == Index(1); });
  EXPECT_TRUE(log->prepare_read(Index(1), Index(1)));
  EXPECT_FALSE(log->prepare_read(Index(1), Index(2)));
  EXPECT_FALSE(log->prepare_read(Index(2), Index(1)));
}

TEST(SegmentLog, reads_run_on_another_thread_and_outlive_the_log) {
  const TemporaryDirectory directory;
  std::vector<Entry> entries;
  for (uint64_t i = 1; i <= 30; ++i) entries.push_back(make_entry(i, 1, 100'000 * (i % 3)));
  auto log = open_log(small_log(directory.path()));
  append_and_wait(*log, entries);
  auto read = *log->prepare_read(Index(5), Index(20));
  int wrong = 0;
  std::thread reader([&] {
    for (int round = 0; round < 20; ++round) {
      const auto got = read->entries();
      if (!got || !(*got == std::vector<Entry>(entries.begin() + 4, entries.begin() + 20))) ++wrong;
    }
  });
  for (uint64_t i = 31; i <= 60; ++i) append_and_wait(*log, {make_entry(i, 1, 50'000)});
  log.reset();
  const auto again = open_log(small_log(directory.path()));
  reader.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(again->last(), Index(60));
}

TEST(SegmentLog, rolls_over_many_segments) {
  const TemporaryDirectory directory;
  std::vector<Entry> entries;
  for (uint64_t i = 1; i <= 60; ++i) entries.push_back(make_entry(i, i / 10 + 1, 1'000'000));
  {
    const auto log = open_log(small_log(directory.path()));
    int done = 0;
    for (const Entry& entry : entries) log->append(std::nullopt, {entry}, [&] { ++done; });
    poll_until(*log, [&] { return done == 60; });
  }
  EXPECT_TRUE(std::filesystem::exists(directory / segment_name(4)));
  for (int round = 0; round < 3; ++round) {
    const auto log = open_log(small_log(directory.path()));
    EXPECT_TRUE(read_all(*log) == entries);
    entries.push_back(make_entry(entries.size() + 1, 100, 1'500'000));
    append_and_wait(*log, {entries.back()});
  }
}

TEST(SegmentLog, closing_drops_what_was_not_written_and_nothing_else) {
  const TemporaryDirectory directory;
  uint64_t acknowledged = 0;
  {
    const auto log = open_log(small_log(directory.path()));
    for (uint64_t i = 1; i <= 40; ++i)
      log->append(std::nullopt, {make_entry(i, 1, 1 << 20)}, [&] { ++acknowledged; });
    poll_until(*log, [&] { return acknowledged >= 5; });
  }
  const auto log = open_log(small_log(directory.path()));
  EXPECT_GE(log->last().value(), acknowledged);
  for (const Entry& entry : read_all(*log))
    EXPECT_TRUE(entry == make_entry(entry.index.value(), 1, 1 << 20));
}

TEST(SegmentLog, a_second_opener_is_refused) {
  const TemporaryDirectory directory;
  const auto log = open_log(small_log(directory.path()));
  const auto second = open_segment_log(small_log(directory.path()));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::kRefused);
  EXPECT_NE(second.error().message.find(directory.path()), std::string::npos);
}

TEST(SegmentLog, another_groups_log_is_refused) {
  const TemporaryDirectory directory;
  {
    append_and_wait(*open_log(small_log(directory.path())), {make_entry(1, 1, 10)});
  }
  LogOptions options = small_log(directory.path());
  options.group = GroupId(2);
  const auto log = open_segment_log(options);
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().code, Errc::kRefused);
}

TEST(SegmentLog, segment_bytes_are_checked_and_may_change) {
  const TemporaryDirectory directory;
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{4096}, kSmallSegment + 1, uint64_t{1} << 40})
    EXPECT_FALSE(open_segment_log({directory.path(), bytes, GroupId(1)}));
  std::vector<Entry> entries;
  for (const uint64_t bytes : {kSmallSegment, 2 * kSmallSegment, kSmallSegment}) {
    const auto log = open_log({directory.path(), bytes, GroupId(1)});
    for (int i = 0; i < 20; ++i) entries.push_back(make_entry(entries.size() + 1, 1, 1 << 20));
    append_and_wait(*log, {entries.end() - 20, entries.end()});
    EXPECT_TRUE(read_all(*log) == entries);
  }
}

TEST(SegmentLog, interrupted_making_is_done_again) {
  const TemporaryDirectory directory;
  {
    open_log(small_log(directory.path()));
  }
  std::filesystem::remove(directory / "hard_state");
  EXPECT_TRUE(open_segment_log(small_log(directory.path()))) << "no entry was ever written";
}

TEST(SegmentLog, a_missing_directory_is_an_error) {
  const auto log = open_segment_log(small_log("/nonexistent/log"));
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().code, Errc::kIo);
}

}  // namespace
}  // namespace ballast::storage
