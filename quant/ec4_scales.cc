// The scales of ec4's groups.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "quant/ec4.h"
#include "quant/float_convert.h"
#include "quant/kernels.h"
#include "quant/log_scale.h"
#include "quant/rans_frequencies.h"

namespace ballast::quant {
namespace {

static_assert(kEc4Groups.back() <= kPieceValues);

// No mean square counts for more, so that the largest value of a group (32 times its root mean
// square at most) is finite in units of its scale, too.
constexpr double kMeanSquareMax = 0x1p240;

// NaN and infinities count as 0.
double mean_square(DType source, std::span<const std::byte> values) {
  const size_t count = values.size() / dtype_bytes(source);
  alignas(64) std::array<float, kPieceValues> group;
  load_f32(source, values.data(), count, group.data());
  PairSums sums;
  kernel().measure(group.data(), group.data(), count, sums);
  return std::accumulate(sums.signal.begin(), sums.signal.end(), 0.0) / static_cast<double>(count);
}

// The step that is nearest to the ratio of the roots.
uint8_t scale_of(double mean, double largest) {
  if (mean == 0) return kWideZeroScale;
  const double octaves = portable_log2(largest / mean) / 2;
  return static_cast<uint8_t>(
      std::clamp<long>(std::lround(octaves * kStepsPerOctave), 0, kWideScaleStepMax));
}

}  // namespace

std::vector<uint8_t> choose_ec4_scales(DType source, uint32_t group,
                                       std::span<const std::byte> values) {
  const size_t width = dtype_bytes(source);
  std::vector<uint8_t> scales(ec4_scale_bytes(group, values.size() / width));
  std::vector<double> means;
  double largest = 0;
  while (!scales.empty() && !values.empty()) {
    const auto part = values.first(std::min(group * width, values.size()));
    means.push_back(mean_square(source, part));
    largest = std::max(largest, means.back());
    values = values.subspan(part.size());
  }
  largest = std::min(largest, kMeanSquareMax);
  std::ranges::transform(means, scales.begin(),
                         [&](double mean) { return scale_of(mean, largest); });
  return scales;
}

}  // namespace ballast::quant
