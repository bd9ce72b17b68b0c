#include "client/internal/download.h"

#include <algorithm>
#include <deque>

#include "client/internal/convert.h"
#include "proto/base/limits.h"
#include "proto/net/worker.h"

namespace ballast::client {
namespace {

// Encoded and decoded blocks that one read holds at a time.
constexpr size_t kReadBytesMax = 96 * limits::kMiB;

// What one block has of the values that are wanted.
struct Piece {
  uint64_t block = 0;
  uint64_t first = 0;  // within the block
  uint64_t count = 0;
};

std::vector<Piece> pieces_of(const Layer& layer, ValueRange range) {
  std::vector<Piece> pieces;
  while (range.count > 0) {
    const uint64_t block = range.first / layer.values_per_block;
    const uint64_t first = range.first % layer.values_per_block;
    const uint64_t count = std::min(range.count, layer.values_of(block) - first);
    pieces.push_back({block, first, count});
    range = {range.first + count, range.count - count};
  }
  return pieces;
}

using Values = std::vector<std::byte>;

// Decodes one block's part of a read into `out`.
asio::awaitable<Status> read_piece(Engine& engine, std::shared_ptr<const Layers> layers,
                                   size_t level, Piece piece, DType as, std::span<std::byte> out) {
  const Layer& layer = (*layers)[level];
  BALLAST_CO_TRY(const Bytes block, co_await engine.block(layer.blocks[piece.block]));
  BALLAST_CO_TRY(const quant::BlockInfo info, quant::inspect_block(block.span()));
  const uint64_t values = layer.values_of(piece.block);
  if (info.values != values)
    co_return fail(Errc::kCorrupt, "a block holds {} values, its tensor says {}", info.values,
                   values);
  Values base;
  if (info.base) {
    if (level + 1 == layers->size())
      co_return fail(Errc::kCorrupt, "a block is a difference, and its tensor names no base");
    // The digest that the block names is that of all the values in its place.
    const ValueRange place{piece.block * layer.values_per_block, values};
    auto read = co_await read_layer(engine, layers, level + 1, place, layer.dtype);
    if (!read) co_return fail_within(std::move(read).error(), "the base of a difference");
    base = *std::move(read);
  }
  co_return co_await net::on_worker(engine.workers(), [&] {
    return quant::decode_block(block.span(), piece.first, piece.count, as, out, base);
  });
}

// What is fetched ahead of the sink, in order. Every job is awaited before this goes.
template <class T>
class ReadAhead {
 public:
  explicit ReadAhead(Engine& engine) : engine_(engine) {}
  ~ReadAhead() {
    for (auto& job : jobs_) job.wait();
  }

  size_t size() const { return jobs_.size(); }
  void start(asio::awaitable<Result<T>> job) { jobs_.push_back(engine_.start(std::move(job))); }
  Result<T> next() {
    auto job = std::move(jobs_.front());
    jobs_.pop_front();
    return job.get();
  }

 private:
  Engine& engine_;
  std::deque<std::future<Result<T>>> jobs_;
};

// How many blocks of `bytes` bytes each a read may hold at a time.
size_t window(Engine& engine, uint64_t bytes) {
  return std::max<size_t>(1, std::min<size_t>(kReadBytesMax / std::max<uint64_t>(1, bytes),
                                              engine.options().window_blocks));
}

// The values of what is encoded.
Status read_encoded(Engine& engine, const StoredTensor& tensor, ValueRange range, DType as,
                    const Sink& sink) {
  BALLAST_TRY(Layers found, layers_of(engine, tensor));
  const auto layers = std::make_shared<const Layers>(std::move(found));
  const Layer& layer = layers->front();
  const size_t held = window(engine, layers_bytes(*layers, as));
  ReadAhead<Values> ahead(engine);
  ValueRange rest = range;
  for (uint64_t left = range.count; left > 0;) {
    while (rest.count > 0 && ahead.size() < held) {
      const uint64_t in_block = layer.values_per_block - rest.first % layer.values_per_block;
      const uint64_t count = std::min(rest.count, in_block);
      ahead.start(read_layer(engine, layers, 0, {rest.first, count}, as));
      rest = {rest.first + count, rest.count - count};
    }
    BALLAST_TRY(const Values piece, ahead.next());
    left -= piece.size() / quant::dtype_bytes(as);
    BALLAST_TRY_STATUS(sink(piece));
  }
  return {};
}

// Takes the small tensor's values and gives those of the original one, with zeros for the slices
// that are gone.
class Spreader {
 public:
  Spreader(const quant::KeptSlices& kept, ValueRange range, size_t width, const Sink& sink)
      : kept_(kept), left_(range), width_(width), sink_(sink) {}

  // An empty piece gives the zeros for which no value has to come.
  Status add(std::span<const std::byte> piece) {
    small_.insert(small_.end(), piece.begin(), piece.end());
    size_t used = 0;
    while (left_.count > 0) {
      const uint64_t count = std::min(left_.count, kValuesMax);
      const size_t needed = kept_.small_range(left_.first, count).count * width_;
      if (needed > small_.size() - used) break;
      out_.resize(count * width_);
      kept_.spread(left_.first, count, width_, std::span(small_).subspan(used, needed), out_);
      used += needed;
      left_ = {left_.first + count, left_.count - count};
      BALLAST_TRY_STATUS(sink_(out_));
    }
    small_.erase(small_.begin(), small_.begin() + static_cast<ptrdiff_t>(used));
    return {};
  }

 private:
  static constexpr uint64_t kValuesMax = 1 << 18;  // of the original, at a time

  const quant::KeptSlices& kept_;
  ValueRange left_;
  size_t width_;
  const Sink& sink_;
  std::vector<std::byte> small_;
  std::vector<std::byte> out_;
};

template <class Message>
Result<Message> parse_block(Engine& engine, const BlockId& id, std::string_view what) {
  BALLAST_TRY(const Bytes bytes, fetch_block(engine, id));
  Message message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return fail(Errc::kCorrupt, "block {} is no {}", id.digest.brief(), what);
  return message;
}

}  // namespace

Result<Bytes> fetch_block(Engine& engine, const BlockId& block) {
  return engine.fetch(block, engine.deadline({})).get();
}

Result<std::vector<BlockId>> blocks_of(Engine& engine, const StoredTensor& tensor) {
  if (!tensor.block_list) return tensor.blocks;
  BALLAST_TRY(const auto list,
              parse_block<pb::BlockList>(engine, *tensor.block_list, "list of blocks"));
  std::vector<BlockId> blocks;
  for (const pb::BlockRef& reference : list.blocks()) {
    BALLAST_TRY(const BlockId id, from_wire(reference));
    blocks.push_back(id);
  }
  return blocks;
}

Result<Layers> layers_of(Engine& engine, const StoredTensor& tensor) {
  Layers layers;
  for (const StoredTensor* at = &tensor; at != nullptr; at = at->base.get()) {
    Layer layer{
        .dtype = at->dtype, .values = at->small_values(), .values_per_block = at->values_per_block};
    BALLAST_TRY(layer.blocks, blocks_of(engine, *at));
    const uint64_t blocks = layer.values == 0 ? 0 : (layer.values - 1) / layer.values_per_block + 1;
    const bool same =
        layers.empty() || (layer.values == layers.front().values && layer.dtype == tensor.dtype);
    if (!same || (layer.values > 0 && layer.blocks.size() != blocks))
      return fail(Errc::kCorrupt, "the tensor '{}'{} has {} values and {} blocks of {}",
                  tensor.name, layers.empty() ? "" : " or a base of it", layer.values,
                  layer.blocks.size(), layer.values_per_block);
    layers.push_back(std::move(layer));
  }
  return layers;
}

size_t layers_bytes(const Layers& layers, DType as) {
  size_t bytes = 0;
  for (const Layer& layer : layers) {
    bytes += std::min(layer.values, layer.values_per_block) * quant::dtype_bytes(as) +
             limits::kBlockBytesTarget;
    as = layer.dtype;
  }
  return bytes;
}

asio::awaitable<Result<Values>> read_layer(Engine& engine, std::shared_ptr<const Layers> layers,
                                           size_t layer, ValueRange range, DType as) {
  Values values(range.count * quant::dtype_bytes(as));
  size_t at = 0;
  for (const Piece& piece : pieces_of((*layers)[layer], range)) {
    const size_t bytes = piece.count * quant::dtype_bytes(as);
    BALLAST_CO_TRY_STATUS(co_await read_piece(engine, layers, layer, piece, as,
                                              std::span(values).subspan(at, bytes)));
    at += bytes;
  }
  co_return values;
}

Status read_tensor(Engine& engine, const StoredTensor& tensor, ValueRange range,
                   const ReadOptions& options, const Sink& sink) {
  const uint64_t values = options.small ? tensor.small_values() : tensor.values();
  if (range.first > values || range.count > values - range.first)
    return fail(Errc::kInvalidArgument, "values {} and {} more lie outside of a tensor of {}",
                range.first, range.count, values);
  const DType as = options.as.value_or(tensor.dtype);
  if (options.small || !tensor.pruning || !tensor.pruning->kept)
    return read_encoded(engine, tensor, range, as, sink);
  const quant::KeptSlices& kept = *tensor.pruning->kept;
  Spreader spreader(kept, range, quant::dtype_bytes(as), sink);
  BALLAST_TRY_STATUS(
      read_encoded(engine, tensor, kept.small_range(range.first, range.count), as,
                   [&](std::span<const std::byte> piece) { return spreader.add(piece); }));
  return spreader.add({});
}

Status read_blocks(Engine& engine, const StoredTensor& tensor, const Sink& sink) {
  BALLAST_TRY(const std::vector<BlockId> blocks, blocks_of(engine, tensor));
  const size_t held = window(engine, limits::kBlockBytesMax);
  ReadAhead<Bytes> ahead(engine);
  size_t started = 0;
  for (size_t done = 0; done < blocks.size(); ++done) {
    while (started < blocks.size() && ahead.size() < held)
      ahead.start(engine.block(blocks[started++]));
    BALLAST_TRY(const Bytes block, ahead.next());
    BALLAST_TRY_STATUS(sink(block.span()));
  }
  return {};
}

Result<VersionInfo> read_manifest(Engine& engine, const pb::GetVersionReply& row) {
  BALLAST_TRY(const BlockId root, from_wire(row.row().manifest()));
  BALLAST_TRY(const auto manifest, parse_block<pb::Manifest>(engine, root, "manifest"));
  VersionInfo version{.model = row.model(),
                      .version = row.version(),
                      .revision = row.row().revision(),
                      .parent_version = manifest.parent_version(),
                      .created_ms = row.row().time_ms(),
                      .manifest = root.digest,
                      .values = manifest.values(),
                      .source_bytes = manifest.source_bytes(),
                      .encoded_bytes = manifest.encoded_bytes(),
                      .error = from_wire(manifest.error())};
  for (const pb::Metadata& entry : manifest.metadata())
    version.metadata.emplace(entry.key(), entry.value());
  for (const pb::BlockRef& reference : manifest.parts()) {
    BALLAST_TRY(const BlockId id, from_wire(reference));
    BALLAST_TRY(const auto part, parse_block<pb::ManifestPart>(engine, id, "part of a manifest"));
    for (const pb::Tensor& wire : part.tensors()) {
      BALLAST_TRY(StoredTensor tensor, from_wire(wire));
      version.tensors.push_back(std::move(tensor));
    }
  }
  return version;
}

}  // namespace ballast::client
