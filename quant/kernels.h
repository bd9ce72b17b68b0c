// The inner loops, one table of them per instruction set.
//
// All kernels give the same bytes. The scalar one (kernel_scalar.cc) is the reference: plain loops
// that say what is computed and in which order. The sources of the others are compiled with flags
// that not every CPU obeys, so they call nothing that another unit might also define inline.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "quant/block_header.h"
#include "quant/dtype.h"

namespace ballast::quant {

inline constexpr size_t kGroupValuesMax = 64;

// --- decoding ---

struct DecodeTable {
  DecodeTable(float scale_base, const Codebook& codebook);

  alignas(64) std::array<float, 256> magnitude;  // by scale byte, without its sign
  // By the sign bit of the scale byte. The sign is on this factor because a zero must not get one.
  alignas(64) std::array<std::array<float, 16>, 2> value;
  alignas(16) std::array<Codebook, 2> entry;
};

struct PackedUnits {
  const uint8_t* scales = nullptr;  // kUnitValues / group bytes a unit
  const uint8_t* codes = nullptr;   // kUnitCodeBytes a unit
  size_t units = 0;
  size_t group = 32;
};

// Writes units x kUnitValues values. `streaming` bypasses the caches if `out` is 64-byte aligned.
using DecodeFn = void (*)(const DecodeTable& table, PackedUnits packed, void* out, bool streaming);

// --- encoding ---

// Groups are searched side by side, one in each lane, so a sum over a group is in order of its
// values in every kernel, whatever its vectors' width.
inline constexpr size_t kBatchGroups = 16;

struct EncodeTable {
  EncodeTable(float scale_base, const Codebook& codebook, size_t group);

  float inverse_base = 0;
  size_t group = 32;
  // Entries in ascending order, and the midpoints between neighbours: code i + 1 from midpoint i.
  alignas(64) std::array<float, 16> value;
  alignas(64) std::array<float, 16> midpoint;  // the last one is infinite
};

// Energies in units of the scale base's square, magnitudes in units of the scale base.
struct EncodedBatch {
  alignas(64) std::array<uint8_t, kBatchGroups * kGroupValuesMax> codes;  // group after group
  alignas(64) std::array<uint8_t, kBatchGroups> scales;
  alignas(64) std::array<float, kBatchGroups> signal;
  alignas(64) std::array<float, kBatchGroups> decoded;
  alignas(64) std::array<float, kBatchGroups> noise;
  alignas(64) std::array<float, kBatchGroups> max_error;
};

// The scales that are tried for a group, in steps from the one that maps its largest magnitude to
// the codebook's end: these with both signs, then the neighbours of the best. Earlier ones win
// ties.
inline constexpr std::array<int, 4> kScaleOffsets{-3, -1, 1, 3};

// Magnitudes below this, in units of the scale base, are encoded as 0. They would be anyway; but
// arithmetic on denormal numbers would be slow.
inline constexpr float kNegligible = 0x1p-30f;

// Encodes kBatchGroups groups that follow each other in `values`.
using EncodeFn = void (*)(const EncodeTable& table, const float* values, EncodedBatch& out);

// The largest finite magnitude; 0 without one.
using AbsMaxFn = float (*)(const float* values, size_t count);

// --- floats ---

using ToF32Fn = void (*)(const uint16_t* from, float* to, size_t count);
using FromF32Fn = void (*)(const float* from, uint16_t* to, size_t count);

struct PairSums {
  static constexpr size_t kLanes = 16;
  // Value i counts in lane i mod kLanes.
  alignas(64) std::array<double, kLanes> signal{};
  alignas(64) std::array<double, kLanes> decoded{};
  alignas(64) std::array<double, kLanes> noise{};
  alignas(64) std::array<double, kLanes> max_error{};
};
// Adds the pairs (x, y) whose x is finite to `sums`, beginning with lane 0.
using MeasureFn = void (*)(const float* x, const float* y, size_t count, PairSums& sums);

struct Kernel {
  std::string_view name;
  DecodeFn int4_to_f32;
  DecodeFn int4_to_f16;
  DecodeFn int4_to_bf16;
  EncodeFn int4_encode;
  AbsMaxFn abs_max;
  ToF32Fn f16_to_f32;
  ToF32Fn bf16_to_f32;
  FromF32Fn f32_to_f16;
  FromF32Fn f32_to_bf16;
  MeasureFn measure;
};

const Kernel& scalar_kernel();
const Kernel& avx2_kernel();    // REQUIRES: AVX2 and F16C
const Kernel& avx512_kernel();  // REQUIRES: the above and AVX-512 F, BW, DQ, VL

// The kernel in use.
const Kernel& kernel();

}  // namespace ballast::quant
