// lossless, chunk by chunk: docs/formats/lossless.md says what the bytes mean.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "proto/base/result.h"
#include "quant/dtype.h"
#include "quant/rans.h"

namespace ballast::quant {

// The first byte of a chunk. Numbers lie on disk: never reused.
enum class ChunkMode : uint8_t {
  kStored = 0,       // the values
  kConstant = 1,     // one value, which all are
  kExponents = 2,    // exponents entropy-coded, the rest as it is
  kUnchanged = 3,    // the values of the base
  kDifferences = 4,  // differences to the base, entropy-coded by magnitude
};

// Decoding works in pieces whose symbols and values stay in the first-level cache.
inline constexpr size_t kSymbolPiece = kRansPiece;

// Values of a chunk, in the source dtype; `base` has as many, or none where there is no base.
struct ChunkValues {
  DType source = DType::kF32;
  std::span<const std::byte> values;
  std::span<const std::byte> base;
};

// The smallest that any of the modes gives, at most one byte more than the values themselves.
// REQUIRES: at least one value.
std::vector<std::byte> encode_lossless_chunk(const ChunkValues& chunk);

// Where decoded values go: it converts them to another dtype, or writes around the caches.
class ValueSink {
 public:
  ValueSink(DType source, DType as, std::byte* out, bool streaming)
      : source_(source), as_(as), out_(out), streaming_(streaming) {}

  // Where to write the next `count` values, at most kSymbolPiece, in the source dtype...
  std::byte* next() { return as_ == source_ && !streaming_ ? out_ : buffer_.data(); }
  // ... and that they are there.
  void done(size_t count);

 private:
  DType source_;
  DType as_;
  std::byte* out_;
  bool streaming_;
  alignas(64) std::array<std::byte, kSymbolPiece * sizeof(float)> buffer_;
};

// Decodes a chunk of `values` values. `base`: as many values in the source dtype, or nothing.
// Errors: kCorrupt.
Status decode_lossless_chunk(std::span<const std::byte> bytes, DType source, size_t values,
                             std::span<const std::byte> base, ValueSink& sink);

// --- the parts ---

// The symbols of a chunk: their frequencies and the entropy coder's stream.
class SymbolReader {
 public:
  // `bytes` must outlive it. Errors: kCorrupt.
  static Result<SymbolReader> open(std::span<const std::byte> bytes, size_t count);

  // The next `count` symbols, kSymbolPiece but for the last ones. `symbols` has room for a piece.
  void next(size_t count, uint8_t* symbols);
  // After the last one. Errors: kCorrupt if bytes were missing or are left.
  Status finish() const { return reader_.finish(); }

 private:
  SymbolReader(const RansDecodeTable& table, RansReader reader, size_t lanes)
      : table_(table), reader_(std::move(reader)), lanes_(lanes) {}

  RansDecodeTable table_;
  RansReader reader_;
  size_t lanes_;
};
void append_symbols(std::vector<uint8_t> symbols, std::vector<std::byte>& out);

// Nothing if it would not be smaller than `limit` bytes.
std::vector<std::byte> encode_exponents(const ChunkValues& chunk, size_t limit);
std::vector<std::byte> encode_differences(const ChunkValues& chunk);
// `bytes` begin behind the mode.
Status decode_exponents(std::span<const std::byte> bytes, DType source, size_t values,
                        ValueSink& sink);
Status decode_differences(std::span<const std::byte> bytes, DType source, size_t values,
                          std::span<const std::byte> base, ValueSink& sink);

}  // namespace ballast::quant
