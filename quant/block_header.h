// The header of a block and where its chunks lie, as docs/formats/block.md says.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "proto/base/limits.h"
#include "proto/base/result.h"
#include "quant/codec.h"

namespace ballast::quant {

inline constexpr size_t kBlockHeaderBytes = 64;

using Codebook = std::array<int8_t, 16>;

struct BlockHeader {
  CodecSpec codec;
  DType source = DType::kF32;
  uint64_t values = 0;
  // int4 alone:
  float scale_base = 0;
  Codebook codebook{};
};

// The limits of scale_base. Every scale down to 126 steps below the base is a normal number, and
// the largest value that a block can hold is finite.
inline constexpr float kScaleBaseMin = 0x1p-118f;
inline constexpr float kScaleBaseMax = 0x1.fffffep+120f;

// REQUIRES: the header is valid.
void write_header(const BlockHeader& header, std::span<std::byte, kBlockHeaderBytes> out);
// Checks everything that the header says, and the block's length. Errors: kCorrupt.
Result<BlockHeader> read_header(std::span<const std::byte> block);

// The dtype in which a block of any codec but int4 keeps its values.
DType stored_dtype(CodecSpec codec, DType source);

// The bytes of a chunk that holds `values` values, at most limits::kChunkValues.
uint64_t chunk_bytes(CodecSpec codec, DType source, uint64_t values);
// The bytes of a block, with its header.
uint64_t block_bytes(CodecSpec codec, DType source, uint64_t values);

// int4 works on units of 64 values.
inline constexpr size_t kUnitValues = 64;
inline constexpr size_t kUnitCodeBytes = 32;
static_assert(limits::kChunkValues % kUnitValues == 0);
constexpr uint64_t units_for(uint64_t values) { return (values + kUnitValues - 1) / kUnitValues; }

}  // namespace ballast::quant
