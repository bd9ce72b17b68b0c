#include "quant/error_report.h"

#include <cmath>
#include <limits>

namespace ballast::quant {

ErrorReport error_report(const ErrorSums& sums) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  ErrorReport report{.max_abs = sums.max_abs_error, .sqnr_db = kInfinity};
  if (sums.noise_energy == 0) return report;
  if (sums.signal_energy == 0) {
    report.sqnr_db = -kInfinity;
    report.relative_rmse = kInfinity;
    report.cosine = 0;
    return report;
  }
  report.relative_rmse = std::sqrt(sums.noise_energy / sums.signal_energy);
  report.sqnr_db = 10 * std::log10(sums.signal_energy / sums.noise_energy);
  // (x - y)^2 = x^2 + y^2 - 2xy gives the dot product. It is lost once a value became infinite.
  const double dot = (sums.signal_energy + sums.decoded_energy - sums.noise_energy) / 2;
  const double norms = std::sqrt(sums.signal_energy) * std::sqrt(sums.decoded_energy);
  const bool defined = std::isfinite(dot) && norms > 0;
  report.cosine = defined ? std::clamp(dot / norms, -1.0, 1.0) : 0;
  return report;
}

}  // namespace ballast::quant
