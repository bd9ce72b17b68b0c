// The way of tensors into the store: prune, encode and hash on the worker pool, ask which blocks
// the cluster lacks, upload those.
//
// Blocks go in batches that span tensors, and a batch is encoded while the one before it is on its
// way: many small tensors cost no more round trips than a few big ones.
#pragma once

#include <vector>

#include "client/internal/engine.h"
#include "client/internal/prepared.h"

namespace ballast::client {

struct UploadSettings {
  Ack ack = Ack::kSync;
  // Each step gets this long; as long as something moves, the whole may take any time.
  milliseconds step_deadline{30'000};
  std::function<void(uint64_t source_bytes)> encoded;  // after each block, on the calling thread
};

struct UploadItem {
  const TensorSource* source = nullptr;  // outlives the call
  Encoding encoding;
  const StoredTensor* base = nullptr;  // likewise; used if it can be, see PutOptions::base
};

// The only block of a small tensor, and what describes it.
struct SmallTensor {
  StoredTensor tensor;
  Engine::StagedBlock block;
};

// Encodes without uploading, and without a base. REQUIRES: the tensor fits one block.
Result<SmallTensor> encode_small(const UploadItem& item);

class Uploader {
 public:
  Uploader(Engine& engine, UploadSettings settings);

  // Encodes the tensors and uploads what the cluster lacks of them. In the order given.
  Result<std::vector<StoredTensor>> upload(const std::vector<UploadItem>& items);
  // Uploads bytes as one block. REQUIRES: 1 to limits::kBlockBytesMax bytes.
  Result<BlockId> upload_block(std::string_view bytes);

  uint64_t uploaded_bytes() const { return uploaded_bytes_; }

 private:
  struct Tensor;
  struct Job;
  using Batch = std::vector<Job>;

  void begin(std::vector<Tensor>& tensors, size_t current);
  Status prepare(Tensor& tensor);
  Job start_block(Tensor& tensor);
  Batch start_batch(std::vector<Tensor>& tensors, size_t& current);
  Status finish_batch(Batch batch);
  Result<StoredTensor> finish(Tensor& tensor);
  Status send(std::vector<Engine::StagedBlock> blocks);
  Status move_out_blocks(StoredTensor& tensor);
  Clock::time_point step() const { return Clock::now() + settings_.step_deadline; }

  Engine& engine_;
  UploadSettings settings_;
  uint64_t uploaded_bytes_ = 0;
};

}  // namespace ballast::client
