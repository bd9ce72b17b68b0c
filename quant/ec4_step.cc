// The choice of a step: what a part of the values would cost with it.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "quant/block_header.h"
#include "quant/ec4.h"
#include "quant/float_convert.h"
#include "quant/kernels.h"
#include "quant/log_scale.h"

namespace ballast::quant {
namespace {

constexpr double kGrid = 1.0006771306930664;               // 2^(1/1024)
constexpr double kDecibelsPerOctave = 6.0205999132796239;  // of the step: a factor 4 of energy
// What the indexes of the trellis take more than those of a quantizer with twice its step, and what
// of its noise they leave: 1 dB less.
constexpr double kTrellisBits = 0.066;
constexpr double kTrellisNoise = 0.794;
// A search that is so near, in places, is over.
constexpr double kNear = 2;
constexpr int kEvaluationsMax = 20;
// Beyond these steps are held.
constexpr int kPlaceMin = -119 * kEc4PlacesPerOctave;
constexpr int kPlaceMax = 125 * kEc4PlacesPerOctave;

double power_of_grid(int places) {
  double power = 1;
  double factor = places < 0 ? 1 / kGrid : kGrid;
  for (int rest = std::abs(places); rest > 0; rest >>= 1) {
    if ((rest & 1) != 0) power *= factor;
    factor *= factor;
  }
  return power;
}

// Values of a block as finite floats, in units of their scales.
class Sampler {
 public:
  Sampler(const Ec4Parameters& parameters, std::span<const std::byte> values,
          std::span<const uint8_t> scales)
      : parameters_(parameters),
        values_(values),
        scales_(scales),
        count_(values.size() / dtype_bytes(parameters.source)) {}

  // Pieces spread over the values; if these are all zeros, the first ones that are none.
  std::vector<float> take(size_t most) const {
    const size_t wanted = std::min(count_, most);
    const size_t pieces = (wanted + kPieceValues - 1) / kPieceValues;
    std::vector<float> sample(wanted);
    for (size_t i = 0; i < pieces; ++i) {
      const size_t length = std::min(kPieceValues, wanted - i * kPieceValues);
      const size_t first = pieces == 1 ? 0 : (count_ - length) / (pieces - 1) * i;
      load(first, std::span(&sample[i * kPieceValues], length));
    }
    const auto is_zero = [](float value) { return value == 0; };
    if (std::ranges::all_of(sample, is_zero)) sample = nonzero(most);
    sample.resize((sample.size() + kQuantizeLanes - 1) / kQuantizeLanes * kQuantizeLanes, 0.0f);
    return sample;
  }

 private:
  std::vector<float> nonzero(size_t most) const {
    std::vector<float> found;
    std::array<float, kPieceValues> buffer;
    for (size_t at = 0; at < count_ && found.size() < most; at += kPieceValues) {
      const auto piece = std::span(buffer).first(std::min(kPieceValues, count_ - at));
      load(at, piece);
      std::ranges::copy_if(piece, std::back_inserter(found), [](float v) { return v != 0; });
    }
    found.resize(std::max<size_t>(found.size(), 1));
    return found;
  }

  void load(size_t first, std::span<float> to) const {
    const size_t width = dtype_bytes(parameters_.source);
    load_f32(parameters_.source, values_.data() + first * width, to.size(), to.data());
    for (size_t i = 0; i < to.size() && parameters_.group != 0; ++i) {
      to[i] *= kWideScaleSteps.inverse[scales_[(first + i) / parameters_.group]];
    }
    for (float& value : to) value = std::isfinite(value) ? value : 0.0f;
  }

  const Ec4Parameters& parameters_;
  std::span<const std::byte> values_;
  std::span<const uint8_t> scales_;
  size_t count_;
};

}  // namespace

double ec4_side_bits(size_t lanes, double symbol_bits) {
  // A state of 32 bits replaces half a word and holds the last symbols of its lane.
  constexpr double kStateBits = 24.5;
  constexpr double kFrequencyBits = 8 * 18;
  return static_cast<double>(lanes) * (kStateBits - kRansClosingRows * symbol_bits) +
         kFrequencyBits;
}

double ec4_overhead_bits(uint32_t group, uint64_t values, double symbol_bits) {
  double bits = 8.0 * static_cast<double>(kBlockHeaderBytes + ec4_scale_bytes(group, values));
  for (uint64_t at = 0; at < values; at += limits::kChunkValues) {
    const size_t lanes = rans_lanes(std::min(limits::kChunkValues, values - at));
    bits += 8.0 * (sizeof(uint32_t) + sizeof(Ec4ChunkHead)) + ec4_side_bits(lanes, symbol_bits);
  }
  return bits;
}

double Ec4Target::margin(double bits_per_value, double signal, double noise) const {
  if (db == 0) return (bits - bits_per_value) * kEc4PlacesPerOctave;
  if (noise == 0 || signal == 0) return 0;
  return (portable_decibels(signal / noise) - db) * (kEc4PlacesPerOctave / kDecibelsPerOctave);
}

int Ec4Target::moved(int place, double margin) const {
  // The margin may be that of a step beside all reason.
  constexpr double kMost = 4 * kEc4PlacesPerOctave;
  margin = std::clamp(margin, -kMost, kMost);
  return place + static_cast<int>(std::floor(db == 0 ? -margin : margin));
}

Ec4StepSearch::Ec4StepSearch(const Ec4Parameters& parameters, const Ec4Target& target,
                             std::span<const std::byte> values, size_t sample,
                             std::span<const uint8_t> scales)
    : parameters_(parameters),
      target_(target),
      values_(values.size() / dtype_bytes(parameters.source)),
      sample_(Sampler(parameters, values, scales).take(sample)),
      symbols_(sample_.size()) {}

float Ec4StepSearch::quantizer_step(int place) const {
  const double largest = parameters_.trellis ? kEc4tStepMax : kEc4StepMax;
  return static_cast<float>(std::clamp(power_of_grid(place), 2.0 * kEc4StepMin, largest));
}

// The place of half the geometric mean of what is not 0: near the steps that are asked for, and
// near to where it was if a few values are far larger than all others. These become outliers then,
// where a root mean square would make outliers of nothing, and zeros of all others.
int Ec4StepSearch::middle() const {
  // The bits of a magnitude are nearly its logarithm.
  constexpr uint32_t kMagnitude = 0x7fffffff;
  constexpr double kOctaveBits = 1 << 23;
  constexpr double kBias = 127;
  uint64_t sum = 0;
  uint64_t count = 0;
  for (const float value : sample_) {
    const uint32_t bits = std::bit_cast<uint32_t>(value) & kMagnitude;
    sum += bits;
    count += bits != 0 ? 1 : 0;
  }
  if (count == 0) return 0;
  const double mean = static_cast<double>(sum) / static_cast<double>(count) / kOctaveBits - kBias;
  return static_cast<int>((mean - 1) * kEc4PlacesPerOctave);
}

// With the trellis, indexes and noise are nearly those of a quantizer with twice the step.
Ec4StepSearch::Sums Ec4StepSearch::quantize(int place) {
  const float step = quantizer_step(place) * (parameters_.trellis ? 2.0f : 1.0f);
  QuantizeSums lanes;
  Sums sums;
  sums.outliers =
      kernel().ec4_quantize(sample_.data(), sample_.size(), 1 / step, 1, symbols_.data(), lanes);
  for (size_t lane = 0; lane < kQuantizeLanes; ++lane) {
    sums.signal += lanes.signal[lane];
    sums.noise += lanes.noise[lane] * (parameters_.trellis ? kTrellisNoise : 1.0);
  }
  return sums;
}

double Ec4StepSearch::margin(int place) {
  const Sums sums = quantize(place);
  if (target_.db > 0) return target_.margin(0, sums.signal, sums.noise);
  const RansCounts counts = count_symbols(symbols_);
  const auto sampled = static_cast<double>(sample_.size());
  const double outlier_bits = 8.0 * static_cast<double>(dtype_bytes(parameters_.source)) + 16;
  const double symbol_bits = rans_bits(counts, rans_frequencies(counts)) / sampled +
                             (parameters_.trellis ? kTrellisBits : 0.0);
  const double bits =
      symbol_bits + sums.outliers * outlier_bits / sampled +
      ec4_overhead_bits(parameters_.group, values_, symbol_bits) / static_cast<double>(values_);
  return target_.margin(bits, 0, 0);
}

// Bits fall and noise grows with the step, nearly by a bit and 6 dB an octave: so a margin says
// where to go on, and where that leaves what is known to be too fine or too coarse, halving does.
int Ec4StepSearch::best(int guess) {
  int low = kPlaceMin;
  int high = kPlaceMax;
  int place = std::clamp(guess, low, high);
  for (int evaluations = 0; evaluations < kEvaluationsMax; ++evaluations) {
    const double left = margin(place);
    if (std::abs(left) < kNear) break;
    const int next = target_.moved(place, left);
    (next > place ? low : high) = place;
    if (high - low <= 1) break;
    place = next > low && next < high ? next : low + (high - low) / 2;
  }
  return place;
}

// The noise does not depend on the values that are rounded: so the best guess of a value is the
// multiple times signal / (signal + noise) (N. Wiener's filter, 1949).
Ec4Parameters Ec4StepSearch::at(int place) {
  const Sums sums = quantize(place);
  Ec4Parameters parameters = parameters_;
  const bool some = sums.signal > 0;
  parameters.shrink =
      some ? static_cast<float>(std::max(sums.signal / (sums.signal + sums.noise), 0.5)) : 1.0f;
  parameters.step = quantizer_step(place) * parameters.shrink;
  return parameters;
}

}  // namespace ballast::quant
