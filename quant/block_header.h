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
inline constexpr size_t kHeaderParameterBytes = 36;

// What scale_base means and whether parameters hold anything. Numbers lie on disk: never reused.
enum class ScaleType : uint8_t {
  kNone = 0,      // no scale
  kLogScale = 1,  // scales are powers of 2^(-1/16) below scale_base (log_scale.h)
  kStep = 2,      // scale_base is the quantizer's step
};

struct BlockHeader {
  CodecSpec codec;
  DType source = DType::kF32;
  uint64_t values = 0;
  ScaleType scale_type = ScaleType::kNone;
  float scale_base = 0;
  std::array<std::byte, kHeaderParameterBytes> parameters{};  // the codec's own
};

// REQUIRES: the header is valid.
void write_header(const BlockHeader& header, std::span<std::byte, kBlockHeaderBytes> out);
// Checks everything that the header says, and the block's length. Errors: kCorrupt.
Result<BlockHeader> read_header(std::span<const std::byte> block);

}  // namespace ballast::quant
