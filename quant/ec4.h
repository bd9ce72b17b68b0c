// ec4 and ec4t: a uniform step for a whole block, indexes coded by rANS, outliers exactly.
//
// ec4 rounds each value to the nearest multiple of the step; ec4t finds a path through a trellis
// (trellis.h), which costs time and saves a sixth of a bit. With groups, every so many values of
// ec4 have a scale of their own, one of the wide ones of log_scale.h, and are rounded in units of
// it. docs/formats/ec4.md has the bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "proto/base/limits.h"
#include "proto/base/result.h"
#include "quant/dtype.h"
#include "quant/error_report.h"
#include "quant/rans.h"

namespace ballast::quant {

// A step is a normal number, and so is its inverse; the largest multiple of it (15, or 30 with the
// trellis) is finite, and no float is far beyond it.
inline constexpr float kEc4StepMin = 0x1p-120f;
inline constexpr float kEc4StepMax = 0x1.1p+124f;
inline constexpr float kEc4tStepMax = kEc4StepMax / 2;

// What the chunks of a block share.
struct Ec4Parameters {
  DType source = DType::kF32;
  bool trellis = false;
  float step = 1;  // between the values that indexes stand for; within the limits above
  // An encoder rounds to multiples of step / shrink, so that what indexes stand for lies nearer to
  // 0 than the middle of what is rounded to it, as most of that does.
  float shrink = 1;
  uint32_t group = 0;  // values that share a scale; 0: there are no scales
};

// The first four bytes of a chunk.
struct Ec4ChunkHead {
  uint32_t vectors : 8 = 0;  // lanes / kRansVectorLanes, or 0 if all indexes are 0
  uint32_t outliers : 24 = 0;
};
static_assert(sizeof(Ec4ChunkHead) == 4 && limits::kChunkValues < 1 << 24);

// Outliers are counted by pieces.
constexpr size_t ec4_pieces(uint64_t values) { return (values + kRansPiece - 1) / kRansPiece; }

// Pieces consist of whole groups, whatever these hold.
inline constexpr std::array<uint32_t, 3> kEc4Groups{256, 512, 1024};
static_assert(kRansPiece % kEc4Groups.back() == 0);

// The scales of so many values: one for each group, filled up to an even number of bytes.
constexpr size_t ec4_scale_bytes(uint32_t group, uint64_t values) {
  return group == 0 ? 0 : ((values + group - 1) / group + 1) / 2 * 2;
}
// The same for the values of a block, chunk after chunk; empty without groups. A group's scale is
// how its root mean square compares to the largest one.
std::vector<uint8_t> choose_ec4_scales(DType source, uint32_t group,
                                       std::span<const std::byte> values);

// A chunk between the two halves of encoding.
struct Ec4Chunk {
  struct Outlier {
    uint32_t place;
    float value;
  };
  std::span<const uint8_t> scales;  // of its groups; known before it is rounded
  uint64_t values = 0;
  size_t lanes = 0;
  std::vector<uint8_t> symbols;  // filled up to whole rows
  std::vector<Outlier> outliers;
  double outlier_energy = 0;
  RansCounts counts{};
  ErrorSums error;
};
// Memory that chunks are encoded in, one after the other.
struct Ec4Scratch {
  std::vector<float> floats;
  std::vector<uint16_t> survivors;
  std::vector<uint16_t> words;
};
// Rounds 1 to limits::kChunkValues values of the source dtype. `chunk` may be one of before.
// REQUIRES: it has scales if there are groups.
void quantize_ec4_chunk(const Ec4Parameters& parameters, std::span<const std::byte> values,
                        Ec4Scratch& scratch, Ec4Chunk& chunk);
// What it is going to take, to a few bits for each lane.
double ec4_chunk_bits(DType source, const Ec4Chunk& chunk);
std::vector<std::byte> write_ec4_chunk(DType source, const Ec4Chunk& chunk, Ec4Scratch& scratch);

// About what a chunk, and a block of `values` values, take besides symbols of so many bits each;
// for the chunk, without its scales.
double ec4_side_bits(size_t lanes, double symbol_bits);
double ec4_overhead_bits(uint32_t group, uint64_t values, double symbol_bits);

// Decodes a chunk of `values` values as f32, f16 or bf16. Errors: kCorrupt.
Status decode_ec4_chunk(const Ec4Parameters& parameters, std::span<const std::byte> chunk,
                        uint64_t values, DType as, std::byte* out, bool streaming);

// Steps lie on a grid with so many places an octave.
inline constexpr int kEc4PlacesPerOctave = 1024;

// What an encoder aims at: one of them, the other is 0.
struct Ec4Target {
  double bits = 0;  // per value, everything counted
  // Outliers, which may be far larger than all other values, are not to hide what these lose: their
  // energy counts for at most that of the others.
  double db = 0;

  // How many places the step might be finer (bits) or coarser (dB) and still meet the target, or,
  // below 0, by how many it misses it.
  double margin(double bits_per_value, double signal, double noise) const;
  // The place that uses up a margin.
  int moved(int place, double margin) const;
};

// Finds the step that is expected to meet a target, judged from a part of the values.
class Ec4StepSearch {
 public:
  // Of `parameters`, the step and the shrink are what is searched; `sample` is the number of values
  // to judge from, and `scales` are those of all groups. Decibels are judged in units of the
  // scales, which comes near to what they are for the values. REQUIRES: some values.
  Ec4StepSearch(const Ec4Parameters& parameters, const Ec4Target& target,
                std::span<const std::byte> values, size_t sample,
                std::span<const uint8_t> scales = {});

  int best() { return best(middle()); }
  int best(int guess);
  Ec4Parameters at(int place);

 private:
  struct Sums {
    double signal = 0;
    double noise = 0;
    double outliers = 0;
  };
  float quantizer_step(int place) const;
  int middle() const;
  Sums quantize(int place);
  double margin(int place);

  Ec4Parameters parameters_;
  Ec4Target target_;
  uint64_t values_;
  std::vector<float> sample_;
  std::vector<uint8_t> symbols_;
};

}  // namespace ballast::quant
