// Chunks of ec4 and ec4t, encoded: rounded first, which tells their size, and then written.
#include <algorithm>
#include <cmath>

#include "proto/base/check.h"
#include "proto/base/limits.h"
#include "quant/ec4.h"
#include "quant/float_convert.h"
#include "quant/kernels.h"
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
// for infinities.
std::span<const float> made_finite(std::span<const float> values, std::vector<float>& buffer) {
  const float largest = kernel().abs_max(values.data(), values.size());
  if (values.data() != buffer.data()) buffer.assign(values.begin(), values.end());
  for (float& value : buffer) {
    if (std::isnan(value)) value = 0;
    if (std::isinf(value)) value = std::copysign(largest, value);
  }
  return buffer;
}

void add_sums(const QuantizeSums& lanes, ErrorSums& sums) {
  for (size_t lane = 0; lane < kQuantizeLanes; ++lane) {
    sums += {lanes.signal[lane], lanes.decoded[lane], lanes.noise[lane], lanes.max_error[lane]};
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
    add_sums(sums, chunk.error);
  } else {
    // Sums of floats stay exact enough over a piece.
    for (size_t at = 0; at < floats.size(); at += kRansPiece) {
      const size_t part = std::min(kRansPiece, floats.size() - at);
      sums = {};
      outliers += kernel().ec4_quantize(&floats[at], part, inverse, parameters.shrink,
                                        &chunk.symbols[at], sums);
      add_sums(sums, chunk.error);
    }
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
  for (size_t at = 0; at < floats.size(); at += kRansPiece) {
    const size_t end = std::min(floats.size(), at + kRansPiece);
    if (kernel().abs_max(&floats[at], end - at) * inverse < limit) continue;
    for (size_t i = at; i < end; ++i) {
      if (!(std::abs(floats[i] * inverse) >= limit) || std::isinf(floats[i])) continue;
      chunk.outliers.push_back({static_cast<uint32_t>(i), floats[i]});
      const double energy = double{floats[i]} * floats[i];
      chunk.error.signal_energy += energy;
      chunk.error.decoded_energy += energy;
    }
  }
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
    floats = made_finite(floats, scratch.floats);
    outliers = round_to_symbols(parameters, floats, scratch, chunk);
    find_outliers(parameters, floats, chunk);
  }
  BALLAST_CHECK(outliers == chunk.outliers.size());
  chunk.counts = count_symbols(chunk.symbols);
}

double ec4_chunk_bits(DType source, const Ec4Chunk& chunk) {
  double bits = 8.0 * sizeof(Ec4ChunkHead);
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
  append_outliers(source, chunk, bytes);
  if (zero) return bytes;
  const RansFrequencies frequencies = rans_frequencies(chunk.counts);
  append_frequencies(frequencies, bytes);
  rans_encode(frequencies, chunk.symbols, chunk.lanes, scratch.words, bytes);
  return bytes;
}

}  // namespace ballast::quant
