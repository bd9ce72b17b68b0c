// The way of tensors out of the store: fetch from all replicas, verify, decode, in order.
#pragma once

#include "client/internal/engine.h"
#include "proto/storage.pb.h"

namespace ballast::client {

using Sink = Client::Sink;

// A whole block, verified, within the client's deadline for one step.
Result<Bytes> fetch_block(Engine& engine, const BlockId& block);

// The references of a tensor's blocks, wherever they are kept.
Result<std::vector<BlockId>> blocks_of(Engine& engine, const StoredTensor& tensor);

// What a read needs of a tensor's blocks, and of each base below it. Shared by the read's
// coroutines.
struct Layer {
  DType dtype = DType::kF32;
  uint64_t values = 0;  // that are encoded
  uint64_t values_per_block = 0;
  std::vector<BlockId> blocks;

  uint64_t values_of(uint64_t block) const {
    return std::min(values_per_block, values - block * values_per_block);
  }
};
using Layers = std::vector<Layer>;  // the tensor's own, its base's, and so on
// Fetches the lists of blocks. Errors: kCorrupt if they do not hold what the tensor says.
Result<Layers> layers_of(Engine& engine, const StoredTensor& tensor);
// How many bytes read_layer() holds at most for one block of the first layer, read as `as`.
size_t layers_bytes(const Layers& layers, DType as);

// The values of `range` of a layer. On the background thread; decodes on the pool.
// REQUIRES: they lie in the layer.
asio::awaitable<Result<std::vector<std::byte>>> read_layer(Engine& engine,
                                                           std::shared_ptr<const Layers> layers,
                                                           size_t layer, ValueRange range,
                                                           DType as);

// The values of `range`, in order and piece by piece; only the blocks and chunks that it touches
// are fetched and decoded. Errors: kInvalidArgument for a range that is not within the tensor.
Status read_tensor(Engine& engine, const StoredTensor& tensor, ValueRange range,
                   const ReadOptions& options, const Sink& sink);

// The blocks as they are stored, verified, in order, one at a time.
Status read_blocks(Engine& engine, const StoredTensor& tensor, const Sink& sink);

// The manifest with all its parts.
Result<VersionInfo> read_manifest(Engine& engine, const pb::GetVersionReply& row);

}  // namespace ballast::client
