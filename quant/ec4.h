// ec4 and ec4t: a uniform step for a whole block, indexes coded by rANS, outliers exactly.
//
// ec4 rounds each value to the nearest multiple of the step; ec4t finds a path through a trellis
// (trellis.h), which costs time and saves a sixth of a bit. docs/formats/ec4.md has the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "proto/base/result.h"
#include "quant/dtype.h"
#include "quant/error_report.h"

namespace ballast::quant {

// A step is a normal number, and so is its inverse; the largest multiple of it (15, or 30 with the
// trellis) is finite, and no float is far beyond it.
inline constexpr float kEc4StepMin = 0x1p-118f;
inline constexpr float kEc4StepMax = 0x1.1p+124f;
inline constexpr float kEc4tStepMax = kEc4StepMax / 2;

// What the chunks of a block share.
struct Ec4Parameters {
  DType source = DType::kF32;
  bool trellis = false;
  float step = 1;  // within the limits above
};

struct EncodedEc4Chunk {
  std::vector<std::byte> bytes;
  ErrorSums error;
  uint32_t outliers = 0;
};
// Memory that the chunks of a block are encoded in, one after the other.
struct Ec4Scratch {
  std::vector<float> floats;
  std::vector<uint8_t> symbols;
  std::vector<uint16_t> survivors;
  std::vector<uint16_t> words;
};
// REQUIRES: 1 to limits::kChunkValues values of the source dtype.
EncodedEc4Chunk encode_ec4_chunk(const Ec4Parameters& parameters, std::span<const std::byte> values,
                                 Ec4Scratch& scratch);

// Decodes a chunk of `values` values as f32, f16 or bf16. Errors: kCorrupt.
Status decode_ec4_chunk(const Ec4Parameters& parameters, std::span<const std::byte> chunk,
                        uint64_t values, DType as, std::byte* out, bool streaming);

// What an encoder aims at: one of them, the other is 0.
struct Ec4Target {
  double bits = 0;  // per value, everything counted; what is left of it after `overhead_bits`
  double overhead_bits = 0;
  double db = 0;
};
// Steps lie on a grid; this is the place on it of the finest (bits) or coarsest (dB) step that is
// expected to meet the target, judged from a part of the values.
inline constexpr int kEc4PlacesPerOctave = 256;
int choose_ec4_step(const Ec4Parameters& parameters, const Ec4Target& target,
                    std::span<const std::byte> values);
float ec4_step(const Ec4Parameters& parameters, int place);

}  // namespace ballast::quant
