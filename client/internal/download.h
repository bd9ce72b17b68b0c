// The way of tensors out of the store: fetch from all replicas, verify, decode, in order.
#pragma once

#include "client/internal/engine.h"
#include "proto/storage.pb.h"

namespace ballast::client {

// A whole block, verified, within the client's deadline for one step.
Result<Bytes> fetch_block(Engine& engine, const BlockId& block);

// The references of a tensor's blocks, wherever they are kept.
Result<std::vector<BlockId>> blocks_of(Engine& engine, const StoredTensor& tensor);

Status read_tensor(Engine& engine, const StoredTensor& tensor, DType as,
                   const std::function<Status(std::span<const std::byte>)>& sink);

// The manifest with all its parts.
Result<VersionInfo> read_manifest(Engine& engine, const pb::GetVersionReply& row);

}  // namespace ballast::client
