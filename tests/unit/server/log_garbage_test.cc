#include "server/node/log_garbage.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace ballast::server {
namespace {

using Home = storage::LogStore::Home;
using Use = storage::StateMachine::SegmentUse;
constexpr uint64_t kMiB = 1 << 20;

TEST(LogGarbage, a_segment_goes_when_it_is_empty_and_moves_below_a_half) {
  struct Case {
    std::vector<Use> used;
    HomeFate fate;
  };
  constexpr uint64_t kHome = 1000 * kMiB;
  const Case cases[] = {{{}, HomeFate::kRetires},
                        {{{6, kHome, 1}, {8, kHome, 1}}, HomeFate::kRetires},
                        {{{7, 1, 1}}, HomeFate::kEmpties},
                        {{{7, 499 * kMiB, 3}}, HomeFate::kEmpties},
                        {{{7, 500 * kMiB, 3}}, HomeFate::kStays},
                        {{{7, 0, 1}}, HomeFate::kEmpties}};
  for (const Case& one : cases) {
    const Stock stock{.homes = {{7, kHome}}, .used = one.used, .live = kHome};
    EXPECT_EQ(fates_of(stock), std::vector{one.fate});
  }
}

TEST(LogGarbage, is_summed_over_homes_and_lives_over_all_segments) {
  const Stock stock{.homes = {{1, 100 * kMiB},
                              {2, 200 * kMiB},
                              {3, 100 * kMiB},
                              {4, 100 * kMiB},
                              {5, 100 * kMiB}},
                    .used = {{2, 99 * kMiB, 9}, {3, kMiB, 1}, {4, 50 * kMiB, 1}, {9, 60 * kMiB, 2}},
                    .live = 900 * kMiB};
  const pb::LogGarbage garbage = log_garbage(stock);
  EXPECT_EQ(garbage.live_bytes(), 210 * kMiB) << "the log's own segments too";
  EXPECT_EQ(garbage.empty_segments(), 2u);
  EXPECT_EQ(garbage.empty_bytes(), 200 * kMiB);
  EXPECT_EQ(garbage.sparse_segments(), 2u);
  EXPECT_EQ(garbage.sparse_bytes(), 300 * kMiB);
  EXPECT_EQ(garbage.moving_bytes(), 100 * kMiB);
}

// Of the bytes of a block of 4 KiB as many again go to its head.
TEST(LogGarbage, a_segment_full_of_small_blocks_that_live_is_not_sparse) {
  const uint64_t live = 4096 * 32'767;
  const std::vector<Home> homes{{1, 256 * kMiB}};
  const auto fate = [&](uint64_t blocks) {
    return fates_of({.homes = homes, .used = {{1, 4096 * blocks, blocks}}, .live = live}).front();
  };
  EXPECT_EQ(fate(32'767), HomeFate::kStays);
  EXPECT_EQ(fate(16'385), HomeFate::kStays);
  EXPECT_EQ(fate(16'000), HomeFate::kEmpties);
}

// Segments of 100 MiB, of which so many are live.
Stock stock_of(const std::vector<uint64_t>& live) {
  Stock stock;
  for (uint64_t i = 0; i < live.size(); ++i) {
    stock.homes.push_back({i + 1, 100 << 20});
    stock.used.push_back({i + 1, live[i] << 20, live[i]});
    stock.live += live[i] << 20;
    stock.log += 100 << 20;
  }
  return stock;
}

std::vector<uint64_t> emptied(const Stock& stock) {
  const std::vector<HomeFate> fates = fates_of(stock);
  std::vector<uint64_t> segments;
  for (size_t i = 0; i < fates.size(); ++i)
    if (fates[i] == HomeFate::kEmpties) segments.push_back(stock.homes[i].segment);
  return segments;
}

TEST(LogGarbage, the_sparsest_segments_move_while_all_takes_too_much) {
  using Segments = std::vector<uint64_t>;
  EXPECT_EQ(emptied(stock_of({58, 58, 58, 58})), Segments()) << "1.72 of what is live";
  EXPECT_EQ(emptied(stock_of({56, 55, 56, 56})), Segments{2}) << "1.79; then it is 1.59";
  EXPECT_EQ(emptied(stock_of({52, 52, 52, 52, 51, 52, 53, 50, 52, 52})), (Segments{5, 8}));
}

// What the database has let go of, or the log needs, no moving of blocks makes smaller.
TEST(LogGarbage, segments_that_are_mostly_live_stay_whatever_takes_too_much) {
  Stock stock = stock_of({75, 80, 100});
  stock.database = 900 << 20;
  EXPECT_TRUE(takes_too_much(stock));
  EXPECT_EQ(emptied(stock), std::vector<uint64_t>());
  stock = stock_of({70, 100, 100, 100});
  stock.log += 900 << 20;
  EXPECT_TRUE(takes_too_much(stock));
  EXPECT_EQ(emptied(stock), std::vector<uint64_t>()) << "it would give little";
}

TEST(LogGarbage, spare_segments_stay_until_all_takes_as_much_as_it_may) {
  Stock stock = stock_of({100, 100, 100, 100});
  EXPECT_EQ(spare_budget(stock), 300u << 20);
  stock.homes.push_back({9, 100 << 20});
  stock.log += 100 << 20;
  EXPECT_EQ(spare_budget(stock), 300u << 20) << "an empty home is as good as spare";
  stock.database = 250 << 20;
  EXPECT_EQ(spare_budget(stock), 50u << 20);
  stock.database = 400 << 20;
  EXPECT_EQ(spare_budget(stock), 0u);
}

// Whatever lives where: all that is done, as often as something is to be done, ends, and leaves
// less than 1.75 of what lives if only homes take the space.
TEST(LogGarbage, ends_below_its_bound) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::vector<uint64_t> live(1 + random() % 60);
    for (uint64_t& one : live) one = random() % 101;
    Stock stock = stock_of(live);
    std::erase_if(stock.used, [](const Use& use) { return use.bytes == 0; });
    for (size_t steps = 0;; ++steps) {
      ASSERT_LE(steps, live.size());
      const std::vector<HomeFate> fates = fates_of(stock);
      const auto goes =
          std::ranges::find_if(fates, [](HomeFate f) { return f != HomeFate::kStays; });
      if (goes == fates.end()) break;
      const auto home = stock.homes.begin() + (goes - fates.begin());
      const uint64_t sequence = home->segment;
      for (const Use& use : stock.used)
        if (use.sequence == sequence) stock.database += use.bytes;
      std::erase_if(stock.used, [&](const Use& use) { return use.sequence == sequence; });
      stock.log -= home->bytes;
      stock.homes.erase(home);
    }
    EXPECT_LE(static_cast<double>(stock.log + stock.database),
              1.75 * static_cast<double>(stock.live));
  }
}

TEST(LogGarbage, is_none_without_homes) {
  const pb::LogGarbage garbage = log_garbage({.used = {{1, 5, 1}}, .live = 5});
  EXPECT_EQ(garbage.live_bytes(), 5u);
  EXPECT_EQ(garbage.empty_segments() + garbage.sparse_segments(), 0u);
}

}  // namespace
}  // namespace ballast::server
