// RocksDB on a disk that is full.
#include <chrono>
#include <thread>

#include "tests/unit/storage/small_disk.h"
#include "tests/unit/storage/state_testing.h"

namespace ballast::storage {
namespace {

TEST(StateSpace, that_is_lacking_stops_writes_and_not_reads_until_it_is_back) {
  if (const std::string problem = SmallDisk::problem(); !problem.empty()) GTEST_SKIP() << problem;
  const TemporaryDirectory directory;
  SmallDisk disk(directory.path(), 32 << 20);
  std::vector<Entry> next;
  {
    StateTester tester(directory / "state");
    // More than the odd page that RocksDB may yet give back.
    std::vector<pb::Operation> puts{put_key("a", tensor_of({}))};
    for (int i = 0; i < 300; ++i)
      puts.push_back(put_key(std::to_string(i) + std::string(1000, 'k'), tensor_of({})));
    tester.commit(puts);
    disk.fill(0);
    const Status flushed = tester.machine().flush();
    ASSERT_FALSE(flushed);
    EXPECT_EQ(flushed.error().code, Errc::kNoSpace) << flushed.error().message;
    next.push_back(commit_entry(2, tester.now, {put_key("b", tensor_of({}))}));
    const auto refused = tester.try_apply(next);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::kNoSpace) << refused.error().message;
    EXPECT_EQ(tester.machine().applied().index, Index(1)) << "nothing of it was applied";
    EXPECT_TRUE(tester.machine().key("a"));
    EXPECT_EQ(tester.machine().key("b").error().code, Errc::kNotFound);

    disk.give_back();
    const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    auto applied = tester.try_apply(next);
    while (!applied && std::chrono::steady_clock::now() < patience) {
      ASSERT_EQ(applied.error().code, Errc::kNoSpace) << applied.error().message;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      applied = tester.try_apply(next);
    }
    ASSERT_TRUE(applied) << applied.error().message;
    EXPECT_EQ(applied->front().code(), 0u) << applied->front().message();
    // What failed before is written first; only then a flush may say that it is done.
    Status whole = tester.machine().flush();
    while (!whole && std::chrono::steady_clock::now() < patience) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      whole = tester.machine().flush();
    }
    EXPECT_TRUE(whole) << whole.error().message;
  }
  const auto machine = open_state(directory / "state");
  EXPECT_EQ(machine->applied().index, Index(2));
  for (const char* key : {"a", "b"}) {
    const auto row = machine->key(key);
    EXPECT_TRUE(row) << row.error().to_string();
  }
}

}  // namespace
}  // namespace ballast::storage
