// The entropy coder of the codecs: interleaved rANS (J. Duda, "Asymmetric numeral systems", 2013)
// over 32 symbols, with alias tables so that a symbol is found without a search or a gather.
//
// Symbols are coded in rows of `lanes` symbols: symbol i belongs to lane i mod lanes, each lane has
// a 32-bit state of its own, and all lanes share one stream of 16-bit words. A lane's state must be
// at least 2^16 in the end, so that its last three symbols fit in there (docs/formats/ec4.md).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "proto/base/result.h"
#include "quant/rans_frequencies.h"

namespace ballast::quant {

inline constexpr uint32_t kRansBucketSlots = kRansTotal / kRansSymbols;
inline constexpr uint32_t kRansLowest = 1 << 16;  // of a state between two symbols
inline constexpr size_t kRansVectorLanes = 16;
inline constexpr size_t kRansLanesMax = 128;
inline constexpr size_t kRansClosingRows = 3;  // at most
inline constexpr uint32_t kRansSymbolBits = 5;

// Callers decode pieces of so many symbols, which stay in the first-level cache.
inline constexpr size_t kRansPiece = 4096;
static_assert(kRansPiece % kRansLanesMax == 0);

// A bucket has kRansBucketSlots of the kRansTotal slots and belongs to at most two symbols: the
// slots below a limit to the bucket's own, the others to its alias.
struct RansDecodeTable {
  explicit RansDecodeTable(const RansFrequencies& frequencies);

  // By bucket: bits 0-11 what is added to a slot for its position within the symbol, bits 12-23 the
  // frequency, and in bits 25-31 the limit (own) or the symbol (alias).
  alignas(64) std::array<uint32_t, kRansSymbols> own;
  alignas(64) std::array<uint32_t, kRansSymbols> alias;
};

struct RansEncodeTable {
  explicit RansEncodeTable(const RansFrequencies& frequencies);

  alignas(64) std::array<uint32_t, kRansSymbols> frequency;
  // So little less than 1 / frequency that a state times this is its quotient or one less.
  alignas(64) std::array<float, kRansSymbols> reciprocal;
  alignas(64) std::array<uint32_t, kRansSymbols> start;  // of the symbol's slots below
  std::array<uint16_t, kRansTotal + 2> slots;            // two more, for reads of four bytes
};

// Where decoding stands, and what the kernels advance.
struct RansCursor {
  alignas(64) std::array<uint32_t, kRansLanesMax> states;
  alignas(64) std::array<uint32_t, kRansLanesMax> trellis{};  // ec4t: the trellis' states
  const uint16_t* next = nullptr;
  size_t lanes = 0;
};

// Reads a stream of states and words from bytes that nobody vouches for.
class RansReader {
 public:
  // Errors: kCorrupt. REQUIRES: lanes is 16, 32, 64 or 128; the bytes outlive the reader.
  static Result<RansReader> open(std::span<const std::byte> bytes, size_t lanes, size_t rows);

  // How many of the next `rows` rows (at most kRansPiece symbols) a kernel is to decode. It may
  // advance the cursor by so much whatever the stream holds; closing() gives the others.
  size_t prepare(size_t rows);
  RansCursor& cursor() { return cursor_; }
  // The next rows, of the last kRansClosingRows.
  void closing(size_t rows, uint8_t* symbols);
  // At the end. Errors: kCorrupt if the stream does not end where the symbols do.
  Status finish() const;

  RansReader(RansReader&&) = default;
  RansReader& operator=(RansReader&&) = default;

 private:
  RansReader() = default;
  size_t consumed() const { return base_ + static_cast<size_t>(cursor_.next - words_); }

  RansCursor cursor_;
  std::vector<uint16_t> tail_;         // the last words, with room behind them
  const std::byte* stream_ = nullptr;  // the words as they lie
  const uint16_t* words_ = nullptr;    // where they are read from: stream_ or tail_
  size_t base_ = 0;                    // number of the word at words_
  size_t total_ = 0;
  size_t coded_rows_ = 0;  // that are left
  size_t closing_rows_ = 0;
  size_t closed_ = 0;  // rows that closing() gave
};

// Appends states and words; `words` is memory to work in. `symbols` is filled up to whole rows.
// REQUIRES: frequencies of all.
void rans_encode(const RansFrequencies& frequencies, std::span<const uint8_t> symbols, size_t lanes,
                 std::vector<uint16_t>& words, std::vector<std::byte>& out);

// The lanes for a chunk of so many symbols: many decode fast, but each costs two to three bytes.
constexpr size_t rans_lanes(uint64_t symbols) {
  if (symbols >= 128 * 1024) return 128;
  return symbols >= 64 * 1024 ? 64 : 16;
}

}  // namespace ballast::quant
