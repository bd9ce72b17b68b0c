#include "client/internal/upload.h"

#include <algorithm>
#include <unordered_set>

#include "client/internal/convert.h"
#include "proto/base/crc32c.h"
#include "proto/base/limits.h"

namespace ballast::client {
namespace {

constexpr size_t kBatchBlocksMax = 256;
static_assert(kBatchBlocksMax <= limits::kDigestsPerQueryMax);

using EncoderResult = Result<std::shared_ptr<const quant::TensorEncoder>>;

struct EncodedPart {
  Engine::StagedBlock block;
  quant::ErrorSums error;
  uint64_t source_bytes = 0;
};

BlockId identify(std::span<const std::byte> bytes) {
  return {.digest = sha256(bytes),
          .length = static_cast<uint32_t>(bytes.size()),
          .crc32c = crc32c(bytes)};
}

StoredTensor describe(const UploadItem& item) {
  return {.name = item.source->name,
          .section = item.source->section,
          .dtype = item.source->dtype,
          .shape = item.source->shape,
          .codec = item.codec,
          .values_per_block = quant::values_per_block(item.codec, item.source->dtype)};
}

// An empty tensor is one empty block, so that every tensor has one.
uint64_t block_count(const StoredTensor& tensor) {
  const uint64_t values = tensor.values();
  return values == 0 ? 1 : (values + tensor.values_per_block - 1) / tensor.values_per_block;
}

// True if decoding gives back what was written.
bool is_exact(const StoredTensor& tensor) {
  return tensor.codec == quant::exact_codec(tensor.dtype);
}

EncoderResult make_encoder(const UploadItem& item, uint64_t values) {
  const TensorSource& source = *item.source;
  const size_t width = quant::dtype_bytes(source.dtype);
  std::vector<std::byte> sample;
  for (const quant::ValueRange& range : quant::sample_ranges(item.codec, values)) {
    const size_t at = sample.size();
    sample.resize(at + range.count * width);
    BALLAST_TRY_STATUS(source.read(range.first * width, std::span(sample).subspan(at)));
  }
  BALLAST_TRY(auto encoder, quant::TensorEncoder::create(item.codec, source.dtype, sample));
  return std::shared_ptr<const quant::TensorEncoder>(std::move(encoder));
}

Result<EncodedPart> encode(const TensorSource& source, const EncoderResult& encoder, uint64_t first,
                           uint64_t count) {
  if (!encoder) return std::unexpected(encoder.error());
  const size_t width = quant::dtype_bytes(source.dtype);
  MutableBytes values(count * width);
  if (count > 0) BALLAST_TRY_STATUS(source.read(first * width, values.span()));
  BALLAST_TRY(quant::EncodedBlock encoded, (*encoder)->encode(values.span()));
  EncodedPart part{.error = encoded.error, .source_bytes = values.size()};
  part.block.bytes = Bytes(std::move(encoded.bytes));
  part.block.id = identify(part.block.bytes.span());
  return part;
}

}  // namespace

Result<SmallTensor> encode_small(const UploadItem& item) {
  SmallTensor small{.tensor = describe(item)};
  const uint64_t values = small.tensor.values();
  BALLAST_TRY(EncodedPart part, encode(*item.source, make_encoder(item, values), 0, values));
  small.tensor.blocks.push_back(part.block.id);
  small.tensor.encoded_bytes = part.block.id.length;
  if (!is_exact(small.tensor)) small.tensor.error = part.error;
  small.block = std::move(part.block);
  return small;
}

// A tensor on its way.
struct Uploader::Tensor {
  UploadItem item;
  StoredTensor stored;
  quant::ErrorSums error;
  uint64_t blocks = 0;
  uint64_t next_block = 0;
  std::shared_future<EncoderResult> encoder;  // made on the pool, before the first block's job
};

struct Uploader::Job {
  Tensor* tensor = nullptr;
  std::future<Result<EncodedPart>> part;
};

Uploader::Uploader(Engine& engine, UploadSettings settings)
    : engine_(engine), settings_(std::move(settings)) {}

// Gives the next blocks to the pool, from the tensor at `current` on. The pool is first in, first
// out, so a tensor's encoder is being made before a block's job can wait for it.
Uploader::Batch Uploader::start_batch(std::vector<Tensor>& tensors, size_t& current) {
  Batch batch;
  const size_t bytes_max = engine_.options().window_blocks * limits::kBlockBytesTarget;
  for (size_t bytes = 0; current < tensors.size();) {
    Tensor& tensor = tensors[current];
    if (tensor.next_block == tensor.blocks) {
      ++current;
      continue;
    }
    const uint64_t per_block = tensor.stored.values_per_block;
    const uint64_t first = tensor.next_block * per_block;
    const uint64_t count = std::min(per_block, tensor.stored.values() - first);
    const TensorSource& source = *tensor.item.source;
    bytes += std::min<size_t>(count * quant::dtype_bytes(source.dtype), limits::kBlockBytesTarget);
    if (!batch.empty() && (bytes > bytes_max || batch.size() == kBatchBlocksMax)) break;
    if (tensor.next_block++ == 0) {
      auto make = [item = tensor.item, values = tensor.stored.values()] {
        return make_encoder(item, values);
      };
      tensor.encoder = asio::post(engine_.workers(), asio::use_future(std::move(make))).share();
    }
    auto job = [&source, encoder = tensor.encoder, first, count] {
      return encode(source, encoder.get(), first, count);
    };
    batch.push_back({&tensor, asio::post(engine_.workers(), asio::use_future(std::move(job)))});
  }
  return batch;
}

Status Uploader::finish_batch(Batch batch) {
  std::vector<Engine::StagedBlock> blocks;
  Status status;
  // Every future is awaited, also after an error: the jobs refer to the caller's sources.
  for (Job& job : batch) {
    Result<EncodedPart> part = job.part.get();
    if (!part) {
      if (status)
        status = fail_within(std::move(part).error(), "tensor '{}'", job.tensor->stored.name);
      continue;
    }
    job.tensor->stored.blocks.push_back(part->block.id);
    job.tensor->stored.encoded_bytes += part->block.id.length;
    job.tensor->error += part->error;
    if (settings_.encoded) settings_.encoded(part->source_bytes);
    blocks.push_back(std::move(part->block));
  }
  if (!status) return status;
  return send(std::move(blocks));
}

Status Uploader::send(std::vector<Engine::StagedBlock> blocks) {
  std::vector<Digest> digests;
  for (const auto& block : blocks) digests.push_back(block.id.digest);
  BALLAST_TRY(const std::vector<Digest> missing, engine_.missing(digests, step()));
  std::unordered_set<Digest> wanted(missing.begin(), missing.end());
  std::vector<std::future<Status>> uploads;
  for (auto& block : blocks) {
    if (wanted.erase(block.id.digest) == 0) continue;
    uploaded_bytes_ += block.id.length;
    uploads.push_back(engine_.stage(block.id, std::move(block.bytes), settings_.ack, step()));
  }
  Status status;
  for (auto& upload : uploads) {
    if (Status one = upload.get(); !one && status) status = std::move(one);
  }
  return status;
}

Result<std::vector<StoredTensor>> Uploader::upload(const std::vector<UploadItem>& items) {
  std::vector<Tensor> tensors;
  for (const UploadItem& item : items) {
    Tensor& tensor = tensors.emplace_back(Tensor{.item = item, .stored = describe(item)});
    tensor.blocks = block_count(tensor.stored);
  }
  size_t current = 0;
  Status status;
  for (Batch batch = start_batch(tensors, current); !batch.empty();) {
    Batch next;
    if (status) next = start_batch(tensors, current);
    if (Status one = finish_batch(std::move(batch)); !one && status) status = std::move(one);
    batch = std::move(next);
  }
  BALLAST_TRY_STATUS(status);
  std::vector<StoredTensor> stored;
  for (Tensor& tensor : tensors) {
    if (!is_exact(tensor.stored)) tensor.stored.error = tensor.error;
    BALLAST_TRY_STATUS(move_out_blocks(tensor.stored));
    stored.push_back(std::move(tensor.stored));
  }
  return stored;
}

// A tensor of many blocks keeps their references in a block of their own, so that no log entry
// grows with it.
Status Uploader::move_out_blocks(StoredTensor& tensor) {
  if (tensor.blocks.size() <= limits::kInlineBlocksMax) return {};
  pb::BlockList list;
  for (const BlockId& block : tensor.blocks) *list.add_blocks() = to_wire(block);
  const std::string bytes = list.SerializeAsString();
  if (bytes.size() > limits::kBlockBytesMax)
    return fail(Errc::kInvalidArgument, "the tensor '{}' has {} blocks, which is too many",
                tensor.name, tensor.blocks.size());
  BALLAST_TRY(tensor.block_list, upload_block(bytes));
  tensor.blocks.clear();
  return {};
}

Result<BlockId> Uploader::upload_block(std::string_view bytes) {
  Engine::StagedBlock block{.bytes = Bytes::copy_of(bytes)};
  block.id = identify(block.bytes.span());
  const BlockId id = block.id;
  std::vector<Engine::StagedBlock> blocks;
  blocks.push_back(std::move(block));
  BALLAST_TRY_STATUS(send(std::move(blocks)));
  return id;
}

}  // namespace ballast::client
