// Packed INT4: from values to scales and codes.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "proto/base/limits.h"
#include "quant/block_header.h"
#include "quant/dtype.h"
#include "quant/error_report.h"
#include "quant/kernels.h"

namespace ballast::quant {

// Where learning begins, and what is used where there is too little to learn from: the codebook of
// normally distributed values in groups of 32.
inline constexpr Codebook kNormalCodebook{-127, -103, -81, -64, -49, -35, -22, -10,
                                          0,    13,   25,  38,  52,  67,  85,  110};

// The codebook that fits these values (of a codable dtype) best: ascending, with an entry 0 and one
// of magnitude 127. The same values give the same codebook everywhere.
Codebook learn_codebook(std::span<const std::byte> values, DType source, size_t group);

// Where a block's header keeps its codebook, and whether it has one, and a scale base, that the
// decoder can rely on.
Codebook codebook_of(const BlockHeader& header);
bool has_codebook(const BlockHeader& header);

// The base that lets the scales of all groups of these values be written.
float choose_scale_base(std::span<const std::byte> values, DType source);

// What the chunks of a block share.
struct Int4Parameters {
  size_t group = 32;
  DType source = DType::kF32;
  float scale_base = 0;
  Codebook codebook{};
};

// The scales of a unit. Groups are powers of 2: a division would be a good part of what a short
// read takes.
constexpr size_t unit_groups(size_t group) { return kUnitValues >> std::countr_zero(group); }

// The bytes of a chunk that holds `values` values, at most limits::kChunkValues.
constexpr uint64_t int4_chunk_bytes(size_t group, uint64_t values) {
  return units_for(values) * (unit_groups(group) + kUnitCodeBytes);
}

// Encodes one chunk of at most limits::kChunkValues values into `out`.
// REQUIRES: out.size() is the chunk's size.
ErrorSums encode_int4_chunk(const Int4Parameters& parameters, std::span<const std::byte> values,
                            std::span<std::byte> out);

}  // namespace ballast::quant
