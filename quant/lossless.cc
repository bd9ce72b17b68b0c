#include "quant/lossless.h"

#include <algorithm>
#include <cstring>

#include "quant/float_convert.h"
#include "quant/kernels.h"
#include "quant/rans.h"

namespace ballast::quant {
namespace {

std::vector<std::byte> with_mode(ChunkMode mode, std::span<const std::byte> bytes) {
  std::vector<std::byte> chunk(1 + bytes.size());
  chunk[0] = static_cast<std::byte>(mode);
  std::ranges::copy(bytes, chunk.begin() + 1);
  return chunk;
}

bool is_constant(std::span<const std::byte> values, size_t width) {
  // All values equal the first if each equals the one before.
  return std::memcmp(values.data(), values.data() + width, values.size() - width) == 0;
}

Status decode_constant(std::span<const std::byte> value, DType source, size_t values,
                       ValueSink& sink) {
  const size_t width = dtype_bytes(source);
  if (value.size() != width) {
    return fail(Errc::kCorrupt, "a chunk has {} bytes for its only value", value.size());
  }
  for (size_t at = 0; at < values; at += kSymbolPiece) {
    const size_t count = std::min(kSymbolPiece, values - at);
    std::byte* out = sink.next();
    for (size_t i = 0; i < count; ++i) std::ranges::copy(value, out + i * width);
    sink.done(count);
  }
  return {};
}

Status decode_copy(std::span<const std::byte> from, DType source, size_t values, ValueSink& sink) {
  const size_t width = dtype_bytes(source);
  if (from.size() != values * width) {
    return fail(Errc::kCorrupt, "a chunk has {} bytes for {} values as they are", from.size(),
                values);
  }
  for (size_t at = 0; at < values; at += kSymbolPiece) {
    const size_t count = std::min(kSymbolPiece, values - at);
    std::memcpy(sink.next(), from.data() + at * width, count * width);
    sink.done(count);
  }
  return {};
}

}  // namespace

void ValueSink::done(size_t count) {
  const size_t from_bytes = dtype_bytes(source_);
  const size_t to_bytes = dtype_bytes(as_);
  if (as_ == source_) {
    if (streaming_) kernel().stream(buffer_.data(), out_, count * to_bytes);
    out_ += count * to_bytes;
    return;
  }
  alignas(64) std::array<float, kPieceValues> piece;
  for (size_t at = 0; at < count; at += kPieceValues) {
    const size_t part = std::min(kPieceValues, count - at);
    load_f32(source_, buffer_.data() + at * from_bytes, part, piece.data());
    store_f32(as_, piece.data(), part, out_, streaming_);
    out_ += part * to_bytes;
  }
}

// Exponents are few bits of what a chunk takes: many lanes cost less than in ec4, and decode
// faster.
size_t lanes_for(size_t symbols) {
  if (symbols >= 16 * 1024) return 128;
  return symbols >= 4 * 1024 ? 64 : 16;
}

Result<SymbolReader> SymbolReader::open(std::span<const std::byte> bytes, size_t count) {
  BALLAST_TRY(const RansFrequencies frequencies, read_frequencies(bytes));
  const size_t lanes = lanes_for(count);
  BALLAST_TRY(RansReader reader, RansReader::open(bytes, lanes, (count + lanes - 1) / lanes));
  return SymbolReader(RansDecodeTable(frequencies), std::move(reader), lanes);
}

void SymbolReader::next(size_t count, uint8_t* symbols) {
  const size_t rows = (count + lanes_ - 1) / lanes_;
  const size_t coded = reader_.prepare(rows);
  kernel().rans_decode(table_, reader_.cursor(), coded, symbols);
  reader_.closing(rows - coded, symbols + coded * lanes_);
}

void append_symbols(std::vector<uint8_t> symbols, std::vector<std::byte>& out) {
  const RansCounts counts = count_symbols(symbols);
  const RansFrequencies frequencies = rans_frequencies(counts);
  append_frequencies(frequencies, out);
  // The coder takes whole rows: filled up with what costs least.
  const size_t lanes = lanes_for(symbols.size());
  const auto filler = std::ranges::max_element(counts) - counts.begin();
  symbols.resize((symbols.size() + lanes - 1) / lanes * lanes, static_cast<uint8_t>(filler));
  std::vector<uint16_t> words;
  rans_encode(frequencies, symbols, lanes, words, out);
}

std::vector<std::byte> encode_lossless_chunk(const ChunkValues& chunk) {
  const size_t width = dtype_bytes(chunk.source);
  const bool has_base = !chunk.base.empty();
  if (has_base && std::ranges::equal(chunk.values, chunk.base)) {
    return with_mode(ChunkMode::kUnchanged, {});
  }
  if (is_constant(chunk.values, width)) {
    return with_mode(ChunkMode::kConstant, chunk.values.first(width));
  }
  std::vector<std::byte> best = with_mode(ChunkMode::kStored, chunk.values);
  if (has_base) {
    std::vector<std::byte> differences = encode_differences(chunk);
    if (differences.size() < best.size()) best = std::move(differences);
  }
  std::vector<std::byte> exponents = encode_exponents(chunk, best.size());
  if (!exponents.empty() && exponents.size() < best.size()) best = std::move(exponents);
  return best;
}

Status decode_lossless_chunk(std::span<const std::byte> bytes, DType source, size_t values,
                             std::span<const std::byte> base, ValueSink& sink) {
  if (bytes.empty()) return fail(Errc::kCorrupt, "a chunk has no bytes");
  const std::span<const std::byte> rest = bytes.subspan(1);
  const auto mode = static_cast<ChunkMode>(bytes[0]);
  const bool needs_base = mode == ChunkMode::kUnchanged || mode == ChunkMode::kDifferences;
  if (needs_base && base.empty()) {
    return fail(Errc::kCorrupt, "a chunk is a difference in a block that has no base");
  }
  switch (mode) {
    case ChunkMode::kStored: return decode_copy(rest, source, values, sink);
    case ChunkMode::kConstant: return decode_constant(rest, source, values, sink);
    case ChunkMode::kExponents: return decode_exponents(rest, source, values, sink);
    case ChunkMode::kUnchanged:
      if (!rest.empty()) return fail(Errc::kCorrupt, "bytes follow an unchanged chunk");
      return decode_copy(base, source, values, sink);
    case ChunkMode::kDifferences: return decode_differences(rest, source, values, base, sink);
  }
  return fail(Errc::kCorrupt, "there is no chunk mode {}", static_cast<int>(mode));
}

}  // namespace ballast::quant
