// Blocks that come with a snapshot: segments of their own, which a log takes over as homes.
#include "storage/snapshot/arriving_blocks.h"

#include <filesystem>
#include <map>
#include <thread>

#include "proto/files/files.h"
#include "storage/kv/row_keys.h"
#include "storage/log/inspect_log.h"
#include "storage/log/segment_file.h"
#include "storage/snapshot/incoming.h"
#include "storage/snapshot/own_blocks.h"
#include "storage/snapshot/unsynced_segments.h"
#include "tests/unit/storage/log_testing.h"
#include "tests/unit/storage/state_testing.h"

namespace ballast::storage {
namespace {

class Arriving : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(make_directories(log_)); }

  ArrivingOptions options() const {
    return {.directory = directory_ / "arriving", .log = log_, .segment_bytes = 1 << 20};
  }
  std::unique_ptr<ArrivingBlocks> open() {
    auto blocks = open_arriving_blocks(options());
    EXPECT_TRUE(blocks) << blocks.error().message;
    return *std::move(blocks);
  }
  Place add(ArrivingBlocks& blocks, const Bytes& bytes) {
    const auto place = blocks.add(reference_of(bytes), bytes);
    EXPECT_TRUE(place) << place.error().message;
    return place.value_or(Place());
  }
  // A log that has them as homes.
  std::unique_ptr<LogStore> take_over() {
    const Status taken = take_over_segments(directory_ / "arriving", log_);
    EXPECT_TRUE(taken) << taken.error().message;
    return open_log(small_log(log_));
  }
  static void expect_there(const LogStore& log, Place place, const Bytes& bytes) {
    for (const ReadFrom from : {ReadFrom::kCache, ReadFrom::kDisk}) {
      const auto read = log.payloads()->read(place, static_cast<uint32_t>(bytes.size()),
                                             crc32c(bytes.span()), from);
      ASSERT_TRUE(read) << read.error().message;
      EXPECT_TRUE(*read == bytes);
    }
  }
  std::string path_of(uint64_t segment, const std::string& in) const {
    return in + "/" + segment_name(segment);
  }

  const TemporaryDirectory directory_;
  const std::string log_ = directory_ / "log";
};

TEST_F(Arriving, blocks_of_any_length_are_read_where_a_log_has_them) {
  std::map<Place, Bytes> blocks;
  {
    const auto arriving = open();
    uint64_t number = 0;
    for (const size_t size : {1, 100, 4095, 4096, 4097, 70'000, 300'000, 1'000'000, 12'289})
      for (int i = 0; i < 3; ++i) {
        const Bytes bytes = block_bytes(++number, size);
        blocks.emplace(add(*arriving, bytes), bytes);
      }
    ASSERT_TRUE(arriving->sync());
    ASSERT_TRUE(arriving->seal());
  }
  const auto log = take_over();
  ASSERT_EQ(blocks.size(), 27u) << "no two at one place";
  EXPECT_GE(log->homes().size(), 4u);
  for (const auto& [place, bytes] : blocks) expect_there(*log, place, bytes);
}

TEST_F(Arriving, threads_add_side_by_side_and_the_heads_tell_what_lies_where) {
  constexpr size_t kThreads = 4, kEach = 30;
  std::vector<std::map<std::string, Place>> places(kThreads);
  {
    const auto arriving = open();
    std::vector<std::jthread> threads;
    for (size_t t = 0; t < kThreads; ++t)
      threads.emplace_back([&, t] {
        for (size_t i = 0; i < kEach; ++i) {
          const Bytes bytes = block_bytes(1 + t * kEach + i, 50'000 + 1000 * i);
          places[t].emplace(reference_of(bytes).digest(), add(*arriving, bytes));
        }
      });
    threads.clear();
    ASSERT_TRUE(arriving->seal());
  }
  const auto log = take_over();
  const auto rows = open_database({.directory = directory_ / "rows"});
  ASSERT_TRUE(rows);
  const Status noted = note_places(log_, GroupId(1), **rows);
  ASSERT_TRUE(noted) << noted.error().message;
  for (const auto& its : places)
    for (const auto& [digest, place] : its) {
      const auto row = (*rows)->row<pb::PlaceRow>(place_key(*Digest::from_raw(digest)));
      ASSERT_TRUE(row && *row);
      EXPECT_EQ((*row)->segment(), place.segment);
      EXPECT_EQ((*row)->unit(), place.unit);
    }
}

TEST_F(Arriving, a_log_goes_on_with_its_own_numbers_and_uses_their_files_again) {
  const Bytes bytes = block_bytes(1, 500'000);
  append_and_wait(*open_log(small_log(log_)), {make_entry(1, 1, 100)});
  Place place;
  {
    const auto arriving = open();
    place = add(*arriving, bytes);
    EXPECT_GE(place.segment, kFirstArrivedSegment);
    ASSERT_TRUE(arriving->seal());
  }
  {
    const auto log = take_over();
    EXPECT_EQ(log->last(), Index(1));
    ASSERT_EQ(log->homes().size(), 1u);
    append_and_wait(*log, {make_entry(2, 1, 100)});
    EXPECT_LT(log->place_of(Index(2)).segment, kFirstArrivedSegment);
  }
  const auto log = open_log(small_log(log_));
  EXPECT_EQ(log->last(), Index(2));
  expect_there(*log, place, bytes);
  log->retire_home(place.segment);
  EXPECT_EQ(log->spare_bytes(), std::filesystem::file_size(path_of(place.segment, log_)));
  ASSERT_TRUE(log->trim_spares(0));
  EXPECT_FALSE(path_exists(path_of(place.segment, log_)));
}

// The log of a node that begins with a backup is made beside them.
TEST_F(Arriving, a_new_log_may_find_them_there) {
  const Bytes bytes = block_bytes(1, 500'000);
  const auto arriving = open();
  const Place place = add(*arriving, bytes);
  ASSERT_TRUE(arriving->seal());
  const auto log = take_over();
  ASSERT_TRUE(log);
  EXPECT_EQ(log->last(), Index());
  expect_there(*log, place, bytes);
}

TEST_F(Arriving, segments_get_numbers_that_nobody_has) {
  const Place first = add(*open(), block_bytes(1, 1000));
  const Place second = add(*open(), block_bytes(2, 1000));
  EXPECT_EQ(second.segment, first.segment + 1) << "what a crash has cut off is not gone on with";
  (void)take_over();
  EXPECT_EQ(add(*open(), block_bytes(3, 1000)).segment, second.segment + 1);
}

TEST_F(Arriving, segments_that_nothing_names_are_removed_and_those_that_are_missing_noticed) {
  const Place first = add(*open(), block_bytes(1, 1000));
  const Place second = add(*open(), block_bytes(2, 1000));
  const auto arriving = open();
  const Place third = add(*arriving, block_bytes(3, 1000));
  ASSERT_TRUE(arriving->keep({second.segment}));
  EXPECT_FALSE(path_exists(path_of(first.segment, directory_ / "arriving")));
  EXPECT_TRUE(path_exists(path_of(second.segment, directory_ / "arriving")));
  EXPECT_TRUE(path_exists(path_of(third.segment, directory_ / "arriving")))
      << "it may be filled yet";
  EXPECT_EQ(arriving->keep({first.segment}).error().code, Errc::kCorrupt);
}

TEST_F(Arriving, the_last_segment_takes_no_more_than_it_holds) {
  const auto arriving = open();
  const Place place = add(*arriving, block_bytes(1, 1000));
  ASSERT_TRUE(arriving->seal());
  const uint64_t bytes =
      std::filesystem::file_size(path_of(place.segment, directory_ / "arriving"));
  EXPECT_EQ(bytes, place.offset() + kDirectAlignment);
  (void)take_over();
  const auto report = inspect_log(log_, GroupId(1));
  ASSERT_TRUE(report);
  EXPECT_EQ((*report)->damage, "");
  const SegmentReport& last = (*report)->segments.back();
  EXPECT_TRUE(last.home);
  EXPECT_EQ(last.records, 1u);
  EXPECT_EQ(last.payload_bytes, 1000u);
}

// A crash may come between the two steps of cutting it off.
TEST_F(Arriving, a_segment_that_is_longer_than_it_says_is_whole) {
  const auto arriving = open();
  const Bytes bytes = block_bytes(1, 1000);
  const Place place = add(*arriving, bytes);
  ASSERT_TRUE(arriving->seal());
  std::filesystem::resize_file(path_of(place.segment, directory_ / "arriving"), 1 << 20);
  const auto log = take_over();
  expect_there(*log, place, bytes);
  const auto report = inspect_log(log_, GroupId(1));
  ASSERT_TRUE(report);
  EXPECT_EQ((*report)->damage, "");
}

// Wherever it ends, in the padding too: files of segments end where pages do.
TEST_F(Arriving, a_segment_that_is_cut_off_within_its_last_page_is_damaged) {
  const auto arriving = open();
  const Bytes bytes = block_bytes(1, 5000);
  const Place place = add(*arriving, bytes);
  ASSERT_TRUE(arriving->seal());
  std::filesystem::resize_file(path_of(place.segment, directory_ / "arriving"),
                               place.offset() + 5001);
  const auto log = take_over();
  for (const ReadFrom from : {ReadFrom::kCache, ReadFrom::kDisk}) {
    const auto read = log->payloads()->read(place, 5000, crc32c(bytes.span()), from);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, Errc::kCorrupt) << read.error().message;
    EXPECT_NE(read.error().message.find("is cut off"), std::string::npos);
  }
}

TEST_F(Arriving, a_damaged_block_is_written_over_in_its_place) {
  const Bytes bytes = block_bytes(1, 10'000);
  const auto arriving = open();
  const Place place = add(*arriving, bytes);
  ASSERT_TRUE(arriving->seal());
  const auto log = take_over();
  flip_bit(path_of(place.segment, log_), place.offset() + 5000);
  const uint32_t crc = crc32c(bytes.span());
  EXPECT_EQ(log->payloads()->read(place, 10'000, crc, ReadFrom::kDisk).error().code,
            Errc::kCorrupt);
  const Status restored = log->payloads()->restore(place, bytes);
  ASSERT_TRUE(restored) << restored.error().message;
  expect_there(*log, place, bytes);
}

// Of which nobody knows yet whether they are durable.
class UnsafeBlocks final : public ArrivingBlocks {
 public:
  explicit UnsafeBlocks(std::function<Status()> sync) : sync_(std::move(sync)) {}
  Result<Place> add(const pb::BlockRef&, const Bytes&) override {
    return Place{kFirstArrivedSegment, ++units_};
  }
  Status sync() override { return sync_(); }
  Status keep(const std::set<uint64_t>&) override { return {}; }
  Status seal() override { return {}; }

 private:
  std::function<Status()> sync_;
  uint32_t units_ = 0;
};

// What was written beside a flush that failed may be in the segment that it failed to write.
TEST_F(Arriving, a_row_says_where_a_block_lies_only_when_it_is_durable_there) {
  auto rows = open_database({.directory = directory_ / "rows"});
  ASSERT_TRUE(rows);
  RowStore& store = **rows;
  std::function<Status()> sync = [] { return Status(); };
  const auto incoming = IncomingSnapshot::over(
      *std::move(rows), std::make_unique<UnsafeBlocks>([&] { return sync(); }));
  const auto placed = [&](const Bytes& bytes) {
    return store.get(place_key(digest_of(reference_of(bytes))))->has_value();
  };
  const auto add = [&](const Bytes& bytes) {
    EXPECT_TRUE(incoming->add_block(reference_of(bytes), bytes));
  };
  const Bytes one = block_bytes(1, 1000), two = block_bytes(2, 1000), three = block_bytes(3, 1000);
  add(one);
  EXPECT_FALSE(placed(one));
  ASSERT_TRUE(incoming->flush());
  EXPECT_TRUE(placed(one));
  add(two);
  sync = [&] {
    add(three);
    return Status(fail(Errc::kIo, "the disk is gone"));
  };
  EXPECT_EQ(incoming->flush().error().code, Errc::kIo);
  sync = [] { return Status(); };
  EXPECT_EQ(incoming->flush().error().code, Errc::kIo) << "never tried again";
  EXPECT_FALSE(placed(two));
  EXPECT_FALSE(placed(three));
}

TEST(UnsyncedSegments, are_synced_once_more_if_a_write_ends_behind_a_sync) {
  UnsyncedSegments unsynced;
  const auto full = std::make_shared<SegmentFile>();
  std::vector<const SegmentFile*> synced;
  const auto note = [&](const SegmentFile& segment) -> Status {
    synced.push_back(&segment);
    return {};
  };
  unsynced.written(full);
  ASSERT_TRUE(unsynced.sync([&](const SegmentFile& segment) {
    unsynced.written(full);  // another thread's, which was under way
    return note(segment);
  }));
  ASSERT_TRUE(unsynced.sync(note));
  EXPECT_EQ(synced, (std::vector<const SegmentFile*>{full.get(), full.get()}));
  ASSERT_TRUE(unsynced.sync(note));
  EXPECT_EQ(synced.size(), 2u) << "nothing was written since";
}

TEST(ArrivingBytes, are_a_page_for_the_head_and_whole_pages_for_the_bytes) {
  EXPECT_EQ(arriving_bytes(reference_of(block_bytes(1, 1))), 8u << 10);
  EXPECT_EQ(arriving_bytes(reference_of(block_bytes(1, 4096))), 8u << 10);
  EXPECT_EQ(arriving_bytes(reference_of(block_bytes(1, 4097))), 12u << 10);
}

TEST_F(Arriving, a_segment_that_may_not_be_made_is_no_space) {
  ArrivingOptions options = this->options();
  options.may_take = [](uint64_t) { return Status(fail(Errc::kNoSpace, "the log needs it")); };
  const auto blocks = open_arriving_blocks(options);
  ASSERT_TRUE(blocks);
  const Bytes bytes = block_bytes(1, 1000);
  EXPECT_EQ((*blocks)->add(reference_of(bytes), bytes).error().code, Errc::kNoSpace);
}

}  // namespace
}  // namespace ballast::storage
