#include "bench/load/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

namespace ballast::load {
namespace {

TEST(Histogram, of_nothing_is_zero) {
  const Histogram histogram;
  EXPECT_EQ(histogram.count(), 0U);
  EXPECT_EQ(histogram.max(), 0U);
  EXPECT_EQ(histogram.mean(), 0.0);
  EXPECT_EQ(histogram.percentile(50), 0U);
}

TEST(Histogram, is_exact_for_small_values) {
  Histogram histogram;
  for (uint64_t value = 0; value < 128; ++value) histogram.add(value);
  EXPECT_EQ(histogram.percentile(0), 0U);
  EXPECT_EQ(histogram.percentile(50), 63U);
  EXPECT_EQ(histogram.percentile(100), 127U);
  EXPECT_EQ(histogram.mean(), 63.5);
}

TEST(Histogram, buckets_hold_every_value_once) {
  Histogram histogram;
  for (const uint64_t value : {5, 5, 127, 1000, 1001, 1'000'000}) histogram.add(value);
  uint64_t count = 0;
  for (const Histogram::Bucket& bucket : histogram.buckets()) count += bucket.count;
  EXPECT_EQ(count, 6U);
  EXPECT_EQ(histogram.buckets().front().end, 5U);
  EXPECT_EQ(histogram.buckets().front().count, 2U);
  EXPECT_GE(histogram.buckets().back().end, 1'000'000U);
}

TEST(Histogram, one_value_is_every_percentile) {
  for (const uint64_t value :
       {uint64_t{1}, uint64_t{127}, uint64_t{128}, uint64_t{129}, uint64_t{1'000'003},
        uint64_t{1} << 40, UINT64_MAX - 1, UINT64_MAX}) {
    Histogram histogram;
    histogram.add(value);
    for (const double percent : {0.0, 50.0, 99.9, 100.0}) {
      EXPECT_EQ(histogram.percentile(percent), value);
    }
  }
}

// Each value among two extremes must be answered by itself, from above and within 1/64.
TEST(Histogram, never_answers_below_a_value_and_never_far_above_it) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 20'000; ++i) {
    const uint64_t value = random() >> (random() % 64);
    Histogram histogram;
    histogram.add(value);
    histogram.add(UINT64_MAX);
    const uint64_t answer = histogram.percentile(50);
    ASSERT_GE(answer, value);
    ASSERT_LE(answer - value, value / 64) << value;
  }
}

TEST(Histogram, agrees_with_sorting) {
  std::mt19937_64 random(2);
  std::lognormal_distribution<double> durations(12, 1.5);
  std::vector<uint64_t> values;
  Histogram all;
  Histogram odd;
  Histogram even;
  for (int i = 0; i < 50'000; ++i) {
    values.push_back(static_cast<uint64_t>(durations(random)));
    all.add(values.back());
    (i % 2 == 0 ? even : odd).add(values.back());
  }
  std::ranges::sort(values);
  even.merge(odd);
  EXPECT_EQ(even.count(), values.size());
  EXPECT_EQ(even.max(), values.back());
  for (const double percent : {1.0, 50.0, 90.0, 99.0, 99.9, 100.0}) {
    const double rank = percent / 100 * static_cast<double>(values.size());
    const uint64_t exact = values[static_cast<size_t>(std::llround(rank)) - 1];
    EXPECT_GE(all.percentile(percent), exact) << percent;
    EXPECT_LE(all.percentile(percent), exact + exact / 64) << percent;
    EXPECT_EQ(even.percentile(percent), all.percentile(percent)) << "merging changes nothing";
  }
}

}  // namespace
}  // namespace ballast::load
