// What is applied may be lost up to the last flush; the log replays it, to the same rows.
#include <filesystem>
#include <map>
#include <random>

#include "storage/kv/apply.h"
#include "storage/kv/database.h"
#include "storage/kv/row_keys.h"
#include "tests/unit/storage/state_testing.h"

namespace ballast::storage {
namespace {

// A workload of all kinds of entries, the same for the same seed.
std::vector<Entry> workload(uint64_t seed, uint64_t count) {
  const TemporaryDirectory directory;
  StateTester t(directory.path());
  std::mt19937_64 random(seed);
  const auto pick = [&](uint64_t n) { return random() % n; };
  std::vector<pb::BlockRef> blocks;
  std::vector<pb::BlockRef> manifests;
  while (t.entries().size() < count) {
    t.now += pick(10 * kMinute);
    const std::string key = fmt::format("key/{}", pick(20));
    const std::string session(16, static_cast<char>('a' + pick(3)));
    switch (pick(9)) {
      case 0:
      case 1:
        blocks.push_back(t.stage(block_bytes(pick(40), 100 + pick(40'000)), pick(kHour)));
        break;
      case 2:
      case 3:
        if (!blocks.empty())
          t.commit_as(session, t.entries().size(),
                      {put_key(key, tensor_of({blocks[pick(blocks.size())],
                                               blocks[pick(blocks.size())]}))});
        break;
      case 4: t.commit({delete_key(key)}); break;
      case 5:
        if (!blocks.empty())
          manifests.push_back(
              t.stage_manifest("m", {tensor_of({blocks[pick(blocks.size())]}, "w")}));
        break;
      case 6:
        if (!manifests.empty()) t.commit({publish("m", manifests[pick(manifests.size())])});
        break;
      case 7: t.commit({set_alias("m", "prod", pick(8)), delete_version("m", pick(8))}); break;
      default: t.commit({expire(5), delete_prefix(fmt::format("key/{}", pick(20)))}); break;
    }
  }
  return t.entries();
}

std::string apply_in_batches(StateMachine& machine, TestPayloads& payloads,
                             std::span<const Entry> entries, size_t batch,
                             std::vector<std::string>& results) {
  for (size_t at = 0; at < entries.size(); at += batch) {
    const auto applied =
        machine.apply(payloads.commit(entries.subspan(at, std::min(batch, entries.size() - at))));
    EXPECT_TRUE(applied) << applied.error().to_string();
    for (const auto& result : *applied) results.push_back(result.SerializeAsString());
  }
  return machine.state_digest()->digest();
}

// RocksDB removes files that nothing needs any more in the background; those may be left out.
std::map<std::string, uintmax_t> listing(const std::string& directory) {
  std::map<std::string, uintmax_t> files;
  for (const auto& file : std::filesystem::directory_iterator(directory)) {
    std::error_code gone;
    files[file.path().filename()] = std::filesystem::file_size(file.path(), gone);
  }
  return files;
}

// RocksDB works in the background: a copy is what a crash leaves only if nothing changed while it
// was made.
void copy_files(const std::string& from, const std::string& to) {
  for (bool whole = false; !whole;) {
    const auto before = listing(from);
    for (const auto& [name, size] : listing(to)) std::filesystem::remove(to + "/" + name);
    for (const auto& [name, size] : before) {
      std::error_code gone;
      std::filesystem::copy_file(from + "/" + name, to + "/" + name, gone);
    }
    whole = listing(from) == before;
  }
}

TEST(StateDeterminism, batch_boundaries_make_no_difference) {
  const auto payloads = std::make_shared<TestPayloads>();
  const std::vector<Entry> entries = workload(3, 400);
  std::string digest;
  std::vector<std::string> results;
  for (const size_t batch : {1, 7, 64, 400}) {
    const TemporaryDirectory directory;
    const auto machine = open_state(directory.path(), payloads);
    std::vector<std::string> own;
    const std::string own_digest = apply_in_batches(*machine, *payloads, entries, batch, own);
    if (digest.empty()) digest = own_digest;
    if (results.empty()) results = own;
    EXPECT_EQ(own_digest, digest) << "batches of " << batch;
    EXPECT_EQ(own, results) << "batches of " << batch;
    EXPECT_EQ(machine->state_digest()->applied_index(), entries.size());
  }
}

TEST(StateDeterminism, reopening_makes_no_difference) {
  const auto payloads = std::make_shared<TestPayloads>();
  const std::vector<Entry> entries = workload(4, 120);
  std::vector<std::string> results[2];
  std::string digests[2];
  for (const bool reopen : {false, true}) {
    const TemporaryDirectory directory;
    auto machine = open_state(directory.path(), payloads);
    for (size_t at = 0; at < entries.size(); at += 10) {
      digests[reopen] = apply_in_batches(*machine, *payloads, std::span(entries).subspan(at, 10),
                                         10, results[reopen]);
      if (reopen) {
        machine.reset();
        machine = open_state(directory.path(), payloads);
      }
    }
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(digests[0], digests[1]);
}

TEST(StateCrash, replay_gives_the_same_rows) {
  const auto payloads = std::make_shared<TestPayloads>();
  const std::vector<Entry> entries = workload(5, 300);
  std::vector<std::string> expected;
  std::string digest;
  {
    const TemporaryDirectory directory;
    digest =
        apply_in_batches(*open_state(directory.path(), payloads), *payloads, entries, 9, expected);
  }
  for (const size_t flushed : {size_t{0}, size_t{100}, size_t{299}}) {
    const TemporaryDirectory directory;
    const TemporaryDirectory crashed;
    std::vector<std::string> ignored;
    const auto victim = open_state(directory.path(), payloads);
    apply_in_batches(*victim, *payloads, std::span(entries).first(flushed), 9, ignored);
    if (flushed > 0) ASSERT_TRUE(victim->flush());
    apply_in_batches(*victim, *payloads, std::span(entries).subspan(flushed), 9, ignored);
    // The files as they are while the memtable holds the rest: what a crash would leave.
    copy_files(directory.path(), crashed.path());
    const auto machine = open_state(crashed.path(), payloads);
    const uint64_t applied = machine->applied().index.value();
    EXPECT_EQ(applied, flushed) << "what was not flushed is gone, and the position with it";
    std::vector<std::string> results;
    EXPECT_EQ(
        apply_in_batches(*machine, *payloads, std::span(entries).subspan(applied), 50, results),
        digest);
    EXPECT_TRUE(std::equal(results.begin(), results.end(),
                           expected.begin() + static_cast<ptrdiff_t>(applied)));
  }
}

TEST(StateOpen, rows_of_an_unknown_format_are_refused) {
  const TemporaryDirectory directory;
  {
    auto database = open_database({directory.path(), 1 << 20, 1 << 20, nullptr});
    ASSERT_TRUE(database);
    pb::AppliedRow row;
    row.set_format(kRowFormat + 1);
    const std::string key = kind_key(RowKind::kApplied);
    const std::string value = row.SerializeAsString();
    ASSERT_TRUE((*database)->write(std::vector<RowChange>{{key, value}}));
  }
  const auto machine = StateMachine::open({directory.path(), 1 << 20, 1 << 20, nullptr},
                                          std::make_shared<TestPayloads>());
  ASSERT_FALSE(machine);
  EXPECT_EQ(machine.error().code, Errc::kRefused);
}

TEST(StateOpen, a_directory_that_cannot_be_made_is_an_error) {
  const auto machine = StateMachine::open({"/proc/none/below", 1 << 20, 1 << 20, nullptr},
                                          std::make_shared<TestPayloads>());
  ASSERT_FALSE(machine);
  EXPECT_EQ(machine.error().code, Errc::kIo);
}

}  // namespace
}  // namespace ballast::storage
