#include "client/internal/publish.h"

#include <algorithm>
#include <numeric>

#include "client/internal/convert.h"
#include "client/internal/upload.h"
#include "proto/base/limits.h"

namespace ballast::client {
namespace {

// How often a version is uploaded again because a failover lost blocks that were staged but not
// yet committed: each time only those are sent.
constexpr int kUploadsMax = 5;

uint64_t source_bytes(const TensorSource& source) {
  uint64_t values = 1;
  for (const uint64_t extent : source.shape) values *= extent;
  return values * quant::dtype_bytes(source.dtype);
}

// Positions of the tensors by (section, name): the order of a manifest.
Result<std::vector<size_t>> manifest_order(const std::vector<TensorSource>& tensors) {
  if (tensors.empty()) return fail(Errc::kInvalidArgument, "a version without tensors");
  if (tensors.size() > limits::kTensorsPerVersionMax)
    return fail(Errc::kInvalidArgument, "{} tensors; the limit is {}", tensors.size(),
                limits::kTensorsPerVersionMax);
  for (const TensorSource& tensor : tensors) {
    BALLAST_TRY_STATUS(check_tensor_name(tensor.name));
    BALLAST_TRY_STATUS(check_tensor_name(tensor.section));
    if (tensor.shape.size() > limits::kTensorRankMax)
      return fail(Errc::kInvalidArgument, "the tensor '{}' has rank {}; the limit is {}",
                  tensor.name, tensor.shape.size(), limits::kTensorRankMax);
  }
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto name = [&](size_t i) { return std::tie(tensors[i].section, tensors[i].name); };
  std::ranges::sort(order, {}, name);
  const auto twice = std::ranges::adjacent_find(order, {}, name);
  if (twice != order.end())
    return fail(Errc::kInvalidArgument, "the tensor '{}' occurs twice in section '{}'",
                tensors[*twice].name, tensors[*twice].section);
  return order;
}

Status check_metadata(const std::map<std::string, std::string>& metadata) {
  size_t bytes = 0;
  for (const auto& [key, value] : metadata) bytes += key.size() + value.size();
  if (bytes <= limits::kMetadataBytesMax) return {};
  return fail(Errc::kInvalidArgument, "{} bytes of metadata; the limit is {}", bytes,
              limits::kMetadataBytesMax);
}

Status check_encoding(const Encoding& encoding, const TensorSource& tensor) {
  BALLAST_TRY_STATUS(quant::check_codec(encoding.codec, tensor.dtype));
  if (!encoding.prune) return {};
  return quant::check_prune(*encoding.prune, tensor.dtype, tensor.shape);
}

class Publication {
 public:
  Publication(Engine& engine, const std::string& model, const std::vector<TensorSource>& tensors,
              const PublishOptions& options)
      : engine_(engine), model_(model), tensors_(tensors), options_(options) {
    for (const TensorSource& tensor : tensors) total_bytes_ += source_bytes(tensor);
  }

  Result<PublishResult> run() {
    BALLAST_TRY_STATUS(check_model(model_));
    BALLAST_TRY(order_, manifest_order(tensors_));
    BALLAST_TRY_STATUS(check_metadata(options_.metadata));
    BALLAST_TRY_STATUS(plan());
    for (int attempt = 1;; ++attempt) {
      BALLAST_TRY(const BlockId root, upload());
      auto reply = commit(root);
      if (reply) return finish(root, *reply);
      if (reply.error().code != Errc::kMissingBlocks || attempt == kUploadsMax)
        return std::unexpected(std::move(reply).error());
    }
  }

 private:
  // What becomes of each tensor. A version is stored whole or not at all, so a tensor that can't be
  // stored as the policy says is met here, before hours of uploading the others.
  Status plan() {
    for (const size_t position : order_) {
      const TensorSource& source = tensors_[position];
      const Encoding exact{.codec = quant::exact_codec(source.dtype), .prune = {}};
      const Encoding encoding = options_.policy ? options_.policy(source) : exact;
      if (Status can = check_encoding(encoding, source); !can)
        return fail_within(std::move(can).error(), "tensor '{}'", source.name);
      items_.push_back({.source = &source, .encoding = encoding, .base = counterpart(source)});
    }
    return {};
  }

  Result<BlockId> upload() {
    version_ = {
        .model = model_, .parent_version = options_.parent_version, .metadata = options_.metadata};
    uint64_t done_bytes = 0;
    Uploader uploader(engine_, {.ack = options_.ack,
                                .step_deadline = engine_.options().deadline,
                                .encoded = [&](uint64_t bytes) {
                                  done_bytes += bytes;
                                  if (options_.progress)
                                    options_.progress(done_bytes, total_bytes_);
                                }});
    BALLAST_TRY(std::vector<StoredTensor> stored, uploader.upload(items_));
    for (StoredTensor& tensor : stored) add(std::move(tensor));
    BALLAST_TRY(const BlockId root, upload_manifest(uploader));
    uploaded_bytes_ += uploader.uploaded_bytes();
    return root;
  }

  const StoredTensor* counterpart(const TensorSource& source) const {
    if (!options_.base) return nullptr;
    const auto name = [](const auto& tensor) { return std::tie(tensor.section, tensor.name); };
    const auto& tensors = options_.base->tensors;
    const auto found = std::ranges::lower_bound(tensors, name(source), {}, name);
    return found != tensors.end() && name(*found) == name(source) ? &*found : nullptr;
  }

  void add(StoredTensor tensor) {
    version_.values += tensor.values();
    version_.source_bytes += tensor.source_bytes();
    version_.encoded_bytes += tensor.encoded_bytes;
    if (tensor.error) version_.error += *tensor.error;
    version_.tensors.push_back(std::move(tensor));
  }

  Result<BlockId> upload_manifest(Uploader& uploader) {
    pb::Manifest manifest;
    manifest.set_model(model_);
    manifest.set_parent_version(version_.parent_version);
    for (const auto& [key, value] : version_.metadata) {
      pb::Metadata& entry = *manifest.add_metadata();
      entry.set_key(key);
      entry.set_value(value);
    }
    manifest.set_tensors(version_.tensors.size());
    manifest.set_values(version_.values);
    manifest.set_source_bytes(version_.source_bytes);
    manifest.set_encoded_bytes(version_.encoded_bytes);
    *manifest.mutable_error() = to_wire(version_.error);
    BALLAST_TRY_STATUS(upload_parts(uploader, manifest));
    const std::string bytes = manifest.SerializeAsString();
    if (bytes.size() > limits::kBlockBytesMax)
      return fail(Errc::kInvalidArgument, "the manifest has {} bytes, which is too many",
                  bytes.size());
    return uploader.upload_block(bytes);
  }

  Status upload_parts(Uploader& uploader, pb::Manifest& manifest) {
    pb::ManifestPart part;
    size_t part_bytes = 0;
    const auto flush = [&]() -> Status {
      if (part.tensors().empty()) return {};
      BALLAST_TRY(const BlockId id, uploader.upload_block(part.SerializeAsString()));
      *manifest.add_parts() = to_wire(id);
      part.Clear();
      part_bytes = 0;
      return {};
    };
    for (const StoredTensor& tensor : version_.tensors) {
      pb::Tensor wire = to_wire(tensor);
      const size_t bytes = wire.ByteSizeLong() + 8;
      if (part_bytes + bytes > limits::kBlockBytesTarget) BALLAST_TRY_STATUS(flush());
      part_bytes += bytes;
      *part.add_tensors() = std::move(wire);
    }
    return flush();
  }

  Result<pb::WriteReply> commit(const BlockId& root) {
    std::vector<pb::Operation> operations(1);
    pb::PublishVersion& publish = *operations[0].mutable_publish_version();
    publish.set_model(model_);
    *publish.mutable_manifest() = to_wire(root);
    std::vector<pb::Precondition> preconditions;
    if (options_.expect_latest) {
      auto& latest = *preconditions.emplace_back().mutable_latest_version();
      latest.set_model(model_);
      latest.set_version(*options_.expect_latest);
    }
    return engine_.commit(std::move(operations), std::move(preconditions), options_.ack,
                          engine_.deadline(options_.deadline));
  }

  PublishResult finish(const BlockId& root, const pb::WriteReply& reply) {
    PublishResult result{.receipt = receipt_from_wire(reply), .uploaded_bytes = uploaded_bytes_};
    version_.manifest = root.digest;
    version_.revision = result.receipt.index.value();
    if (reply.result().operations_size() > 0)
      version_.version = reply.result().operations(0).version();
    result.version = std::move(version_);
    return result;
  }

  Engine& engine_;
  const std::string& model_;
  const std::vector<TensorSource>& tensors_;
  const PublishOptions& options_;
  std::vector<size_t> order_;
  std::vector<UploadItem> items_;
  VersionInfo version_;
  uint64_t total_bytes_ = 0;
  uint64_t uploaded_bytes_ = 0;
};

}  // namespace

Result<PublishResult> publish(Engine& engine, const std::string& model,
                              const std::vector<TensorSource>& tensors,
                              const PublishOptions& options) {
  return Publication(engine, model, tensors, options).run();
}

}  // namespace ballast::client
