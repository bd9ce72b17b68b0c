#include "server/raft/log.h"

#include <gtest/gtest.h>

namespace ballast::raft {
namespace {

EntryMeta entry(uint64_t index, uint64_t term, uint32_t payload = 0) {
  return {Term(term), Index(index), EntryKind::kBlock, 3, payload};
}

Log log_of_terms(const std::vector<uint64_t>& terms) {
  std::vector<EntryMeta> entries;
  for (uint64_t term : terms) entries.push_back(entry(entries.size() + 1, term));
  return Log(entries);
}

TEST(Log, meta_comes_back_as_appended) {
  Log log({});
  const EntryMeta big{Term(9), Index(1), EntryKind::kCommit, 56 * 1024, 4u << 20};
  log.append(big);
  EXPECT_EQ(log.meta_at(Index(1)), big);
  EXPECT_EQ(log.term_at(Index(1)), Term(9));
  EXPECT_EQ(log.term_at(Index(0)), Term(0));
  EXPECT_EQ(log.term_at(Index(2)), Term(0));
  EXPECT_EQ(log.bytes_between(Index(0), Index(1)), 56u * 1024 + (4u << 20));
}

TEST(Log, the_chain_stands_for_everything_before) {
  const auto chain_of = [](const std::vector<EntryMeta>& entries) {
    const Log log(entries);
    return log.chain_at(log.last());
  };
  const std::vector<EntryMeta> entries{entry(1, 1), entry(2, 1), entry(3, 2)};
  const uint32_t chain = chain_of(entries);
  EXPECT_EQ(chain_of(entries), chain);
  for (size_t i = 0; i < entries.size(); ++i) {
    auto other = entries;
    other[i].checksum ^= 1;
    EXPECT_NE(chain_of(other), chain) << i;
    other = entries;
    other[i].kind = EntryKind::kCommit;
    EXPECT_NE(chain_of(other), chain) << i;
    other = entries;
    ++other[i].payload_bytes;
    EXPECT_NE(chain_of(other), chain) << i;
  }
  EXPECT_NE(chain_of({entry(1, 1), entry(2, 1)}), chain_of({entry(1, 1), entry(2, 2)}));
}

TEST(Log, the_chain_survives_truncation_compaction_and_a_new_base) {
  Log log = log_of_terms({1, 1, 2, 2});
  const uint32_t third = log.chain_at(Index(3));
  const uint32_t fourth = log.chain_at(Index(4));
  log.truncate_behind(Index(2));
  log.append(entry(3, 2));
  EXPECT_EQ(log.chain_at(Index(3)), third);
  log.stored(0);
  (void)log.submit(1);
  log.stored(1);
  log.compact(Index(3));
  EXPECT_EQ(log.chain_at(Index(3)), third);
  log.append(entry(4, 2));
  EXPECT_EQ(log.chain_at(Index(4)), fourth);
  log.restart_behind({Index(3), Term(2)}, third);
  log.append(entry(4, 2));
  EXPECT_EQ(log.chain_at(Index(4)), fourth);
  EXPECT_EQ(Log({entry(4, 2)}, {Index(3), Term(2)}, third).chain_at(Index(4)), fourth);
}

TEST(Log, last_not_above_finds_the_end_of_a_term) {
  const Log log = log_of_terms({1, 1, 2, 2, 2, 5});
  EXPECT_EQ(log.last_not_above(Index(6), Term(9)), Index(6));
  EXPECT_EQ(log.last_not_above(Index(6), Term(4)), Index(5));
  EXPECT_EQ(log.last_not_above(Index(4), Term(2)), Index(4));
  EXPECT_EQ(log.last_not_above(Index(6), Term(1)), Index(2));
  EXPECT_EQ(log.last_not_above(Index(6), Term(0)), Index(0));
  EXPECT_EQ(log.last_not_above(Index(99), Term(5)), Index(6));
}

TEST(Log, submit_names_each_entry_once) {
  Log log = log_of_terms({1});
  EXPECT_FALSE(log.has_unsubmitted());
  log.append(entry(2, 1));
  log.append(entry(3, 1));
  EXPECT_TRUE(log.has_unsubmitted());
  EXPECT_EQ(log.submit(1).size(), 2u);
  EXPECT_FALSE(log.has_unsubmitted());
  EXPECT_TRUE(log.submit(2).empty());
  EXPECT_EQ(log.stable(), Index(1));
  log.stored(1);
  EXPECT_EQ(log.stable(), Index(3));
}

TEST(Log, one_completion_covers_all_earlier_writes) {
  Log log({});
  log.append(entry(1, 1));
  log.submit(1);
  log.append(entry(2, 1));
  log.submit(2);
  log.stored(2);
  EXPECT_EQ(log.stable(), Index(2));
}

TEST(Log, an_older_write_does_not_make_an_overwrite_stable) {
  Log log = log_of_terms({1});
  for (uint64_t i = 2; i <= 4; ++i) log.append(entry(i, 1));
  log.submit(1);
  log.truncate_behind(Index(2));
  log.append(entry(3, 2));
  log.append(entry(4, 2));
  EXPECT_EQ(log.submit(2).front(), entry(3, 2));
  log.stored(1);
  EXPECT_EQ(log.stable(), Index(2));
  log.stored(2);
  EXPECT_EQ(log.stable(), Index(4));
}

TEST(Log, an_overwrite_with_the_same_terms_is_not_taken_for_the_first) {
  // A, B, A at one index: the completion of the first A says nothing about the second.
  Log log = log_of_terms({1});
  log.append(entry(2, 1));
  log.submit(1);
  log.truncate_behind(Index(1));
  log.append(entry(2, 2));
  log.submit(2);
  log.truncate_behind(Index(1));
  log.append(entry(2, 3));
  log.submit(3);
  log.stored(1);
  log.stored(2);
  EXPECT_EQ(log.stable(), Index(1));
  log.stored(3);
  EXPECT_EQ(log.stable(), Index(2));
}

TEST(Log, truncation_takes_back_what_was_stable) {
  Log log = log_of_terms({1, 1, 1});
  log.truncate_behind(Index(1));
  log.append(entry(2, 2));
  EXPECT_EQ(log.stable(), Index(1));
  EXPECT_EQ(log.submit(1).size(), 1u);
  log.stored(1);
  EXPECT_EQ(log.stable(), Index(2));
}

TEST(Log, ticket_of_names_the_write_that_covers) {
  Log log = log_of_terms({1});
  log.append(entry(2, 1));
  log.submit(7);
  log.append(entry(3, 1));
  log.submit(8);
  log.append(entry(4, 1));
  EXPECT_EQ(log.ticket_of(Index(1), 9), 0u);
  EXPECT_EQ(log.ticket_of(Index(2), 9), 7u);
  EXPECT_EQ(log.ticket_of(Index(3), 9), 8u);
  EXPECT_EQ(log.ticket_of(Index(4), 9), 9u);
  log.truncate_behind(Index(2));
  log.append(entry(3, 2));
  EXPECT_EQ(log.ticket_of(Index(2), 9), 7u);
  EXPECT_EQ(log.ticket_of(Index(3), 9), 9u);
}

TEST(LogDeath, gaps_and_falling_terms_stop_the_process) {
  Log log = log_of_terms({2});
  EXPECT_DEATH(log.append(entry(3, 2)), "check failed");
  EXPECT_DEATH(log.append(entry(2, 1)), "check failed");
}

}  // namespace
}  // namespace ballast::raft
