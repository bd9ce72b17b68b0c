#include "client/internal/download.h"

#include <deque>

#include "client/internal/convert.h"
#include "proto/base/limits.h"

namespace ballast::client {
namespace {

// Encoded and decoded blocks that one read holds at a time.
constexpr size_t kReadBytesMax = 96 * limits::kMiB;

struct Piece {
  BlockId block;
  uint64_t values = 0;
};

Result<std::vector<Piece>> plan(Engine& engine, const StoredTensor& tensor) {
  BALLAST_TRY(const std::vector<BlockId> blocks, blocks_of(engine, tensor));
  std::vector<Piece> pieces;
  uint64_t left = tensor.values();
  for (const BlockId& block : blocks) {
    const uint64_t values = std::min(left, tensor.values_per_block);
    pieces.push_back({block, values});
    left -= values;
  }
  if (left != 0)
    return fail(Errc::kCorrupt, "the tensor '{}' lacks blocks for {} of its values", tensor.name,
                left);
  return pieces;
}

Result<std::vector<std::byte>> decode(const Bytes& block, uint64_t values, DType as) {
  BALLAST_TRY(const quant::BlockInfo info, quant::inspect_block(block.span()));
  if (info.values != values)
    return fail(Errc::kCorrupt, "a block holds {} values, its tensor says {}", info.values, values);
  std::vector<std::byte> out(values * quant::dtype_bytes(as));
  BALLAST_TRY_STATUS(quant::decode_block(block.span(), 0, values, as, out));
  return out;
}

// Blocks that are fetched and decoded ahead of the sink. Every job is awaited before this goes.
class ReadAhead {
 public:
  ReadAhead(Engine& engine, DType as) : engine_(engine), as_(as) {}
  ~ReadAhead() {
    for (auto& job : jobs_) job.wait();
  }

  size_t size() const { return jobs_.size(); }

  void start(const Piece& piece) {
    jobs_.push_back(engine_.fetch_decoded(piece.block, engine_.deadline({}),
                                          [as = as_, values = piece.values](const Bytes& block) {
                                            return decode(block, values, as);
                                          }));
  }

  Result<std::vector<std::byte>> next() {
    auto job = std::move(jobs_.front());
    jobs_.pop_front();
    return job.get();
  }

 private:
  Engine& engine_;
  DType as_;
  std::deque<std::future<Result<std::vector<std::byte>>>> jobs_;
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

Status read_tensor(Engine& engine, const StoredTensor& tensor, DType as,
                   const std::function<Status(std::span<const std::byte>)>& sink) {
  BALLAST_TRY(const std::vector<Piece> pieces, plan(engine, tensor));
  const uint64_t decoded = std::max<uint64_t>(1, tensor.values_per_block * quant::dtype_bytes(as));
  const size_t fitting = kReadBytesMax / (decoded + limits::kBlockBytesTarget);
  const size_t window = std::max<size_t>(1, std::min(fitting, engine.options().window_blocks));
  ReadAhead ahead(engine, as);
  size_t started = 0;
  for (size_t done = 0; done < pieces.size(); ++done) {
    while (started < pieces.size() && ahead.size() < window) ahead.start(pieces[started++]);
    BALLAST_TRY(const std::vector<std::byte> values, ahead.next());
    if (!values.empty()) BALLAST_TRY_STATUS(sink(values));
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
