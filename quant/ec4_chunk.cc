#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "proto/base/check.h"
#include "proto/base/limits.h"
#include "quant/ec4.h"
#include "quant/float_convert.h"
#include "quant/kernels.h"
#include "quant/rans.h"
#include "quant/trellis.h"

namespace ballast::quant {
namespace {

enum class Mode : uint8_t { kZero = 0, kCoded = 1 };

struct ChunkHead {
  Mode mode = Mode::kZero;
  uint8_t vectors = 0;  // lanes / kRansVectorLanes
  uint16_t reserved = 0;
  uint32_t outliers = 0;
};
static_assert(sizeof(ChunkHead) == 8);

constexpr size_t kPatchedInPlaceMax = 8;  // of a piece that is streamed past the caches

constexpr size_t pieces_for(uint64_t values) { return (values + kRansPiece - 1) / kRansPiece; }

template <class T>
void append(std::vector<std::byte>& out, std::span<const T> items) {
  const auto bytes = std::as_bytes(items);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

// ---- encoding ----

bool all_finite(std::span<const float> values) {
  uint32_t largest = 0;
  for (const float value : values) {
    largest = std::max(largest, std::bit_cast<uint32_t>(value) & 0x7fffffff);
  }
  return largest < 0x7f800000;
}

// The chunk as floats, filled up with zeros to `padded`: NaN as 0, infinities as the largest finite
// magnitude of the chunk.
void load_chunk(DType source, std::span<const std::byte> values, size_t padded,
                std::vector<float>& floats) {
  const size_t width = dtype_bytes(source);
  const size_t count = values.size() / width;
  floats.resize(padded);
  std::fill(floats.begin() + static_cast<ptrdiff_t>(count), floats.end(), 0.0f);
  for (size_t at = 0; at < count; at += kPieceValues) {
    load_f32(source, values.data() + at * width, std::min(kPieceValues, count - at), &floats[at]);
  }
  if (all_finite(floats)) return;
  const float largest = kernel().abs_max(floats.data(), count);
  for (float& value : floats) {
    if (std::isnan(value)) value = 0;
    if (std::isinf(value)) value = std::copysign(largest, value);
  }
}

void add_sums(const QuantizeSums& lanes, ErrorSums& sums) {
  for (size_t lane = 0; lane < kQuantizeLanes; ++lane) {
    sums += {lanes.signal[lane], lanes.decoded[lane], lanes.noise[lane], lanes.max_error[lane]};
  }
}

class ChunkEncoder {
 public:
  ChunkEncoder(const Ec4Parameters& parameters, std::span<const std::byte> values,
               Ec4Scratch& scratch)
      : parameters_(parameters),
        count_(values.size() / dtype_bytes(parameters.source)),
        lanes_(rans_lanes(count_)),
        rows_((count_ + lanes_ - 1) / lanes_),
        scratch_(scratch),
        floats_(scratch.floats),
        symbols_(scratch.symbols) {
    load_chunk(parameters.source, values, rows_ * lanes_, floats_);
    symbols_.resize(rows_ * lanes_);
  }

  EncodedEc4Chunk run() {
    EncodedEc4Chunk chunk;
    quantize(chunk.error);
    find_outliers(chunk.error);
    chunk.outliers = static_cast<uint32_t>(outliers_.size());
    const RansCounts counts = count_symbols(symbols_);
    const bool zero = counts[kEc4IndexMax] == symbols_.size();
    const ChunkHead head{zero ? Mode::kZero : Mode::kCoded,
                         static_cast<uint8_t>(zero ? 0 : lanes_ / kRansVectorLanes), 0,
                         chunk.outliers};
    append(chunk.bytes, std::span(&head, 1));
    append_outliers(chunk.bytes);
    if (zero) return chunk;
    const RansFrequencies frequencies = rans_frequencies(counts);
    std::array<std::byte, kRansFrequencyBytes> table;
    write_frequencies(frequencies, table);
    append(chunk.bytes, std::span<const std::byte>(table));
    rans_encode(frequencies, symbols_, lanes_, scratch_.words, chunk.bytes);
    return chunk;
  }

 private:
  void quantize(ErrorSums& error) {
    const float inverse = 1 / parameters_.step;
    QuantizeSums sums;
    if (parameters_.trellis) {
      scratch_.survivors.resize(rows_ * kTrellisStates);
      kernel().ec4t_quantize(floats_.data(), rows_, lanes_, inverse, scratch_.survivors.data(),
                             symbols_.data(), sums);
      add_sums(sums, error);
    } else {
      // Sums of floats stay exact enough over a piece.
      for (size_t at = 0; at < floats_.size(); at += kRansPiece) {
        const size_t part = std::min(kRansPiece, floats_.size() - at);
        sums = {};
        kernel().ec4_quantize(&floats_[at], part, inverse, &symbols_[at], sums);
        add_sums(sums, error);
      }
    }
    const double step = parameters_.step;
    error.signal_energy *= step * step;
    error.decoded_energy *= step * step;
    error.noise_energy *= step * step;
    error.max_abs_error *= step;
  }

  // An outlier is stored as it is, so it adds to the energies and not to the noise.
  void find_outliers(ErrorSums& error) {
    const float inverse = 1 / parameters_.step;
    const float limit = parameters_.trellis ? kEc4tOutlier : kEc4Outlier;
    for (size_t at = 0; at < count_; at += kRansPiece) {
      const size_t end = std::min(count_, at + kRansPiece);
      if (kernel().abs_max(&floats_[at], end - at) * inverse < limit) continue;
      for (size_t i = at; i < end; ++i) {
        if (std::abs(floats_[i] * inverse) < limit) continue;
        outliers_.push_back(static_cast<uint32_t>(i));
        const double energy = double{floats_[i]} * floats_[i];
        error.signal_energy += energy;
        error.decoded_energy += energy;
      }
    }
  }

  void append_outliers(std::vector<std::byte>& out) const {
    if (outliers_.empty()) return;
    std::vector<uint16_t> in_piece(pieces_for(count_));
    std::vector<uint16_t> positions;
    for (const uint32_t i : outliers_) {
      ++in_piece[i / kRansPiece];
      positions.push_back(static_cast<uint16_t>(i % kRansPiece));
    }
    append(out, std::span<const uint16_t>(in_piece));
    append(out, std::span<const uint16_t>(positions));
    const size_t width = dtype_bytes(parameters_.source);
    for (const uint32_t i : outliers_) {
      // Infinities were replaced; everything else is kept bit for bit.
      alignas(4) std::array<std::byte, 4> stored;
      store_f32(parameters_.source, &floats_[i], 1, stored.data());
      append(out, std::span<const std::byte>(stored).first(width));
    }
  }

  const Ec4Parameters& parameters_;
  const size_t count_;
  const size_t lanes_;
  const size_t rows_;
  Ec4Scratch& scratch_;
  std::vector<float>& floats_;
  std::vector<uint8_t>& symbols_;
  std::vector<uint32_t> outliers_;
};

// ---- decoding ----

// The outliers of a chunk, piece by piece.
class Outliers {
 public:
  // Takes what it needs from the front of `bytes`. Errors: kCorrupt.
  static Result<Outliers> open(std::span<const std::byte>& bytes, DType source, uint32_t count,
                               uint64_t values) {
    Outliers outliers;
    outliers.source_ = source;
    outliers.width_ = dtype_bytes(source);
    if (count == 0) return outliers;
    const size_t pieces = pieces_for(values);
    const size_t needed = pieces * 2 + count * (2 + outliers.width_);
    if (count > values || bytes.size() < needed)
      return fail(Errc::kCorrupt, "a chunk has no room for its {} outliers", count);
    outliers.counts_ = bytes.data();
    outliers.positions_ = bytes.data() + pieces * 2;
    outliers.stored_ = outliers.positions_ + count * size_t{2};
    outliers.left_ = count;
    bytes = bytes.subspan(needed);
    return outliers;
  }

  // The outliers of the next piece, which patch() consumes.
  Result<size_t> next_piece(size_t piece) const {
    if (counts_ == nullptr) return size_t{0};
    const size_t count = number_at(counts_ + piece * 2);
    if (count > left_) return fail(Errc::kCorrupt, "a chunk's outliers are more than it says");
    return count;
  }

  Status patch(size_t count, std::span<float> piece) {
    for (size_t i = 0; i < count; ++i) {
      const size_t position = number_at(positions_);
      if (position >= piece.size()) return fail(Errc::kCorrupt, "an outlier lies outside");
      load_f32(source_, stored_, 1, &piece[position]);
      positions_ += 2;
      stored_ += width_;
      --left_;
    }
    return {};
  }

  Status finish() const {
    if (left_ == 0) return {};
    return fail(Errc::kCorrupt, "a chunk's outliers are fewer than it says");
  }

 private:
  static uint16_t number_at(const std::byte* at) {
    uint16_t number = 0;
    std::memcpy(&number, at, sizeof number);
    return number;
  }

  DType source_ = DType::kF32;
  size_t width_ = 0;
  const std::byte* counts_ = nullptr;
  const std::byte* positions_ = nullptr;
  const std::byte* stored_ = nullptr;
  size_t left_ = 0;
};

// What the symbols stand for: 32 values, or 64 with the trellis.
struct SymbolValues {
  explicit SymbolValues(const Ec4Parameters& parameters) : of{} {
    for (int symbol = 0; symbol < static_cast<int>(kRansSymbols); ++symbol) {
      const int index = symbol - kEc4IndexMax;
      const int sign = (index > 0) - (index < 0);
      if (parameters.trellis) {
        of[symbol] = static_cast<float>(2 * index) * parameters.step;
        of[symbol + kRansSymbols] = static_cast<float>(2 * index - sign) * parameters.step;
      } else {
        of[symbol] = static_cast<float>(index) * parameters.step;
      }
    }
  }
  alignas(64) std::array<float, 2 * kRansSymbols> of;
};

class ChunkDecoder {
 public:
  ChunkDecoder(const Ec4Parameters& parameters, DType as, std::byte* out, bool streaming)
      : parameters_(parameters), as_(as), out_(out), streaming_(streaming) {}

  Status run(std::span<const std::byte> chunk, uint64_t values) {
    ChunkHead head;
    if (chunk.size() < sizeof head) return fail(Errc::kCorrupt, "a chunk without a head");
    std::memcpy(&head, chunk.data(), sizeof head);
    chunk = chunk.subspan(sizeof head);
    if (head.reserved != 0) return fail(Errc::kCorrupt, "a chunk's head is damaged");
    BALLAST_TRY(outliers_, Outliers::open(chunk, parameters_.source, head.outliers, values));
    if (head.mode == Mode::kZero && head.vectors == 0 && chunk.empty()) {
      return pieces(values, [](float* to, size_t count, bool) { std::fill_n(to, count, 0.0f); });
    }
    const bool lanes =
        head.vectors == 1 || head.vectors == 2 || head.vectors == 4 || head.vectors == 8;
    if (head.mode != Mode::kCoded || !lanes || chunk.size() < kRansFrequencyBytes)
      return fail(Errc::kCorrupt, "a chunk's head is damaged");
    return coded(chunk, head.vectors * kRansVectorLanes, values);
  }

 private:
  Status coded(std::span<const std::byte> chunk, size_t lanes, uint64_t values) {
    BALLAST_TRY(const RansFrequencies frequencies,
                read_frequencies(chunk.first<kRansFrequencyBytes>()));
    BALLAST_TRY(RansReader reader, RansReader::open(chunk.subspan(kRansFrequencyBytes), lanes));
    const RansDecodeTable table(frequencies);
    const SymbolValues symbol_values(parameters_);
    const auto decode = parameters_.trellis ? kernel().ec4t_decode : kernel().ec4_decode;
    BALLAST_TRY_STATUS(pieces(values, [&](float* to, size_t count, bool streaming) {
      const size_t rows = (count + lanes - 1) / lanes;
      reader.prepare(rows);
      decode(table, symbol_values.of.data(), reader.cursor(), rows, to, streaming);
    }));
    return reader.finish();
  }

  // Calls fill(to, count, streaming) for each piece of the chunk, patches in the outliers, and
  // brings the piece to the output. A whole piece is filled where it is to lie if nothing speaks
  // against it; `to` has room for a whole piece otherwise.
  template <class Fill>
  Status pieces(uint64_t values, const Fill& fill) {
    alignas(64) std::array<float, kRansPiece> buffer;
    const bool aligned = reinterpret_cast<uintptr_t>(out_) % alignof(float) == 0;
    for (uint64_t at = 0; at < values; at += kRansPiece) {
      const size_t count = std::min<uint64_t>(kRansPiece, values - at);
      BALLAST_TRY(const size_t outliers, outliers_.next_piece(at / kRansPiece));
      // Patching what was streamed past the caches fetches it again: good for a few values.
      const bool in_place = as_ == DType::kF32 && aligned && count == kRansPiece &&
                            (!streaming_ || outliers <= kPatchedInPlaceMax);
      float* const to = in_place ? reinterpret_cast<float*>(out_) : buffer.data();
      fill(to, count, in_place && streaming_);
      BALLAST_TRY_STATUS(outliers_.patch(outliers, std::span(to, count)));
      if (!in_place) store(buffer, count);
      out_ += count * dtype_bytes(as_);
    }
    return outliers_.finish();
  }

  void store(std::span<const float> buffer, size_t count) const {
    for (size_t at = 0; at < count; at += kPieceValues) {
      store_f32(as_, &buffer[at], std::min(kPieceValues, count - at), out_ + at * dtype_bytes(as_));
    }
  }

  const Ec4Parameters& parameters_;
  DType as_;
  std::byte* out_;
  bool streaming_;
  Outliers outliers_;
};

}  // namespace

EncodedEc4Chunk encode_ec4_chunk(const Ec4Parameters& parameters, std::span<const std::byte> values,
                                 Ec4Scratch& scratch) {
  BALLAST_CHECK(!values.empty() &&
                values.size() <= limits::kChunkValues * dtype_bytes(parameters.source));
  return ChunkEncoder(parameters, values, scratch).run();
}

Status decode_ec4_chunk(const Ec4Parameters& parameters, std::span<const std::byte> chunk,
                        uint64_t values, DType as, std::byte* out, bool streaming) {
  return ChunkDecoder(parameters, as, out, streaming).run(chunk, values);
}

}  // namespace ballast::quant
