#include "client/internal/upload.h"

#include <algorithm>
#include <unordered_set>

#include "client/internal/convert.h"
#include "client/internal/download.h"
#include "proto/base/crc32c.h"
#include "proto/base/limits.h"
#include "proto/net/worker.h"

namespace ballast::client {
namespace {

constexpr size_t kBatchBlocksMax = 256;
static_assert(kBatchBlocksMax <= limits::kDigestsPerQueryMax);
// What the jobs of a batch may hold: values, and what codecs make of them. Two batches are under
// way at a time, and each of them keeps up to window_blocks encoded blocks beside this.
constexpr size_t kBatchBytesMax = 80 * limits::kMiB;

using EncoderResult = Result<std::shared_ptr<const quant::TensorEncoder>>;
using PreparedResult = Result<std::shared_ptr<const Prepared>>;

struct EncodedPart {
  Engine::StagedBlock block;
  quant::ErrorSums error;
  uint64_t source_bytes = 0;
  Zeroed zeroed;
  bool difference = false;
};

BlockId identify(std::span<const std::byte> bytes) {
  return {.digest = sha256(bytes),
          .length = static_cast<uint32_t>(bytes.size()),
          .crc32c = crc32c(bytes)};
}

StoredTensor describe(const UploadItem& item) {
  const CodecSpec codec = item.encoding.codec;
  return {.name = item.source->name,
          .section = item.source->section,
          .dtype = item.source->dtype,
          .shape = item.source->shape,
          .codec = codec,
          .values_per_block = quant::values_per_block(codec, item.source->dtype)};
}

// True if what is read is not all that was written. What pruning lost is measured by the energy of
// the rest, also if that is kept exactly.
bool loses(const StoredTensor& tensor) {
  return tensor.pruning || !quant::codec_is_exact(tensor.codec, tensor.dtype);
}

// True if the tensor can be stored as a difference to `base`.
bool suits(const StoredTensor* base, const UploadItem& item) {
  if (base == nullptr || item.encoding.codec.id != quant::CodecId::kLossless) return false;
  // Small tensors would need the same slices.
  if (item.encoding.prune && quant::prune_is_structured(*item.encoding.prune)) return false;
  return check_base(*base, item.source->dtype, item.source->shape) &&
         base->base_depth() < limits::kBaseDepthMax;
}

EncoderResult make_encoder(const PreparedResult& prepared, CodecSpec codec) {
  if (!prepared) return std::unexpected(prepared.error());
  const Prepared& source = **prepared;
  const size_t width = quant::dtype_bytes(source.dtype());
  std::vector<std::byte> sample;
  for (const quant::ValueRange& range : quant::sample_ranges(codec, source.values())) {
    const size_t at = sample.size();
    sample.resize(at + range.count * width);
    BALLAST_TRY_STATUS(source.read(range.first, std::span(sample).subspan(at)));
  }
  BALLAST_TRY(auto encoder, quant::TensorEncoder::create(codec, source.dtype(), sample));
  return std::shared_ptr<const quant::TensorEncoder>(std::move(encoder));
}

// `base`: the values of a base at the same place, or nothing.
Result<EncodedPart> encode(const Prepared& source, const EncoderResult& encoder, ValueRange range,
                           std::span<const std::byte> base) {
  if (!encoder) return std::unexpected(encoder.error());
  MutableBytes values(range.count * quant::dtype_bytes(source.dtype()));
  EncodedPart part{.source_bytes = values.size()};
  BALLAST_TRY_STATUS(source.read(range.first, values.span(), &part.zeroed));
  BALLAST_TRY(quant::EncodedBlock encoded, (*encoder)->encode(values.span()));
  if (!base.empty()) {
    BALLAST_TRY(quant::EncodedBlock difference, (*encoder)->encode_delta(values.span(), base));
    part.difference = difference.bytes.size() < encoded.bytes.size();
    if (part.difference) encoded = std::move(difference);
  }
  part.error = encoded.error;
  part.block.bytes = Bytes(std::move(encoded.bytes));
  part.block.id = identify(part.block.bytes.span());
  return part;
}

// How many bytes of the source a block stands for: slices that were taken out are spread over all.
uint64_t share_of_source(const StoredTensor& tensor, const Prepared& source,
                         const EncodedPart& part) {
  const uint64_t encoded = source.values() * quant::dtype_bytes(tensor.dtype);
  if (encoded == 0 || encoded == tensor.source_bytes()) return part.source_bytes;
  return static_cast<uint64_t>(static_cast<double>(part.source_bytes) /
                               static_cast<double>(encoded) *
                               static_cast<double>(tensor.source_bytes()));
}

size_t inline_blocks(const StoredTensor& tensor) {
  return tensor.blocks.size() + (tensor.base ? inline_blocks(*tensor.base) : 0);
}

// Without what names it: it is known by what stands on it.
std::shared_ptr<const StoredTensor> as_base(StoredTensor tensor) {
  tensor.name.clear();
  tensor.section.clear();
  return std::make_shared<const StoredTensor>(std::move(tensor));
}

}  // namespace

Result<SmallTensor> encode_small(const UploadItem& item) {
  SmallTensor small{.tensor = describe(item)};
  const PreparedResult prepared = Prepared::create(*item.source, item.encoding.prune);
  if (!prepared) return std::unexpected(prepared.error());
  const Prepared& source = **prepared;
  BALLAST_TRY(EncodedPart part, encode(source, make_encoder(prepared, item.encoding.codec),
                                       {0, source.values()}, {}));
  small.tensor.blocks.push_back(part.block.id);
  small.tensor.encoded_bytes = part.block.id.length;
  small.tensor.pruning = source.pruning(part.zeroed, part.error.signal_energy);
  if (loses(small.tensor)) small.tensor.error = part.error;
  small.block = std::move(part.block);
  return small;
}

// A tensor on its way.
struct Uploader::Tensor {
  UploadItem item;
  StoredTensor stored;
  quant::ErrorSums error;
  Zeroed zeroed;
  bool differs = false;  // some block is a difference to the base
  bool begun = false;
  std::shared_future<PreparedResult> preparing;
  std::shared_ptr<const Prepared> source;  // once prepare() has succeeded
  std::shared_ptr<const Layers> base;      // likewise; null: no differences
  uint64_t blocks = 1;                     // likewise
  uint64_t next_block = 0;
  std::shared_future<EncoderResult> encoder;  // made on the pool, before the first block's job
};

struct Uploader::Job {
  Tensor* tensor = nullptr;
  size_t bytes = 0;  // that it holds until it is done
  std::future<Result<EncodedPart>> part;
};

namespace {

asio::awaitable<Result<EncodedPart>> encode_against(Engine& engine,
                                                    std::shared_ptr<const Prepared> source,
                                                    std::shared_ptr<const Layers> base,
                                                    std::shared_future<EncoderResult> encoder,
                                                    ValueRange range) {
  auto values = co_await read_layer(engine, base, 0, range, source->dtype());
  if (!values) co_return fail_within(std::move(values).error(), "the base of the difference");
  co_return co_await net::on_worker(engine.workers(),
                                    [&] { return encode(*source, encoder.get(), range, *values); });
}

}  // namespace

Uploader::Uploader(Engine& engine, UploadSettings settings)
    : engine_(engine), settings_(std::move(settings)) {}

// Has the tensors from `current` on pruned ahead, as many as there are threads, and their encoders
// made. The pool is first in, first out, so an encoder is being made before a block's job can wait
// for it, and its tensor planned before that.
void Uploader::begin(std::vector<Tensor>& tensors, size_t current) {
  const size_t end = std::min(tensors.size(), current + engine_.threads());
  for (size_t i = current; i < end; ++i) {
    Tensor& tensor = tensors[i];
    if (std::exchange(tensor.begun, true)) continue;
    const UploadItem item = tensor.item;
    auto prepare = [item] { return Prepared::create(*item.source, item.encoding.prune); };
    tensor.preparing = asio::post(engine_.workers(), asio::use_future(std::move(prepare))).share();
    auto make = [prepared = tensor.preparing, codec = item.encoding.codec] {
      return make_encoder(prepared.get(), codec);
    };
    tensor.encoder = asio::post(engine_.workers(), asio::use_future(std::move(make))).share();
  }
}

// Waits until the tensor is planned, and learns how many blocks it will be.
Status Uploader::prepare(Tensor& tensor) {
  BALLAST_TRY(tensor.source, PreparedResult(tensor.preparing.get()));
  const uint64_t per_block = tensor.stored.values_per_block;
  const uint64_t values = tensor.source->values();
  // An empty tensor is one empty block, so that every tensor has one.
  tensor.blocks = values == 0 ? 1 : (values - 1) / per_block + 1;
  if (values == 0 || !suits(tensor.item.base, tensor.item)) return {};
  BALLAST_TRY(Layers base, layers_of(engine_, *tensor.item.base));
  tensor.base = std::make_shared<const Layers>(std::move(base));
  return {};
}

// Gives the next block to the pool.
Uploader::Job Uploader::start_block(Tensor& tensor) {
  Job job{.tensor = &tensor};
  if (tensor.next_block == 0) {
    if (Status status = prepare(tensor); !status) {
      tensor.next_block = tensor.blocks;
      std::promise<Result<EncodedPart>> failed;
      failed.set_value(std::unexpected(std::move(status).error()));
      job.part = failed.get_future();
      return job;
    }
  }
  const uint64_t per_block = tensor.stored.values_per_block;
  const uint64_t first = tensor.next_block++ * per_block;
  const ValueRange range{first, std::min(per_block, tensor.source->values() - first)};
  // The values, and what a codec makes of them meanwhile; then those of the base and its bases.
  job.bytes = 2 * range.count * quant::dtype_bytes(tensor.stored.dtype);
  if (tensor.base) {
    job.bytes += layers_bytes(*tensor.base, tensor.stored.dtype);
    job.part =
        engine_.start(encode_against(engine_, tensor.source, tensor.base, tensor.encoder, range));
    return job;
  }
  auto run = [source = tensor.source, encoder = tensor.encoder, range] {
    return encode(*source, encoder.get(), range, {});
  };
  job.part = asio::post(engine_.workers(), asio::use_future(std::move(run)));
  return job;
}

// Starts the next blocks, from the tensor at `current` on.
Uploader::Batch Uploader::start_batch(std::vector<Tensor>& tensors, size_t& current) {
  Batch batch;
  size_t held = 0;
  size_t encoded = 0;
  const size_t encoded_max = engine_.options().window_blocks * limits::kBlockBytesTarget;
  while (current < tensors.size() && held < kBatchBytesMax && encoded < encoded_max &&
         batch.size() < kBatchBlocksMax) {
    begin(tensors, current);
    Tensor& tensor = tensors[current];
    batch.push_back(start_block(tensor));
    held += batch.back().bytes;
    encoded += std::min(batch.back().bytes / 2, limits::kBlockBytesTarget);
    if (tensor.next_block == tensor.blocks) ++current;
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
    Tensor& tensor = *job.tensor;
    tensor.stored.blocks.push_back(part->block.id);
    tensor.stored.encoded_bytes += part->block.id.length;
    tensor.error += part->error;
    tensor.zeroed += part->zeroed;
    tensor.differs |= part->difference;
    if (settings_.encoded) settings_.encoded(share_of_source(tensor.stored, *tensor.source, *part));
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
  tensors.reserve(items.size());
  for (const UploadItem& item : items)
    tensors.push_back(Tensor{.item = item, .stored = describe(item)});
  size_t current = 0;
  Status status;
  for (Batch batch = start_batch(tensors, current); !batch.empty();) {
    Batch next;
    if (status) next = start_batch(tensors, current);
    if (Status one = finish_batch(std::move(batch)); !one && status) status = std::move(one);
    batch = std::move(next);
  }
  // After an error some tensors are still being planned, from the caller's sources.
  for (Tensor& tensor : tensors)
    if (tensor.encoder.valid()) tensor.encoder.wait();
  BALLAST_TRY_STATUS(status);
  std::vector<StoredTensor> stored;
  for (Tensor& tensor : tensors) {
    BALLAST_TRY(StoredTensor one, finish(tensor));
    stored.push_back(std::move(one));
  }
  return stored;
}

Result<StoredTensor> Uploader::finish(Tensor& tensor) {
  StoredTensor stored = std::move(tensor.stored);
  stored.pruning = tensor.source->pruning(tensor.zeroed, tensor.error.signal_energy);
  if (loses(stored)) stored.error = tensor.error;
  if (tensor.differs) stored.base = as_base(*tensor.item.base);
  BALLAST_TRY_STATUS(move_out_blocks(stored));
  return stored;
}

// A tensor of many blocks keeps their references in a block of their own, so that no log entry
// grows with it; so do its bases, if they do not already.
Status Uploader::move_out_blocks(StoredTensor& tensor) {
  if (inline_blocks(tensor) <= limits::kInlineBlocksMax) return {};
  if (tensor.base) {
    StoredTensor base = *tensor.base;
    BALLAST_TRY_STATUS(move_out_blocks(base));
    tensor.base = as_base(std::move(base));
  }
  // A few of each layer may stay.
  if (tensor.blocks.size() <= limits::kInlineBlocksMax / (limits::kBaseDepthMax + 1)) return {};
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
