// How often the symbols of a stream occur: counted, rounded to what can be written, and written.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "proto/base/result.h"

namespace ballast::quant {

inline constexpr size_t kRansSymbols = 32;
inline constexpr uint32_t kRansTotalBits = 12;
inline constexpr uint32_t kRansTotal = 1 << kRansTotalBits;

using RansCounts = std::array<uint32_t, kRansSymbols>;
// How often each symbol is expected among kRansTotal, which they add up to. None is kRansTotal.
using RansFrequencies = std::array<uint16_t, kRansSymbols>;

// REQUIRES: symbols below kRansSymbols.
RansCounts count_symbols(std::span<const uint8_t> symbols);

// Frequencies near the counts' shares, of those that can be written; each symbol that occurs has
// one. The same everywhere.
RansFrequencies rans_frequencies(const RansCounts& counts);
// The bits that the counted symbols take with these frequencies.
double rans_bits(const RansCounts& counts, const RansFrequencies& frequencies);
// log2 of a positive number, the same bits everywhere, to 1e-7.
double portable_log2(double value);
// A ratio of energies in dB, likewise.
inline double portable_decibels(double ratio) { return portable_log2(ratio) * 3.0102999566398120; }

// An even number of bytes: about 18 for a bell of 31 symbols. REQUIRES: from rans_frequencies().
void append_frequencies(const RansFrequencies& frequencies, std::vector<std::byte>& out);
// Takes them from the front of `bytes`. Errors: kCorrupt.
Result<RansFrequencies> read_frequencies(std::span<const std::byte>& bytes);

}  // namespace ballast::quant
