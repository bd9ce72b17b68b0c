// Decoding of bitmap and kept values, piece by piece, in each kernel's own instructions.
#pragma once

#include "quant/kernels.h"

namespace ballast::quant {
namespace {

// Kept values and bitmap of a piece stay in the first-level cache.
constexpr size_t kSparsePieceUnits = 64;

// Reads of a vector may reach behind the values that are meant.
constexpr size_t kExpandOverreadBytes = 64;

// For the next piece: the hardware fetches ahead too, but stops at the end of a page.
void fetch(const uint8_t* from, size_t bytes) {
  constexpr size_t kLine = 64;
  for (size_t at = 0; at < bytes; at += kLine) __builtin_prefetch(from + at);
}

// Calls decode(packed, values) for the kept values of some units, then expand(bitmap, units,
// values, first unit), which writes the next of the values to each place whose bit is set, and 0 to
// the others.
template <class Word, class Decode, class Expand>
void decode_sparse(const SparseUnits& sparse, const Decode& decode, const Expand& expand) {
  constexpr size_t kWords =
      (kSparsePieceUnits + 1) * kUnitValues + kExpandOverreadBytes / sizeof(Word);
  alignas(64) Word values[kWords];
  size_t taken = sparse.taken;
  for (size_t unit = 0; unit < sparse.units; unit += kSparsePieceUnits) {
    const size_t left = sparse.units - unit;
    const size_t units = left < kSparsePieceUnits ? left : kSparsePieceUnits;
    const uint8_t* bitmap = sparse.bitmap + unit * kUnitBitmapBytes;
    const size_t kept = count_ones(bitmap, units * kUnitBitmapBytes);
    const size_t at = taken / kUnitValues;
    const size_t skipped = taken % kUnitValues;
    PackedUnits packed = sparse.packed;
    packed.scales += at * (kUnitValues / packed.group);
    packed.codes += at * kUnitCodeBytes;
    // Without a kept value none may be read: there need not be a unit.
    packed.units = kept == 0 ? 0 : (skipped + kept + kUnitValues - 1) / kUnitValues;
    fetch(bitmap + units * kUnitBitmapBytes, units * kUnitBitmapBytes);
    fetch(packed.codes + packed.units * kUnitCodeBytes, packed.units * kUnitCodeBytes);
    decode(packed, values);
    expand(bitmap, units, values + skipped, unit);
    taken += kept;
  }
}

}  // namespace
}  // namespace ballast::quant
