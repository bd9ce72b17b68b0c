// Chunks of ec4 and ec4t, encoded: rounded first, which tells their size, and then written.
#include <algorithm>
#include <array>
#include <cmath>

#include "proto/base/check.h"
#include "proto/base/limits.h"
#include "quant/ec4.h"
#include "quant/float_convert.h"
#include "quant/kernels.h"
#include "quant/log_scale.h"
#include "quant/trellis.h"

namespace ballast::quant {
namespace {

template <class T>
void append(std::vector<std::byte>& out, std::span<const T> items) {
  const auto bytes = std::as_bytes(items);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

// The chunk as floats, filled up with zeros to `padded`: as it lies, or as a copy in `buffer`.
std::span<const float> load_chunk(DType source, std::span<const std::byte> values, size_t padded,
                                  std::vector<float>& buffer) {
  const size_t width = dtype_bytes(source);
  const size_t count = values.size() / width;
  const auto address = reinterpret_cast<uintptr_t>(values.data());
  if (source == DType::kF32 && count == padded && address % alignof(float) == 0)
    return {reinterpret_cast<const float*>(values.data()), count};
  buffer.resize(padded);
  std::fill(buffer.begin() + static_cast<ptrdiff_t>(count), buffer.end(), 0.0f);
  for (size_t at = 0; at < count; at += kPieceValues) {
    load_f32(source, values.data() + at * width, std::min(kPieceValues, count - at), &buffer[at]);
  }
  return buffer;
}

// A copy in `buffer`, which may be where they are, with 0 for NaN and the largest finite magnitude
// of their group, or of all without groups, for infinities.
std::span<const float> made_finite(std::span<const float> values, size_t group,
                                   std::vector<float>& buffer) {
  if (values.data() != buffer.data()) buffer.assign(values.begin(), values.end());
  const size_t part = group == 0 ? buffer.size() : group;
  for (size_t at = 0; at < buffer.size(); at += part) {
    const auto around = std::span(buffer).subspan(at, std::min(part, buffer.size() - at));
    const float largest = kernel().abs_max(around.data(), around.size());
    for (float& value : around) {
      if (std::isnan(value)) value = 0;
      if (std::isinf(value)) value = std::copysign(largest, value);
    }
  }
  return buffer;
}

// Values that are rounded at once: those of a group, or without groups those of a piece, over which
// sums of floats stay exact enough, as if their scale had step 0, which changes nothing.
struct Part {
  size_t begin;
  size_t end;
  uint8_t scale;

  size_t size() const { return end - begin; }
};
template <class Visit>
void for_each_part(const Ec4Parameters& parameters, const Ec4Chunk& chunk, const Visit& visit) {
  const size_t most = parameters.group == 0 ? kRansPiece : parameters.group;
  for (size_t at = 0; at < chunk.symbols.size(); at += most) {
    const uint8_t scale = parameters.group == 0 ? 0 : chunk.scales[at / most];
    visit(Part{at, std::min(chunk.symbols.size(), at + most), scale});
  }
}

// In units of the scale: as they lie, or as a copy in `buffer`.
const float* scaled(const float* values, const Part& part,
                    std::array<float, kEc4Groups.back()>& buffer) {
  if (part.scale == 0) return values + part.begin;
  std::copy(values + part.begin, values + part.end, buffer.begin());
  kernel().multiply(buffer.data(), part.size(), kWideScaleSteps.inverse[part.scale]);
  return buffer.data();
}

// `unit`: of the values, in that of `sums`.
void add_sums(const QuantizeSums& lanes, double unit, ErrorSums& sums) {
  const double energy = unit * unit;
  for (size_t lane = 0; lane < kQuantizeLanes; ++lane) {
    sums += {lanes.signal[lane] * energy, lanes.decoded[lane] * energy, lanes.noise[lane] * energy,
             lanes.max_error[lane] * unit};
  }
}

// Rounds `floats` to the chunk's symbols; returns how many are outliers.
uint32_t round_to_symbols(const Ec4Parameters& parameters, std::span<const float> floats,
                          Ec4Scratch& scratch, Ec4Chunk& chunk) {
  const float inverse = parameters.shrink / parameters.step;
  chunk.symbols.resize(floats.size());
  chunk.error = {};
  QuantizeSums sums;
  uint32_t outliers = 0;
  if (parameters.trellis) {
    const size_t rows = floats.size() / chunk.lanes;
    scratch.survivors.resize(rows * kTrellisStates);
    outliers = kernel().ec4t_quantize(floats.data(), rows, chunk.lanes, inverse, parameters.shrink,
                                      scratch.survivors.data(), chunk.symbols.data(), sums);
    add_sums(sums, 1, chunk.error);
  } else {
    alignas(64) std::array<float, kEc4Groups.back()> buffer;
    for_each_part(parameters, chunk, [&](const Part& part) {
      sums = {};
      outliers += kernel().ec4_quantize(scaled(floats.data(), part, buffer), part.size(), inverse,
                                        parameters.shrink, &chunk.symbols[part.begin], sums);
      add_sums(sums, kWideScaleSteps.ratio[part.scale], chunk.error);
    });
  }
  const double step = double{parameters.step} / parameters.shrink;
  chunk.error.signal_energy *= step * step;
  chunk.error.decoded_energy *= step * step;
  chunk.error.noise_energy *= step * step;
  chunk.error.max_abs_error *= step;
  return outliers;
}

// The finite ones. An outlier is stored as it is, so it adds to the energies and not to the noise.
void find_outliers(const Ec4Parameters& parameters, std::span<const float> floats,
                   Ec4Chunk& chunk) {
  const float inverse = parameters.shrink / parameters.step;
  const float limit = parameters.trellis ? kEc4tOutlier : kEc4Outlier;
  chunk.outliers.clear();
  chunk.outlier_energy = 0;
  for_each_part(parameters, chunk, [&](const Part& part) {
    const float factor = kWideScaleSteps.inverse[part.scale];
    if (kernel().abs_max(&floats[part.begin], part.size()) * factor * inverse < limit) return;
    for (size_t i = part.begin; i < part.end; ++i) {
      if (!(std::abs(floats[i] * factor * inverse) >= limit) || std::isinf(floats[i])) continue;
      chunk.outliers.push_back({static_cast<uint32_t>(i), floats[i]});
      chunk.outlier_energy += double{floats[i]} * floats[i];
    }
  });
  chunk.error.signal_energy += chunk.outlier_energy;
  chunk.error.decoded_energy += chunk.outlier_energy;
}

void append_outliers(DType source, const Ec4Chunk& chunk, std::vector<std::byte>& out) {
  if (chunk.outliers.empty()) return;
  std::vector<uint16_t> in_piece(ec4_pieces(chunk.values));
  std::vector<uint16_t> positions;
  for (const auto& outlier : chunk.outliers) {
    ++in_piece[outlier.place / kRansPiece];
    positions.push_back(static_cast<uint16_t>(outlier.place % kRansPiece));
  }
  append(out, std::span<const uint16_t>(in_piece));
  append(out, std::span<const uint16_t>(positions));
  for (const auto& outlier : chunk.outliers) {
    // Infinities were replaced; everything else is kept bit for bit.
    alignas(4) std::array<std::byte, 4> stored;
    store_f32(source, &outlier.value, 1, stored.data());
    append(out, std::span<const std::byte>(stored).first(dtype_bytes(source)));
  }
}

bool all_zero(const Ec4Chunk& chunk) { return chunk.counts[kEc4IndexMax] == chunk.symbols.size(); }

}  // namespace

void quantize_ec4_chunk(const Ec4Parameters& parameters, std::span<const std::byte> values,
                        Ec4Scratch& scratch, Ec4Chunk& chunk) {
  const size_t count = values.size() / dtype_bytes(parameters.source);
  BALLAST_CHECK(count > 0 && count <= limits::kChunkValues);
  chunk.values = count;
  chunk.lanes = rans_lanes(count);
  const size_t rows = (count + chunk.lanes - 1) / chunk.lanes;
  auto floats = load_chunk(parameters.source, values, rows * chunk.lanes, scratch.floats);
  uint32_t outliers = round_to_symbols(parameters, floats, scratch, chunk);
  find_outliers(parameters, floats, chunk);
  // Others are NaN or infinite: to look for these in every chunk would take longer.
  if (outliers != chunk.outliers.size()) {
    floats = made_finite(floats, parameters.group, scratch.floats);
    outliers = round_to_symbols(parameters, floats, scratch, chunk);
    find_outliers(parameters, floats, chunk);
  }
  BALLAST_CHECK(outliers == chunk.outliers.size());
  chunk.counts = count_symbols(chunk.symbols);
}

double ec4_chunk_bits(DType source, const Ec4Chunk& chunk) {
  double bits = 8.0 * static_cast<double>(sizeof(Ec4ChunkHead) + chunk.scales.size());
  if (!chunk.outliers.empty()) {
    bits += 16.0 * static_cast<double>(ec4_pieces(chunk.values));
    bits += static_cast<double>(chunk.outliers.size()) *
            (16 + 8.0 * static_cast<double>(dtype_bytes(source)));
  }
  if (all_zero(chunk)) return bits;
  const RansFrequencies frequencies = rans_frequencies(chunk.counts);
  const double symbol_bits = rans_bits(chunk.counts, frequencies);
  return bits + symbol_bits +
         ec4_side_bits(chunk.lanes, symbol_bits / static_cast<double>(chunk.symbols.size()));
}

std::vector<std::byte> write_ec4_chunk(DType source, const Ec4Chunk& chunk, Ec4Scratch& scratch) {
  const bool zero = all_zero(chunk);
  const Ec4ChunkHead head{static_cast<uint32_t>(zero ? 0 : chunk.lanes / kRansVectorLanes),
                          static_cast<uint32_t>(chunk.outliers.size())};
  std::vector<std::byte> bytes;
  append(bytes, std::span(&head, 1));
  append(bytes, chunk.scales);
  append_outliers(source, chunk, bytes);
  if (zero) return bytes;
  const RansFrequencies frequencies = rans_frequencies(chunk.counts);
  append_frequencies(frequencies, bytes);
  rans_encode(frequencies, chunk.symbols, chunk.lanes, scratch.words, bytes);
  return bytes;
}

}  // namespace ballast::quant
