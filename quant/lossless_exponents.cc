// Chunks whose exponents are entropy-coded.
#include <algorithm>
#include <utility>

#include "quant/byte_cursor.h"
#include "quant/kernels.h"
#include "quant/lossless.h"

namespace ballast::quant {
namespace {

// f32 and bf16 have 256 exponents. The most frequent ones have symbols; the others are written as
// they are, behind this one.
constexpr uint8_t kEscape = 31;
constexpr size_t kRankedMax = kEscape;
using SymbolTable = std::array<uint8_t, 32>;

// Bit 0 of the flags: all of `rest` is zero and left out, as with values that once were bf16.
constexpr uint8_t kNoRest = 1;

size_t rest_bytes(DType source, size_t values) {
  switch (source) {
    case DType::kF32: return 2 * values;
    case DType::kF16: return (values + kThreesValues - 1) / kThreesValues * kThreesBytes;
    default: return 0;
  }
}

LosslessKernel::Split split_of(DType source) {
  const LosslessKernel& loops = kernel().lossless;
  return source == DType::kF32   ? loops.f32_split
         : source == DType::kF16 ? loops.f16_split
                                 : loops.bf16_split;
}

LosslessKernel::Merge merge_of(DType source) {
  const LosslessKernel& loops = kernel().lossless;
  return source == DType::kF32   ? loops.f32_merge
         : source == DType::kF16 ? loops.f16_merge
                                 : loops.bf16_merge;
}

// The exponents that have symbols, most frequent first.
std::vector<uint8_t> rank(std::span<const uint8_t> exponents) {
  // Neighbours often are equal: counting in turns does not wait for the count before.
  std::array<std::array<uint32_t, 256>, 4> counts{};
  for (size_t i = 0; i < exponents.size(); ++i) ++counts[i % 4][exponents[i]];
  for (size_t i = 0; i < 256; ++i) counts[0][i] += counts[1][i] + counts[2][i] + counts[3][i];
  std::vector<uint8_t> ranked;
  for (size_t i = 0; i < 256; ++i) {
    if (counts[0][i] > 0) ranked.push_back(static_cast<uint8_t>(i));
  }
  std::ranges::sort(ranked, [&](uint8_t a, uint8_t b) {
    return std::pair(counts[0][b], a) < std::pair(counts[0][a], b);
  });
  ranked.resize(std::min(ranked.size(), kRankedMax));
  return ranked;
}

// Turns exponents into symbols and returns the exponents that have none.
std::vector<uint8_t> to_symbols(std::span<const uint8_t> ranked, std::span<uint8_t> exponents) {
  std::array<uint8_t, 256> symbol;
  symbol.fill(kEscape);
  for (size_t i = 0; i < ranked.size(); ++i) symbol[ranked[i]] = static_cast<uint8_t>(i);
  std::vector<uint8_t> escaped;
  for (uint8_t& exponent : exponents) {
    const uint8_t found = symbol[exponent];
    if (found == kEscape) escaped.push_back(exponent);
    exponent = found;
  }
  return escaped;
}

struct Chunk {
  bool ranked = false;  // symbols are ranks, not exponents
  SymbolTable exponents{};
  std::span<const uint8_t> fine;
  std::span<const uint8_t> rest;  // empty: zeros
  std::span<const uint8_t> escaped;
  std::span<const std::byte> symbols;
};

Result<Chunk> parse(std::span<const std::byte> bytes, DType source, size_t values) {
  ByteCursor cursor(bytes);
  Chunk chunk;
  const uint8_t flags = cursor.u8();
  size_t escapes = 0;
  size_t ranks = 0;
  chunk.ranked = source != DType::kF16;
  if (chunk.ranked) {
    ranks = cursor.u8();
    if (ranks <= kRankedMax) std::ranges::copy(cursor.take(ranks), chunk.exponents.begin());
    escapes = cursor.u32();
  }
  chunk.fine = cursor.take(values);
  if ((flags & kNoRest) == 0) chunk.rest = cursor.take(rest_bytes(source, values));
  chunk.escaped = cursor.take(escapes);
  chunk.symbols = cursor.rest();
  if (cursor.failed() || ranks > kRankedMax || flags > (source == DType::kF32 ? kNoRest : 0)) {
    return fail(Errc::kCorrupt, "a chunk of {} bytes can't be the exponents of {} values",
                bytes.size(), values);
  }
  return chunk;
}

// Puts the exponents that have no symbol in place. REQUIRES: there are as many as escapes.
void insert_escaped(std::span<const uint8_t> symbols, std::span<const uint8_t> escaped,
                    uint8_t* exponents) {
  size_t used = 0;
  for (size_t i = 0; used < escaped.size(); ++i) {
    if (symbols[i] == kEscape) exponents[i] = escaped[used++];
  }
}

}  // namespace

std::vector<std::byte> encode_exponents(const ChunkValues& chunk, size_t limit) {
  const size_t width = dtype_bytes(chunk.source);
  const size_t values = chunk.values.size() / width;
  std::vector<uint8_t> exponents(values);
  std::vector<uint8_t> fine(values);
  std::vector<uint8_t> rest(rest_bytes(chunk.source, values));
  split_of(chunk.source)(chunk.values.data(), values, {exponents.data(), fine.data(), rest.data()});
  const bool no_rest = chunk.source == DType::kF32 &&
                       std::ranges::all_of(rest, [](uint8_t byte) { return byte == 0; });
  if (values + (no_rest ? 0 : rest.size()) >= limit) return {};

  std::vector<std::byte> out;
  out.reserve(chunk.values.size());
  append_u8(out, static_cast<uint8_t>(ChunkMode::kExponents));
  append_u8(out, no_rest ? kNoRest : 0);
  std::vector<uint8_t> escaped;
  if (chunk.source != DType::kF16) {
    const std::vector<uint8_t> ranked = rank(exponents);
    escaped = to_symbols(ranked, exponents);
    append_u8(out, ranked.size());
    append_bytes(out, ranked);
    append_u32(out, escaped.size());
  }
  append_bytes(out, fine);
  if (!no_rest) append_bytes(out, rest);
  append_bytes(out, escaped);
  append_symbols(std::move(exponents), out);
  return out;
}

Status decode_exponents(std::span<const std::byte> bytes, DType source, size_t values,
                        ValueSink& sink) {
  BALLAST_TRY(Chunk chunk, parse(bytes, source, values));
  BALLAST_TRY(SymbolReader reader, SymbolReader::open(chunk.symbols, values));
  const LosslessKernel::Merge merge = merge_of(source);
  alignas(64) std::array<uint8_t, kSymbolPiece> symbols;
  alignas(64) std::array<uint8_t, kSymbolPiece> exponents;
  alignas(64) static constexpr std::array<uint8_t, 2 * kSymbolPiece> kZeros{};
  for (size_t at = 0; at < values; at += kSymbolPiece) {
    const size_t count = std::min(kSymbolPiece, values - at);
    reader.next(count, symbols.data());
    ConstPlanes planes{symbols.data(), chunk.fine.data() + at, kZeros.data()};
    if (chunk.ranked) {
      const size_t escapes = kernel().lossless.translate(chunk.exponents.data(), symbols.data(),
                                                         count, exponents.data());
      if (escapes > chunk.escaped.size()) {
        return fail(Errc::kCorrupt, "a chunk lacks exponents that its symbols announce");
      }
      insert_escaped(symbols, chunk.escaped.first(escapes), exponents.data());
      chunk.escaped = chunk.escaped.subspan(escapes);
      planes.exponents = exponents.data();
    }
    if (!chunk.rest.empty()) planes.rest = chunk.rest.data() + rest_bytes(source, at);
    merge(planes, count, sink.next());
    sink.done(count);
  }
  if (!chunk.escaped.empty()) return fail(Errc::kCorrupt, "a chunk has exponents of no value");
  return reader.finish();
}

}  // namespace ballast::quant
