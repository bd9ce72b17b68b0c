// Chunks of ec4 and ec4t, decoded.
#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

#include "quant/ec4.h"
#include "quant/float_convert.h"
#include "quant/kernels.h"
#include "quant/log_scale.h"
#include "quant/trellis.h"

namespace ballast::quant {
namespace {

constexpr size_t kPatchedInPlaceMax = 8;  // of a piece that is streamed past the caches

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
    const size_t pieces = ec4_pieces(values);
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

  // Puts the outliers, as dtype `as`, into a piece of floats or of words of 16 bits.
  template <class Word>
  Status patch(size_t count, DType as, std::span<Word> piece) {
    for (size_t i = 0; i < count; ++i) {
      const size_t position = number_at(positions_);
      if (position >= piece.size()) return fail(Errc::kCorrupt, "an outlier lies outside");
      float value = 0;
      load_f32(source_, stored_, 1, &value);
      store_f32(as, &value, 1, reinterpret_cast<std::byte*>(&piece[position]));
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

// What the symbols stand for, as floats or as words of 16 bits: 32 values, or 64 with the trellis.
template <class Word>
struct SymbolValues {
  SymbolValues(const Ec4Parameters& parameters, DType as) {
    std::array<float, 2 * kRansSymbols> values{};
    for (int symbol = 0; symbol < static_cast<int>(kRansSymbols); ++symbol) {
      const int index = symbol - kEc4IndexMax;
      const int sign = (index > 0) - (index < 0);
      if (parameters.trellis) {
        values[symbol] = static_cast<float>(2 * index) * parameters.step;
        values[symbol + kRansSymbols] = static_cast<float>(2 * index - sign) * parameters.step;
      } else {
        values[symbol] = static_cast<float>(index) * parameters.step;
      }
    }
    store_f32(as, values.data(), values.size(), reinterpret_cast<std::byte*>(of.data()));
  }
  alignas(64) std::array<Word, 2 * kRansSymbols> of;
};

// The kernel's functions for them.
Ec4DecodeFn<float> decoder_of(bool trellis, float /*word*/) {
  return trellis ? kernel().ec4t_to_32 : kernel().ec4_to_32;
}
Ec4DecodeFn<uint16_t> decoder_of(bool trellis, uint16_t /*word*/) {
  return trellis ? kernel().ec4t_to_16 : kernel().ec4_to_16;
}

// Decodes a chunk as words: floats, which may have to become another dtype, or 16 bits.
template <class Word>
class ChunkDecoder {
 public:
  ChunkDecoder(const Ec4Parameters& parameters, DType as, std::byte* out, bool streaming)
      : parameters_(parameters), as_(as), out_(out), streaming_(streaming) {}

  Status run(std::span<const std::byte> chunk, uint64_t values) {
    Ec4ChunkHead head;
    if (chunk.size() < sizeof head) return fail(Errc::kCorrupt, "a chunk without a head");
    std::memcpy(&head, chunk.data(), sizeof head);
    chunk = chunk.subspan(sizeof head);
    const size_t scale_bytes = ec4_scale_bytes(parameters_.group, values);
    if (chunk.size() < scale_bytes)
      return fail(Errc::kCorrupt, "a chunk has no room for the scales of its groups");
    scales_ = chunk.first(scale_bytes);
    chunk = chunk.subspan(scale_bytes);
    BALLAST_TRY(outliers_, Outliers::open(chunk, parameters_.source, head.outliers, values));
    if (head.vectors == 0 && chunk.empty()) {
      return pieces(values, [](Word* to, size_t count, bool) { std::fill_n(to, count, Word{0}); });
    }
    const bool lanes =
        head.vectors == 1 || head.vectors == 2 || head.vectors == 4 || head.vectors == 8;
    if (!lanes) return fail(Errc::kCorrupt, "a chunk's head is damaged");
    return coded(chunk, head.vectors * kRansVectorLanes, values);
  }

 private:
  // What a piece is decoded to.
  static constexpr bool kFloats = std::is_same_v<Word, float>;

  Status coded(std::span<const std::byte> chunk, size_t lanes, uint64_t values) {
    BALLAST_TRY(const RansFrequencies frequencies, read_frequencies(chunk));
    BALLAST_TRY(RansReader reader, RansReader::open(chunk, lanes, (values + lanes - 1) / lanes));
    const RansDecodeTable table(frequencies);
    const SymbolValues<Word> symbol_values(parameters_, kFloats ? DType::kF32 : as_);
    const auto decode = decoder_of(parameters_.trellis, Word{0});
    BALLAST_TRY_STATUS(pieces(values, [&](Word* to, size_t count, bool streaming) {
      const size_t rows = (count + lanes - 1) / lanes;
      const size_t coded = reader.prepare(rows);
      decode(table, symbol_values.of.data(), reader.cursor(), coded, to, streaming);
      if (coded < rows) close(reader, symbol_values, rows - coded, to + coded * lanes);
    }));
    return reader.finish();
  }

  // The last rows, of which the states have the symbols.
  void close(RansReader& reader, const SymbolValues<Word>& symbol_values, size_t rows,
             Word* to) const {
    std::array<uint8_t, kRansClosingRows * kRansLanesMax> symbols;
    reader.closing(rows, symbols.data());
    RansCursor& cursor = reader.cursor();
    const uint8_t* symbol = symbols.data();
    for (; rows > 0; --rows) {
      for (size_t lane = 0; lane < cursor.lanes; ++lane, ++symbol, ++to) {
        uint32_t& state = cursor.trellis[lane];
        *to = symbol_values.of[*symbol + (state & 1) * kRansSymbols];
        // Symbol 15 is index 0.
        if (parameters_.trellis) state = trellis_next(state, ~uint32_t{*symbol} & 1);
      }
    }
  }

  // Calls fill(to, count, streaming) for each piece of the chunk, applies the scales, patches in
  // the outliers, and brings the piece to the output. A whole piece is filled where it is to lie if
  // nothing speaks against it; `to` has room for a whole piece otherwise.
  template <class Fill>
  Status pieces(uint64_t values, const Fill& fill) {
    alignas(64) std::array<Word, kRansPiece> buffer;
    const bool fits =
        dtype_bytes(as_) == sizeof(Word) && reinterpret_cast<uintptr_t>(out_) % alignof(Word) == 0;
    for (uint64_t at = 0; at < values; at += kRansPiece) {
      const size_t count = std::min<uint64_t>(kRansPiece, values - at);
      BALLAST_TRY(const size_t outliers, outliers_.next_piece(at / kRansPiece));
      // Changing what was streamed past the caches fetches it again: good for a few values.
      const bool few_changes = scales_.empty() && outliers <= kPatchedInPlaceMax;
      const bool in_place = fits && count == kRansPiece && (!streaming_ || few_changes);
      Word* const to = in_place ? reinterpret_cast<Word*>(out_) : buffer.data();
      fill(to, count, in_place && streaming_);
      if constexpr (kFloats) apply_scales(at, std::span(to, count));
      BALLAST_TRY_STATUS(
          outliers_.patch(outliers, kFloats ? DType::kF32 : as_, std::span(to, count)));
      if (!in_place) store(std::span(buffer).first(count));
      out_ += count * dtype_bytes(as_);
    }
    if (streaming_) finish_streaming();
    return outliers_.finish();
  }

  // `at` is the piece's place in the chunk.
  void apply_scales(uint64_t at, std::span<float> piece) const {
    if (scales_.empty()) return;
    const size_t group = parameters_.group;
    for (const std::byte* scale = &scales_[at / group]; !piece.empty(); ++scale) {
      const auto values = piece.first(std::min(group, piece.size()));
      kernel().multiply(values.data(), values.size(),
                        kWideScaleSteps.ratio[std::to_integer<size_t>(*scale)]);
      piece = piece.subspan(values.size());
    }
  }

  void store(std::span<const Word> piece) const {
    if constexpr (kFloats) {
      for (size_t at = 0; at < piece.size(); at += kPieceValues) {
        store_f32(as_, &piece[at], std::min(kPieceValues, piece.size() - at),
                  out_ + at * dtype_bytes(as_), streaming_);
      }
    } else {
      const auto bytes = std::as_bytes(piece);
      if (streaming_) kernel().stream(bytes.data(), out_, bytes.size());
      if (!streaming_) std::memcpy(out_, bytes.data(), bytes.size());
    }
  }

  const Ec4Parameters& parameters_;
  DType as_;
  std::byte* out_;
  bool streaming_;
  std::span<const std::byte> scales_;
  Outliers outliers_;
};

}  // namespace

Status decode_ec4_chunk(const Ec4Parameters& parameters, std::span<const std::byte> chunk,
                        uint64_t values, DType as, std::byte* out, bool streaming) {
  // Values are scaled as floats.
  if (as == DType::kF32 || parameters.group != 0)
    return ChunkDecoder<float>(parameters, as, out, streaming).run(chunk, values);
  return ChunkDecoder<uint16_t>(parameters, as, out, streaming).run(chunk, values);
}

}  // namespace ballast::quant
