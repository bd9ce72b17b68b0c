// Packed INT4: from values to scales and codes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "quant/block_header.h"
#include "quant/error_report.h"

namespace ballast::quant {

// Where learning begins, and what is used where there is too little to learn from: the codebook of
// normally distributed values in groups of 32.
inline constexpr Codebook kNormalCodebook{-127, -103, -81, -64, -49, -35, -22, -10,
                                          0,    13,   25,  38,  52,  67,  85,  110};

// The codebook that fits these values (of a codable dtype) best: ascending, with an entry 0 and one
// of magnitude 127. The same values give the same codebook everywhere.
Codebook learn_codebook(std::span<const std::byte> values, DType source, size_t group);

// The base that lets the scales of all groups of these values be written.
float choose_scale_base(std::span<const std::byte> values, DType source);

// Encodes one chunk of at most limits::kChunkValues values into `out`.
// REQUIRES: out.size() is the chunk's size, and the header's codec is int4.
ErrorSums encode_int4_chunk(const BlockHeader& header, std::span<const std::byte> values,
                            std::span<std::byte> out);

}  // namespace ballast::quant
