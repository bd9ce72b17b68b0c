// Lloyd's algorithm: encode the sample, then move every entry to the middle of what it stands for,
// until nothing moves. A value weighs what its error weighs in the end: its scale, squared.
//
// All sums are doubles, taken in the order of the values, so the result is the same everywhere.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "quant/float_convert.h"
#include "quant/int4.h"
#include "quant/kernels.h"
#include "quant/log_scale.h"

namespace ballast::quant {
namespace {

constexpr size_t kPassesMax = 12;
constexpr size_t kValuesMin = 256;
constexpr int kEntryMax = 127;

struct Centroids {
  std::array<double, 16> weighted{};
  std::array<double, 16> weight{};

  void add_batch(const EncodeTable& table, const float* values, const EncodedBatch& batch) {
    for (size_t at = 0; at < kBatchGroups; ++at) {
      const uint8_t scale = batch.scales[at];
      const double ratio = kScaleSteps.ratio[scale % kScaleSignBit];
      const double factor = scale >= kScaleSignBit ? -ratio : ratio;
      for (size_t i = at * table.group; i < (at + 1) * table.group; ++i) {
        if (!std::isfinite(values[i])) continue;
        // (value / scale) x scale^2
        weighted[batch.codes[i]] += double{values[i] * table.inverse_base} * factor;
        weight[batch.codes[i]] += ratio * ratio;
      }
    }
  }
};

// Rounds entries to a codebook: the one next to zero becomes 0, the largest magnitude 127, and no
// two are equal.
Codebook to_codebook(std::array<double, 16> entries) {
  const auto smaller = [](double a, double b) { return std::abs(a) < std::abs(b); };
  const double largest = std::abs(*std::ranges::max_element(entries, smaller));
  const auto zero =
      static_cast<size_t>(std::ranges::min_element(entries, smaller) - entries.begin());
  const auto rounded = [&](size_t i) {
    return static_cast<int>(std::floor(entries[i] / largest * kEntryMax + 0.5));
  };
  Codebook codebook{};
  for (size_t i = zero + 1; i < codebook.size(); ++i) {
    const int room = kEntryMax - static_cast<int>(codebook.size() - 1 - i);
    codebook[i] = static_cast<int8_t>(std::clamp(rounded(i), codebook[i - 1] + 1, room));
  }
  for (size_t i = zero; i-- > 0;) {
    const int room = static_cast<int>(i) - kEntryMax;
    codebook[i] = static_cast<int8_t>(std::clamp(rounded(i), room, codebook[i + 1] - 1));
  }
  return codebook;
}

Codebook improve(const Codebook& codebook, std::span<const float> values, float base,
                 size_t group) {
  const EncodeTable table(base, codebook, group);
  Centroids centroids;
  EncodedBatch batch;
  const size_t step = kBatchGroups * group;
  for (size_t at = 0; at < values.size(); at += step) {
    kernel().int4_encode(table, &values[at], batch);
    centroids.add_batch(table, &values[at], batch);
  }
  std::array<double, 16> entries{};
  for (size_t i = 0; i < entries.size(); ++i) {
    entries[i] = centroids.weight[i] > 0 ? centroids.weighted[i] / centroids.weight[i]
                                         : double{table.value[i]};
  }
  return to_codebook(entries);
}

}  // namespace

Codebook learn_codebook(std::span<const std::byte> values, DType source, size_t group) {
  const size_t value_bytes = dtype_bytes(source);
  const size_t count = values.size() / value_bytes;
  if (count < kValuesMin) return kNormalCodebook;
  // Filled up with zeros to whole batches: zeros change no centroid but that of the entry 0.
  const size_t step = kBatchGroups * group;
  std::vector<float> sample((count + step - 1) / step * step);
  for (size_t at = 0; at < count; at += kPieceValues) {
    load_f32(source, values.data() + at * value_bytes, std::min(kPieceValues, count - at),
             &sample[at]);
  }
  const float base = choose_scale_base(values, source);
  Codebook codebook = kNormalCodebook;
  for (size_t pass = 0; pass < kPassesMax; ++pass) {
    const Codebook better = improve(codebook, sample, base, group);
    if (better == codebook) break;
    codebook = better;
  }
  return codebook;
}

Codebook codebook_of(const BlockHeader& header) {
  Codebook codebook;
  std::memcpy(codebook.data(), header.parameters.data(), sizeof codebook);
  return codebook;
}

bool has_codebook(const BlockHeader& header) {
  const Codebook codebook = codebook_of(header);
  constexpr std::array<std::byte, kHeaderParameterBytes - sizeof codebook> kUnused{};
  const auto unused = std::span(header.parameters).subspan<sizeof codebook>();
  return header.scale_type == ScaleType::kLogScale && header.scale_base >= kScaleBaseMin &&
         header.scale_base <= kScaleBaseMax &&
         std::memcmp(unused.data(), kUnused.data(), sizeof kUnused) == 0 &&
         std::ranges::find(codebook, INT8_MIN) == codebook.end();
}

}  // namespace ballast::quant
