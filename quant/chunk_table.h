// Blocks whose chunks have different lengths: between header and chunks lies a table of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "quant/block_codec.h"
#include "quant/block_header.h"

namespace ballast::quant {

constexpr uint64_t chunks_for(uint64_t values) {
  return (values + limits::kChunkValues - 1) / limits::kChunkValues;
}

// Header, table and chunks as one block.
// REQUIRES: one chunk for each limits::kChunkValues values, together at most
// limits::kBlockBytesMax with the rest.
MutableBytes write_chunks(const BlockHeader& header,
                          std::span<const std::vector<std::byte>> chunks);

// The chunks of a block. Errors: kCorrupt if they do not fill the block exactly, or if it has more
// values than the codec puts into one.
Result<std::vector<std::span<const std::byte>>> read_chunks(const BlockHeader& header,
                                                            std::span<const std::byte> block);

// Decodes a whole chunk, number `chunk` of the block, of `values` values as `as` into `out`;
// `streaming`: bypass the caches.
using DecodeChunkFn = std::function<Status(uint64_t chunk, std::span<const std::byte> bytes,
                                           uint64_t values, std::byte* out, bool streaming)>;
// Decodes the chunks that the request touches; those that it touches in part, through a buffer.
Status decode_chunks(const BlockHeader& header, std::span<const std::byte> block,
                     const DecodeRequest& request, const DecodeChunkFn& decode);

}  // namespace ballast::quant
