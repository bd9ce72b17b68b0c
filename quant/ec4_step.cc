// The choice of a step: what a part of the values would cost with it.
#include <algorithm>
#include <array>
#include <cmath>

#include "quant/block_header.h"
#include "quant/ec4.h"
#include "quant/float_convert.h"
#include "quant/kernels.h"
#include "quant/log_scale.h"

namespace ballast::quant {
namespace {

constexpr double kGrid = 1.0006771306930664;            // 2^(1/1024)
constexpr double kDecibelsPerBit = 3.0102999566398120;  // of energy
constexpr double kDecibelsPerOctave = 2 * kDecibelsPerBit;
// What the indexes of the trellis take more than those of a quantizer with twice its step, and what
// of its noise they leave: 1 dB less.
constexpr double kTrellisBits = 0.066;
constexpr double kTrellisNoise = 0.794;
// A search that is so near, in places, is over.
constexpr double kNear = 2;
constexpr int kEvaluationsMax = 14;

double power_of_grid(int places) {
  double power = 1;
  double factor = places < 0 ? 1 / kGrid : kGrid;
  for (int rest = std::abs(places); rest > 0; rest >>= 1) {
    if ((rest & 1) != 0) power *= factor;
    factor *= factor;
  }
  return power;
}

// Pieces spread over the values, as finite floats in units of their scales.
std::vector<float> take_sample(const Ec4Parameters& parameters, std::span<const std::byte> values,
                               size_t most, std::span<const uint8_t> scales) {
  const size_t width = dtype_bytes(parameters.source);
  const size_t count = values.size() / width;
  const size_t wanted = std::min(count, most);
  const size_t pieces = (wanted + kPieceValues - 1) / kPieceValues;
  std::vector<float> sample;
  sample.reserve(pieces * kPieceValues);
  for (size_t i = 0; i < pieces; ++i) {
    const size_t length = std::min(kPieceValues, wanted - i * kPieceValues);
    const size_t first = pieces == 1 ? 0 : (count - length) / (pieces - 1) * i;
    sample.resize(sample.size() + length);
    float* const piece = &sample[sample.size() - length];
    load_f32(parameters.source, values.data() + first * width, length, piece);
    for (size_t at = 0; at < length && parameters.group != 0; ++at) {
      piece[at] *= kWideScaleSteps.inverse[scales[(first + at) / parameters.group]];
    }
  }
  for (float& value : sample) value = std::isfinite(value) ? value : 0.0f;
  sample.resize((sample.size() + kQuantizeLanes - 1) / kQuantizeLanes * kQuantizeLanes, 0.0f);
  return sample;
}

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
  const double reached = portable_log2(signal / noise) * kDecibelsPerBit;
  return (reached - db) * (kEc4PlacesPerOctave / kDecibelsPerOctave);
}

int Ec4Target::moved(int place, double margin) const {
  // The margin may be that of a step beside all reason.
  margin = std::clamp<double>(margin, -kEc4PlacesPerOctave, kEc4PlacesPerOctave);
  return place + static_cast<int>(std::floor(db == 0 ? -margin : margin));
}

Ec4StepSearch::Ec4StepSearch(const Ec4Parameters& parameters, const Ec4Target& target,
                             std::span<const std::byte> values, size_t sample,
                             std::span<const uint8_t> scales)
    : parameters_(parameters),
      target_(target),
      values_(values.size() / dtype_bytes(parameters.source)),
      sample_(take_sample(parameters, values, sample, scales)),
      symbols_(sample_.size()) {}

float Ec4StepSearch::quantizer_step(int place) const {
  const double largest = parameters_.trellis ? kEc4tStepMax : kEc4StepMax;
  return static_cast<float>(std::clamp(power_of_grid(place), 2.0 * kEc4StepMin, largest));
}

// The place whose step is about the root mean square.
int Ec4StepSearch::middle() const {
  double energy = 0;
  for (const float value : sample_) energy += double{value} * value;
  if (energy == 0) return 0;
  const double mean = energy / static_cast<double>(sample_.size());
  return static_cast<int>(portable_log2(mean) * kEc4PlacesPerOctave / 2);
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
  // From an eighth of the root mean square (a finer step would make most values outliers) to 32
  // times.
  int low = middle() - 3 * kEc4PlacesPerOctave;
  int high = middle() + 5 * kEc4PlacesPerOctave;
  int place = std::clamp(guess, low, high);
  for (int evaluations = 0; evaluations < kEvaluationsMax && low < high; ++evaluations) {
    const double left = margin(place);
    if (std::abs(left) < kNear) break;
    const int next = target_.moved(place, left);
    (next > place ? low : high) = place;
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
