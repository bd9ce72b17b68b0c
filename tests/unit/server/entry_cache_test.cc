#include "server/node/entry_cache.h"

#include <gtest/gtest.h>

namespace ballast::server {
namespace {

Entry entry(uint64_t term, uint64_t index, size_t bytes = 1000) {
  return {Term(term), Index(index), EntryKind::kBlock, {}, Bytes(MutableBytes(bytes))};
}

TEST(EntryCache, finds_what_it_took) {
  EntryCache cache(1 << 20);
  const std::vector<Entry> entries = {entry(1, 1), entry(1, 2), entry(2, 3)};
  cache.append(entries);
  EXPECT_EQ(cache.find(Index(2))->term, Term(1));
  EXPECT_EQ(cache.find(Index(4)), nullptr);
  EXPECT_EQ(cache.find(Index(0)), nullptr);
}

TEST(EntryCache, never_drops_what_the_disk_does_not_have) {
  EntryCache cache(3000);
  for (uint64_t i = 1; i <= 10; ++i) cache.append(std::vector{entry(1, i)});
  EXPECT_NE(cache.find(Index(1)), nullptr);
  cache.set_durable(Index(9));
  EXPECT_EQ(cache.find(Index(1)), nullptr);
  EXPECT_NE(cache.find(Index(10)), nullptr);
}

TEST(EntryCache, counts_what_is_not_durable_yet) {
  EntryCache cache(1 << 20);
  cache.append(std::vector{entry(1, 1), entry(1, 2)});
  const size_t both = cache.pending_bytes();
  cache.set_durable(Index(1));
  EXPECT_EQ(cache.pending_bytes() * 2, both);
  cache.set_durable(Index(2));
  EXPECT_EQ(cache.pending_bytes(), 0u);
}

TEST(EntryCache, a_newer_leaders_entries_replace_the_suffix) {
  EntryCache cache(1 << 20);
  cache.append(std::vector{entry(1, 1), entry(1, 2), entry(1, 3)});
  cache.set_durable(Index(3));
  cache.append(std::vector{entry(2, 2)});
  EXPECT_EQ(cache.find(Index(2))->term, Term(2));
  EXPECT_EQ(cache.find(Index(3)), nullptr);
  EXPECT_GT(cache.pending_bytes(), 1000u);
  cache.set_durable(Index(2));
  EXPECT_EQ(cache.pending_bytes(), 0u);
}

}  // namespace
}  // namespace ballast::server
