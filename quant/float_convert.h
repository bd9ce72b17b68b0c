// Between f32 and the codable dtypes, at any alignment.
#pragma once

#include <cstddef>
#include <span>

#include "quant/dtype.h"
#include "quant/kernels.h"

namespace ballast::quant {

// Callers work in pieces that stay in the first-level cache. A whole number of PairSums lanes.
inline constexpr size_t kPieceValues = 1024;
static_assert(kPieceValues % PairSums::kLanes == 0);
static_assert(kPieceValues >= kBatchGroups * kGroupValuesMax);

// REQUIRES: dtype_is_codable(dtype), count <= kPieceValues.
void load_f32(DType dtype, const std::byte* from, size_t count, float* to);
// `streaming`: bypass the caches, if `to` is 64-byte aligned; finish_streaming() must follow.
void store_f32(DType dtype, const float* from, size_t count, std::byte* to, bool streaming = false);

// The largest finite magnitude of all the values, of a codable dtype; 0 without one.
float abs_max_of(DType dtype, std::span<const std::byte> values);

// Orders all streaming writes before what this thread does next.
void finish_streaming();

}  // namespace ballast::quant
