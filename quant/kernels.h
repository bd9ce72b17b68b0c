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

#include "proto/base/limits.h"
#include "quant/dtype.h"

namespace ballast::quant {

struct RansCursor;
struct RansDecodeTable;
struct RansEncodeTable;

using Codebook = std::array<int8_t, 16>;

// int4 works on units of 64 values.
inline constexpr size_t kUnitValues = 64;
inline constexpr size_t kUnitCodeBytes = 32;
static_assert(limits::kChunkValues % kUnitValues == 0);
constexpr uint64_t units_for(uint64_t values) { return (values + kUnitValues - 1) / kUnitValues; }

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

// --- int8 ---

inline constexpr size_t kInt8GroupValues = 32;
using Int8Magnitudes = std::array<float, 256>;  // what code 1 stands for, by scale byte

struct Int8Kernel {
  // Writes groups x kInt8GroupValues values. `streaming` bypasses the caches if `out` is 64-byte
  // aligned; a fence must follow the last call.
  void (*decode)(const Int8Magnitudes& magnitudes, const uint8_t* scales, const int8_t* codes,
                 size_t groups, float* out, bool streaming);
  // Besides scales and codes it gives, in units of the scale base, what the values were taken for
  // and what they will be decoded to.
  void (*encode)(float inverse_base, const float* values, size_t groups, uint8_t* scales,
                 int8_t* codes, float* taken, float* decoded);
};

// --- lossless ---

// The bits of a float in the order exponent, mantissa, sign: f32 and bf16 have 8 bits of exponent
// and then 8 bits of `fine`, and f32 its lower half as `rest`. f16 has 5, the lowest 8 bits as
// `fine`, and between them 3 that are packed into `rest`, 96 bytes for 256 values.
struct Planes {
  uint8_t* exponents = nullptr;
  uint8_t* fine = nullptr;
  uint8_t* rest = nullptr;  // f32: 2 bytes a value; f16: kThreesBytes for kThreesValues; bf16: none
};
struct ConstPlanes {
  const uint8_t* exponents = nullptr;
  const uint8_t* fine = nullptr;
  const uint8_t* rest = nullptr;
};
inline constexpr size_t kThreesValues = 256;
inline constexpr size_t kThreesBytes = 96;

// Values, bases and outputs may have any alignment.
struct LosslessKernel {
  using Split = void (*)(const std::byte* values, size_t count, const Planes& to);
  using Merge = void (*)(const ConstPlanes& from, size_t count, std::byte* values);
  // How far each value lies from its base, as an unsigned number with the sign in the lowest bit.
  using Difference = void (*)(const std::byte* values, const std::byte* base, size_t count,
                              uint32_t* differences);
  using Apply = void (*)(const uint32_t* differences, const std::byte* base, size_t count,
                         std::byte* values);
  Split f32_split;
  Split f16_split;
  Split bf16_split;
  Merge f32_merge;
  Merge f16_merge;
  Merge bf16_merge;
  Difference difference32;
  Difference difference16;
  Apply apply32;
  Apply apply16;
  // to[i] = table[symbols[i]], of 32 entries; returns how many symbols are 31. REQUIRES: all are
  // below 32.
  size_t (*translate)(const uint8_t* table, const uint8_t* symbols, size_t count, uint8_t* to);
};

// --- floats ---

using ToF32Fn = void (*)(const uint16_t* from, float* to, size_t count);
using FromF32Fn = void (*)(const float* from, uint16_t* to, size_t count);

// In place.
using MultiplyFn = void (*)(float* values, size_t count, float factor);

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

// --- entropy coding (rans.h) ---

// Encodes rows x lanes symbols from the last to the first, with the words before `end`; returns how
// many words. States are those at the end of the decoder's way, and become those at its beginning.
using RansEncodeFn = size_t (*)(const RansEncodeTable& table, const uint8_t* symbols, size_t rows,
                                size_t lanes, uint32_t* states, uint16_t* end);
// Decode rows x lanes symbols: as they are, or as what they stand for. REQUIRES: prepare(rows).
using RansDecodeFn = void (*)(const RansDecodeTable& table, RansCursor& cursor, size_t rows,
                              uint8_t* symbols);
// `values`: 32 for ec4, 64 for ec4t (those of the even quantizer, then of the odd one), as floats
// or as words of 16 bits; 64-byte aligned. `streaming` bypasses the caches if `out` is so, too; a
// fence must follow the last call.
template <class Word>
using Ec4DecodeFn = void (*)(const RansDecodeTable& table, const Word* values, RansCursor& cursor,
                             size_t rows, Word* out, bool streaming);

// ec4 quantizes to indexes of at most this magnitude; symbol = index + kEc4IndexMax.
inline constexpr int kEc4IndexMax = 15;
// Magnitudes, in steps, from which on a value is stored apart; it counts as 0 here. Those a little
// larger than the largest multiple (15, 30) are rounded to it: the bits that storing them apart
// takes lower the error more where they make the step finer.
inline constexpr float kEc4Outlier = 16.5f;
inline constexpr float kEc4tOutlier = 33.0f;
inline constexpr float kUnreachable = 0x1p100f;  // the cost of a path that does not exist

inline constexpr size_t kQuantizeLanes = 16;
// In units of the quantizer's step; value i counts in lane i mod kQuantizeLanes.
struct QuantizeSums {
  alignas(64) std::array<float, kQuantizeLanes> signal{};
  alignas(64) std::array<float, kQuantizeLanes> decoded{};
  alignas(64) std::array<float, kQuantizeLanes> noise{};
  alignas(64) std::array<float, kQuantizeLanes> max_error{};
};
// The decoder's step is `shrink` times the quantizer's. Returns the number of outliers, which add
// nothing to the sums; NaN and infinities are among them. REQUIRES: count is a multiple of
// kQuantizeLanes.
using Ec4QuantizeFn = uint32_t (*)(const float* values, size_t count, float inverse_step,
                                   float shrink, uint8_t* symbols, QuantizeSums& sums);
// The same with the trellis, for rows x lanes values. `survivors`: room for rows x 8.
using Ec4tQuantizeFn = uint32_t (*)(const float* values, size_t rows, size_t lanes,
                                    float inverse_step, float shrink, uint16_t* survivors,
                                    uint8_t* symbols, QuantizeSums& sums);

// Copies around the caches if `to` is 64-byte aligned. A fence must follow the last call.
using StreamFn = void (*)(const std::byte* from, std::byte* to, size_t bytes);

// --- bitmaps (sparse4) ---

// A bit for each place, the lowest bit of a byte first; in units of kUnitValues places.
inline constexpr size_t kUnitBitmapBytes = kUnitValues / 8;

// The bits that are set in `count` bytes.
using CountOnesFn = uint64_t (*)(const uint8_t* bytes, size_t count);

// Places, of which those whose bit is set hold the next kept value and the others 0.
struct SparseUnits {
  const uint8_t* bitmap = nullptr;
  size_t units = 0;
  PackedUnits packed;  // all kept values; its count of units is not read
  size_t taken = 0;    // how many of them lie before the first place
};

// Writes units x kUnitValues values. REQUIRES: `packed` holds the values that the bits ask for.
using SparseFn = void (*)(const DecodeTable& table, const SparseUnits& sparse, void* out,
                          bool streaming);

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
  MultiplyFn multiply;
  MeasureFn measure;
  RansEncodeFn rans_encode;
  RansDecodeFn rans_decode;
  Ec4DecodeFn<float> ec4_to_32;
  Ec4DecodeFn<uint16_t> ec4_to_16;
  Ec4DecodeFn<float> ec4t_to_32;
  Ec4DecodeFn<uint16_t> ec4t_to_16;
  Ec4QuantizeFn ec4_quantize;
  Ec4tQuantizeFn ec4t_quantize;
  StreamFn stream;
  Int8Kernel int8;
  LosslessKernel lossless;
  CountOnesFn count_ones;
  SparseFn sparse4_to_f32;
  SparseFn sparse4_to_f16;
  SparseFn sparse4_to_bf16;
};

const Kernel& scalar_kernel();
const Kernel& avx2_kernel();    // REQUIRES: AVX2 and F16C
const Kernel& avx512_kernel();  // REQUIRES: the above and AVX-512 F, BW, DQ, VL
const Kernel& vbmi2_kernel();   // REQUIRES: the above and AVX-512 VBMI2

// The kernel in use.
const Kernel& kernel();

}  // namespace ballast::quant
