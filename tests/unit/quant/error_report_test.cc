#include "quant/error_report.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ballast::quant {
namespace {

TEST(ErrorReport, figures_follow_from_the_sums) {
  // x = (3, 4), y = (3, 3)
  const ErrorReport report = error_report(
      {.signal_energy = 25, .decoded_energy = 18, .noise_energy = 1, .max_abs_error = 1});
  EXPECT_DOUBLE_EQ(report.max_abs, 1);
  EXPECT_DOUBLE_EQ(report.relative_rmse, 0.2);
  EXPECT_DOUBLE_EQ(report.sqnr_db, 10 * std::log10(25.0));
  EXPECT_DOUBLE_EQ(report.cosine, 21 / std::sqrt(25.0 * 18.0));
}

TEST(ErrorReport, nothing_lost) {
  for (const ErrorSums& sums : {ErrorSums{}, ErrorSums{.signal_energy = 2, .decoded_energy = 2}}) {
    const ErrorReport report = error_report(sums);
    EXPECT_EQ(report.max_abs, 0);
    EXPECT_EQ(report.relative_rmse, 0);
    EXPECT_EQ(report.sqnr_db, INFINITY);
    EXPECT_EQ(report.cosine, 1);
  }
}

TEST(ErrorReport, everything_lost) {
  const ErrorReport zeroed = error_report({.signal_energy = 4, .noise_energy = 4});
  EXPECT_EQ(zeroed.sqnr_db, 0);
  EXPECT_EQ(zeroed.cosine, 0);
  const ErrorReport overflowed = error_report({.signal_energy = 4,
                                               .decoded_energy = INFINITY,
                                               .noise_energy = INFINITY,
                                               .max_abs_error = INFINITY});
  EXPECT_EQ(overflowed.sqnr_db, -INFINITY);
  EXPECT_EQ(overflowed.cosine, 0);
}

TEST(ErrorReport, sums_add_up) {
  ErrorSums sums{1, 2, 3, 4};
  sums += {10, 20, 30, 2};
  EXPECT_EQ(sums.signal_energy, 11);
  EXPECT_EQ(sums.decoded_energy, 22);
  EXPECT_EQ(sums.noise_energy, 33);
  EXPECT_EQ(sums.max_abs_error, 4);
}

}  // namespace
}  // namespace ballast::quant
