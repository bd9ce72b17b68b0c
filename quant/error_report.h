// What an encoding lost, as sums that add up over blocks and tensors, and as figures.
#pragma once

#include <algorithm>
#include <cstdint>

namespace ballast::quant {

// Over values x and their decoded counterparts y. NaN and Inf that are kept as such do not count.
struct ErrorSums {
  double signal_energy = 0;   // sum of x^2
  double decoded_energy = 0;  // sum of y^2
  double noise_energy = 0;    // sum of (x - y)^2
  double max_abs_error = 0;

  ErrorSums& operator+=(const ErrorSums& other) {
    signal_energy += other.signal_energy;
    decoded_energy += other.decoded_energy;
    noise_energy += other.noise_energy;
    max_abs_error = std::max(max_abs_error, other.max_abs_error);
    return *this;
  }
};

struct ErrorReport {
  double max_abs = 0;
  double relative_rmse = 0;  // sqrt(noise / signal)
  double sqnr_db = 0;        // 10 log10(signal / noise); +infinity where nothing was lost
  double cosine = 1;
};

// With no signal at all: everything 0 but for cosine 1 and sqnr_db infinity if nothing was lost.
ErrorReport error_report(const ErrorSums& sums);

}  // namespace ballast::quant
