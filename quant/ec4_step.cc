// The choice of a step: what a part of the values would cost with it.
#include <algorithm>
#include <array>
#include <cmath>

#include "quant/ec4.h"
#include "quant/float_convert.h"
#include "quant/kernels.h"
#include "quant/rans.h"

namespace ballast::quant {
namespace {

constexpr double kGrid = 1.0027112750502025;  // 2^(1/256)
// What the indexes of the trellis take more than those of a quantizer with twice its step.
constexpr double kTrellisBits = 0.066;
constexpr size_t kSampleMin = 16 << 10;
constexpr size_t kSampleMax = 64 << 10;
constexpr size_t kSampleShare = 8;

double power_of_grid(int places) {
  double power = 1;
  double factor = places < 0 ? 1 / kGrid : kGrid;
  for (int rest = std::abs(places); rest > 0; rest >>= 1) {
    if ((rest & 1) != 0) power *= factor;
    factor *= factor;
  }
  return power;
}

// Pieces spread over the values, as finite floats.
std::vector<float> take_sample(DType source, std::span<const std::byte> values) {
  const size_t width = dtype_bytes(source);
  const size_t count = values.size() / width;
  const size_t wanted = std::min(count, std::clamp(count / kSampleShare, kSampleMin, kSampleMax));
  const size_t pieces = (wanted + kPieceValues - 1) / kPieceValues;
  std::vector<float> sample;
  sample.reserve(pieces * kPieceValues);
  for (size_t i = 0; i < pieces; ++i) {
    const size_t length = std::min(kPieceValues, wanted - i * kPieceValues);
    const size_t first = pieces == 1 ? 0 : (count - length) / (pieces - 1) * i;
    sample.resize(sample.size() + length);
    load_f32(source, values.data() + first * width, length, &sample[sample.size() - length]);
  }
  for (float& value : sample) value = std::isfinite(value) ? value : 0.0f;
  sample.resize((sample.size() + kQuantizeLanes - 1) / kQuantizeLanes * kQuantizeLanes, 0.0f);
  return sample;
}

class Estimate {
 public:
  Estimate(const Ec4Parameters& parameters, const Ec4Target& target,
           std::span<const std::byte> values)
      : parameters_(parameters),
        target_(target),
        outlier_bits_(8.0 * static_cast<double>(dtype_bytes(parameters.source)) + 16),
        sample_(take_sample(parameters.source, values)),
        symbols_(sample_.size()) {}

  // The place whose step is about the root mean square.
  int middle() const {
    double energy = 0;
    for (const float value : sample_) energy += double{value} * value;
    if (energy == 0) return 0;
    const double mean = energy / static_cast<double>(sample_.size());
    return static_cast<int>(portable_log2(mean) * kEc4PlacesPerOctave / 2);
  }

  // Whether the step at this place is coarse enough to meet the target in bits, or fine enough to
  // meet that in dB.
  bool meets(int place) {
    // The trellis' indexes are spread as those of a quantizer with twice the step.
    const float step = ec4_step(parameters_, place) * (parameters_.trellis ? 2.0f : 1.0f);
    QuantizeSums sums;
    const uint32_t outliers =
        kernel().ec4_quantize(sample_.data(), sample_.size(), 1 / step, symbols_.data(), sums);
    const auto count = static_cast<double>(sample_.size());
    if (target_.db > 0) return decibels(sums) >= target_.db;
    const RansCounts counts = count_symbols(symbols_);
    const double bits =
        rans_bits(counts, rans_frequencies(counts)) / count + outliers * outlier_bits_ / count;
    return bits + (parameters_.trellis ? kTrellisBits : 0.0) + target_.overhead_bits <=
           target_.bits;
  }

 private:
  double decibels(const QuantizeSums& sums) const {
    double signal = 0;
    double noise = 0;
    for (size_t lane = 0; lane < kQuantizeLanes; ++lane) {
      signal += sums.signal[lane];
      noise += sums.noise[lane];
    }
    // The trellis gains 5 dB on twice its step: 6 by the finer step, of which it gives up one.
    if (noise == 0) return 200;
    return 10 * portable_log2(signal / noise) * 0.30102999566398120 +
           (parameters_.trellis ? 1.0 : 0.0);
  }

  const Ec4Parameters& parameters_;
  const Ec4Target& target_;
  const double outlier_bits_;
  std::vector<float> sample_;
  std::vector<uint8_t> symbols_;
};

}  // namespace

float ec4_step(const Ec4Parameters& parameters, int place) {
  const double largest = parameters.trellis ? kEc4tStepMax : kEc4StepMax;
  return static_cast<float>(std::clamp(power_of_grid(place), double{kEc4StepMin}, largest));
}

int choose_ec4_step(const Ec4Parameters& parameters, const Ec4Target& target,
                    std::span<const std::byte> values) {
  Estimate estimate(parameters, target, values);
  const int middle = estimate.middle();
  // From an eighth of the root mean square (a finer step would make most values outliers) to 32
  // times. Bits fall and noise grows with the step, so halving finds the border.
  int low = middle - 3 * kEc4PlacesPerOctave;
  int high = middle + 5 * kEc4PlacesPerOctave;
  const bool bits = target.db == 0;
  while (low < high) {
    const int place = low + (high - low) / 2;
    if (estimate.meets(place) == bits) {
      high = place;
    } else {
      low = place + 1;
    }
  }
  // For dB, `low` is the first that misses.
  return bits ? low : low - 1;
}

}  // namespace ballast::quant
