#include "client/client.h"

#include <algorithm>
#include <cstring>

#include "client/internal/convert.h"
#include "client/internal/download.h"
#include "client/internal/engine.h"
#include "client/internal/garbage.h"
#include "client/internal/members.h"
#include "client/internal/publish.h"
#include "client/internal/upload.h"
#include "proto/base/limits.h"

namespace ballast::client {
namespace {

constexpr milliseconds kStatusTime{2000};  // of one node that is asked how it is

uint64_t product(const std::vector<uint64_t>& shape) {
  uint64_t values = 1;
  for (const uint64_t extent : shape) values *= extent;
  return values;
}

Status check_tensor(const TensorView& tensor) {
  if (tensor.shape.size() > limits::kTensorRankMax)
    return fail(Errc::kInvalidArgument, "a tensor of rank {}; the limit is {}", tensor.shape.size(),
                limits::kTensorRankMax);
  uint64_t bytes = quant::dtype_bytes(tensor.dtype);
  for (const uint64_t extent : tensor.shape) {
    if (__builtin_mul_overflow(bytes, extent, &bytes))
      return fail(Errc::kInvalidArgument, "the tensor's shape overflows");
  }
  if (bytes != tensor.data.size())
    return fail(Errc::kInvalidArgument, "the shape needs {} bytes, the tensor has {}", bytes,
                tensor.data.size());
  return {};
}

TensorSource source_of(const TensorView& tensor) {
  return {.name = "",
          .section = "",
          .dtype = tensor.dtype,
          .shape = tensor.shape,
          .read = [data = tensor.data](uint64_t offset, std::span<std::byte> out) -> Status {
            std::memcpy(out.data(), data.data() + offset, out.size());
            return {};
          }};
}

// A sink. `data` outlives it.
auto appending_to(std::vector<std::byte>& data) {
  return [&data](std::span<const std::byte> piece) -> Status {
    data.insert(data.end(), piece.begin(), piece.end());
    return {};
  };
}

}  // namespace

uint64_t StoredTensor::values() const { return product(shape); }
uint64_t StoredTensor::source_bytes() const { return values() * quant::dtype_bytes(dtype); }

std::vector<uint64_t> StoredPruning::kept_indices() const {
  std::vector<uint64_t> indices;
  if (!kept) return indices;
  const std::span<const std::byte> bitmap = kept->bitmap();
  for (uint64_t i = 0; i < bitmap.size() * 8; ++i)
    if ((bitmap[i / 8] >> (i % 8) & std::byte{1}) != std::byte{0}) indices.push_back(i);
  return indices;
}

std::vector<uint64_t> StoredTensor::small_shape() const {
  if (!pruning || !pruning->kept) return shape;
  const auto small = pruning->kept->small_shape();
  return {small.begin(), small.end()};
}

uint64_t StoredTensor::small_values() const { return product(small_shape()); }

quant::ErrorSums StoredTensor::error_with_pruning() const {
  quant::ErrorSums sums = error.value_or(quant::ErrorSums{});
  if (!pruning) return sums;
  sums.signal_energy += pruning->removed_energy;
  sums.noise_energy += pruning->removed_energy;
  return sums;
}

Status check_base(const StoredTensor& base, DType dtype, const std::vector<uint64_t>& shape) {
  if (base.dtype != dtype || base.shape != shape)
    return fail(Errc::kInvalidArgument,
                "a difference needs a base of the same dtype and shape, {} [{}], not {} [{}]",
                quant::dtype_name(dtype), fmt::join(shape, ", "), quant::dtype_name(base.dtype),
                fmt::join(base.shape, ", "));
  if (!quant::codec_is_exact(base.codec, base.dtype))
    return fail(Errc::kInvalidArgument,
                "a difference needs a base that is stored exactly, not as {}",
                quant::codec_name(base.codec));
  if (base.pruning && base.pruning->kept)
    return fail(Errc::kInvalidArgument, "a difference needs a whole base, not one that lost {}",
                quant::prune_name(base.pruning->spec));
  return {};
}

size_t StoredTensor::base_depth() const {
  size_t depth = 0;
  for (const StoredTensor* at = base.get(); at != nullptr; at = at->base.get()) ++depth;
  return depth;
}

Result<ValueRange> StoredTensor::rows(uint64_t first, uint64_t end, bool small) const {
  if (shape.empty()) return fail(Errc::kInvalidArgument, "a scalar has no rows");
  const std::vector<uint64_t> extents = small ? small_shape() : shape;
  const uint64_t count = extents.front();
  if (first > end || end > count)
    return fail(Errc::kInvalidArgument, "rows {} to {} of a tensor that has {}", first, end, count);
  const uint64_t row = count == 0 ? 0 : product(extents) / count;
  return ValueRange{first * row, (end - first) * row};
}

EncodingPolicy default_policy(Encoding matrices) {
  return [matrices](const TensorSource& tensor) -> Encoding {
    if (!quant::dtype_is_codable(tensor.dtype)) return {quant::exact_codec(tensor.dtype), {}};
    if (tensor.shape.size() >= 2) return matrices;
    if (tensor.dtype == DType::kF32) return {{.id = quant::CodecId::kF16}, {}};
    return {quant::exact_codec(tensor.dtype), {}};
  };
}

EncodingPolicy uniform_policy(CodecSpec codec, std::optional<PruneSpec> prune) {
  return [codec, prune](const TensorSource& tensor) -> Encoding {
    if (!quant::dtype_is_codable(tensor.dtype)) return {quant::exact_codec(tensor.dtype), {}};
    return {codec, tensor.shape.size() >= 2 ? prune : std::nullopt};
  };
}

const NodeStatus* ClusterStatus::leader() const {
  const NodeStatus* found = nullptr;
  for (const NodeStatus& node : nodes) {
    if (!node.error && node.role == "leader" && (found == nullptr || node.term > found->term))
      found = &node;
  }
  return found;
}

size_t ClusterStatus::reachable() const {
  return static_cast<size_t>(
      std::ranges::count_if(nodes, [](const NodeStatus& node) { return !node.error; }));
}

struct Client::Impl {
  explicit Impl(Options options) : engine(std::move(options)) {}

  Result<Receipt> commit_one(pb::Operation operation, Ack ack) {
    std::vector<pb::Operation> operations;
    operations.push_back(std::move(operation));
    BALLAST_TRY(const pb::WriteReply reply,
                engine.commit(std::move(operations), {}, ack, engine.deadline({})));
    return receipt_from_wire(reply);
  }

  // A small tensor: its block and its commit in one round trip.
  Result<PutResult> put_small(const std::string& key, const UploadItem& item,
                              const PutOptions& options);
  Result<PutResult> put_large(const std::string& key, const UploadItem& item,
                              const PutOptions& options);
  Result<PutResult> put_commit(const std::string& key, StoredTensor tensor,
                               const PutOptions& options, std::optional<Engine::StagedBlock> block);
  NodeStatus ask_status(const Member& member);
  VerifyReport verify_member(const Member& member, bool deep);

  Engine engine;
};

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::~Client() = default;
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;

Result<Client> Client::connect(Options options) {
  options.window_blocks = std::max<size_t>(1, options.window_blocks);
  auto impl = std::make_unique<Impl>(std::move(options));
  BALLAST_TRY_STATUS(impl->engine.connect());
  return Client(std::move(impl));
}

std::vector<Member> Client::members() const { return impl_->engine.members(); }

// ---- keys ---------------------------------------------------------------------------------------

Result<PutResult> Client::Impl::put_commit(const std::string& key, StoredTensor tensor,
                                           const PutOptions& options,
                                           std::optional<Engine::StagedBlock> block) {
  std::vector<pb::Operation> operations(1);
  operations[0].mutable_put_key()->set_key(key);
  *operations[0].mutable_put_key()->mutable_tensor() = to_wire(tensor);
  std::vector<pb::Precondition> preconditions;
  if (options.expect_revision) {
    auto& revision = *preconditions.emplace_back().mutable_key_revision();
    revision.set_key(key);
    revision.set_revision(*options.expect_revision);
  }
  BALLAST_TRY(const pb::WriteReply reply,
              engine.commit(std::move(operations), std::move(preconditions), options.ack,
                            engine.deadline(options.deadline), std::move(block)));
  return PutResult{.receipt = receipt_from_wire(reply), .tensor = std::move(tensor)};
}

Result<PutResult> Client::Impl::put_small(const std::string& key, const UploadItem& item,
                                          const PutOptions& options) {
  BALLAST_TRY(SmallTensor small, encode_small(item));
  return put_commit(key, std::move(small.tensor), options, std::move(small.block));
}

Result<PutResult> Client::Impl::put_large(const std::string& key, const UploadItem& item,
                                          const PutOptions& options) {
  constexpr int kUploadsMax = 5;  // a failover may lose blocks that are staged and not committed
  for (int attempt = 1;; ++attempt) {
    Uploader uploader(engine, {.ack = options.ack, .step_deadline = engine.options().deadline});
    BALLAST_TRY(std::vector<StoredTensor> stored, uploader.upload({item}));
    auto result = put_commit(key, std::move(stored.front()), options, std::nullopt);
    if (result || result.error().code != Errc::kMissingBlocks || attempt == kUploadsMax)
      return result;
  }
}

Result<PutResult> Client::put(const std::string& key, const TensorView& tensor,
                              const PutOptions& options) {
  BALLAST_TRY_STATUS(check_key(key));
  BALLAST_TRY_STATUS(check_tensor(tensor));
  const TensorSource source = source_of(tensor);
  const CodecSpec codec = options.codec.value_or(quant::exact_codec(tensor.dtype));
  BALLAST_TRY_STATUS(quant::check_codec(codec, tensor.dtype));
  const UploadItem item{.source = &source,
                        .encoding = {codec, options.prune},
                        .base = options.base ? &*options.base : nullptr};
  const bool small = product(tensor.shape) <= quant::values_per_block(codec, tensor.dtype);
  return small && item.base == nullptr ? impl_->put_small(key, item, options)
                                       : impl_->put_large(key, item, options);
}

Result<StoredKey> Client::stat(const std::string& key, const ReadOptions& options) {
  BALLAST_TRY_STATUS(check_key(key));
  pb::Request request;
  set_read_level(request, options.read);
  request.mutable_get_key()->set_key(key);
  Engine& engine = impl_->engine;
  BALLAST_TRY(const Response response,
              engine.at_any(std::move(request), engine.deadline(options.deadline)));
  const pb::KeyRow& row = response.reply.get_key().row();
  BALLAST_TRY(StoredTensor tensor, from_wire(row.tensor()));
  return StoredKey{.key = key, .revision = row.revision(), .tensor = std::move(tensor)};
}

Result<Tensor> Client::get(const std::string& key, const ReadOptions& options) {
  BALLAST_TRY(const StoredKey stored, stat(key, options));
  Tensor tensor{.dtype = options.as.value_or(stored.tensor.dtype),
                .shape = options.small ? stored.tensor.small_shape() : stored.tensor.shape};
  BALLAST_TRY_STATUS(read(stored.tensor, options, appending_to(tensor.data)));
  return tensor;
}

Result<Receipt> Client::remove(const std::string& key, Ack ack) {
  BALLAST_TRY_STATUS(check_key(key));
  pb::Operation operation;
  operation.mutable_delete_key()->set_key(key);
  return impl_->commit_one(std::move(operation), ack);
}

Status Client::list(const std::string& prefix, ReadLevel level,
                    const std::function<Status(const KeySummary&)>& each) {
  Engine& engine = impl_->engine;
  std::string after;
  for (bool more = true; more;) {
    pb::Request request;
    set_read_level(request, level);
    request.mutable_list_keys()->set_prefix(prefix);
    request.mutable_list_keys()->set_after(after);
    request.mutable_list_keys()->set_limit(limits::kListPageMax);
    BALLAST_TRY(const Response response, engine.at_any(std::move(request), engine.deadline({})));
    const pb::ListKeysReply& page = response.reply.list_keys();
    for (const pb::KeySummary& wire : page.keys()) {
      BALLAST_TRY_STATUS(each(from_wire(wire)));
      after = wire.key();
    }
    more = page.more() && !page.keys().empty();
  }
  return {};
}

// ---- models -------------------------------------------------------------------------------------

Result<PublishResult> Client::publish(const std::string& model,
                                      const std::vector<TensorSource>& tensors,
                                      const PublishOptions& options) {
  return client::publish(impl_->engine, model, tensors, options);
}

Result<VersionInfo> Client::version(const Reference& reference, ReadLevel level) {
  pb::Request request;
  set_read_level(request, level);
  request.mutable_get_version()->set_model(reference.name);
  request.mutable_get_version()->set_version(reference.version);
  request.mutable_get_version()->set_alias(reference.alias);
  Engine& engine = impl_->engine;
  BALLAST_TRY(const Response response, engine.at_any(std::move(request), engine.deadline({})));
  return read_manifest(engine, response.reply.get_version());
}

Result<Receipt> Client::remove_version(const std::string& model, uint64_t version, Ack ack) {
  pb::Operation operation;
  operation.mutable_delete_version()->set_model(model);
  operation.mutable_delete_version()->set_version(version);
  return impl_->commit_one(std::move(operation), ack);
}

Status Client::list_models(const std::string& prefix, ReadLevel level,
                           const std::function<Status(const ModelSummary&)>& each) {
  Engine& engine = impl_->engine;
  std::string after;
  for (bool more = true; more;) {
    pb::Request request;
    set_read_level(request, level);
    request.mutable_list_models()->set_prefix(prefix);
    request.mutable_list_models()->set_after(after);
    request.mutable_list_models()->set_limit(limits::kListPageMax);
    BALLAST_TRY(const Response response, engine.at_any(std::move(request), engine.deadline({})));
    const pb::ListModelsReply& page = response.reply.list_models();
    for (const pb::ModelSummary& wire : page.models()) {
      BALLAST_TRY_STATUS(each({wire.model(), wire.latest_version(), wire.live_versions()}));
      after = wire.model();
    }
    more = page.more() && !page.models().empty();
  }
  return {};
}

Result<Receipt> Client::set_alias(const std::string& model, const std::string& alias,
                                  uint64_t version, std::optional<uint64_t> expect) {
  BALLAST_TRY_STATUS(check_alias(alias));
  pb::Operation operation;
  pb::SetAlias& set = *operation.mutable_set_alias();
  set.set_model(model);
  set.set_alias(alias);
  set.set_version(version);
  set.set_has_expect(expect.has_value());
  set.set_expect(expect.value_or(0));
  return impl_->commit_one(std::move(operation), Ack::kSync);
}

Result<uint64_t> Client::rollback_alias(const std::string& model, const std::string& alias) {
  std::vector<pb::Operation> operations(1);
  operations[0].mutable_rollback_alias()->set_model(model);
  operations[0].mutable_rollback_alias()->set_alias(alias);
  Engine& engine = impl_->engine;
  BALLAST_TRY(const pb::WriteReply reply,
              engine.commit(std::move(operations), {}, Ack::kSync, engine.deadline({})));
  return reply.result().operations(0).version();
}

Result<std::vector<AliasSummary>> Client::aliases(const std::string& model, ReadLevel level) {
  pb::Request request;
  set_read_level(request, level);
  request.mutable_list_aliases()->set_model(model);
  Engine& engine = impl_->engine;
  BALLAST_TRY(const Response response, engine.at_any(std::move(request), engine.deadline({})));
  std::vector<AliasSummary> aliases;
  for (const pb::AliasSummary& wire : response.reply.list_aliases().aliases()) {
    AliasSummary& alias = aliases.emplace_back(AliasSummary{.alias = wire.alias()});
    for (const pb::AliasChange& change : wire.history()) alias.history.push_back(change.version());
    if (!alias.history.empty()) alias.version = alias.history.back();
  }
  return aliases;
}

// ---- tensors ------------------------------------------------------------------------------------

Status Client::read(const StoredTensor& tensor, const ReadOptions& options, const Sink& sink) {
  const uint64_t values = options.small ? tensor.small_values() : tensor.values();
  return read_range(tensor, {0, values}, options, sink);
}

Status Client::read_range(const StoredTensor& tensor, ValueRange range, const ReadOptions& options,
                          const Sink& sink) {
  return read_tensor(impl_->engine, tensor, range, options, sink);
}

Result<Tensor> Client::read_rows(const StoredTensor& tensor, uint64_t first, uint64_t end,
                                 const ReadOptions& options) {
  BALLAST_TRY(const ValueRange range, tensor.rows(first, end, options.small));
  Tensor rows{.dtype = options.as.value_or(tensor.dtype),
              .shape = options.small ? tensor.small_shape() : tensor.shape};
  rows.shape.front() = end - first;
  BALLAST_TRY_STATUS(read_range(tensor, range, options, appending_to(rows.data)));
  return rows;
}

Result<StoredTensor> Client::with_blocks(StoredTensor tensor) {
  BALLAST_TRY(tensor.blocks, blocks_of(impl_->engine, tensor));
  tensor.block_list.reset();
  return tensor;
}

Status Client::read_blocks(const StoredTensor& tensor, const Sink& sink) {
  return client::read_blocks(impl_->engine, tensor, sink);
}

// ---- the cluster --------------------------------------------------------------------------------

Result<Receipt> Client::wait(const Receipt& receipt, Ack level,
                             std::optional<milliseconds> deadline) {
  pb::Request request;
  request.set_ack(to_wire(level));
  pb::Token& token = *request.mutable_wait()->mutable_token();
  token.set_group(receipt.group);
  token.set_term(receipt.term.value());
  token.set_index(receipt.index.value());
  Engine& engine = impl_->engine;
  BALLAST_TRY(const Response response,
              engine.at_leader(std::move(request), engine.deadline(deadline)));
  return receipt_from_wire(response.reply.write());
}

NodeStatus Client::Impl::ask_status(const Member& member) {
  pb::Request request;
  request.mutable_get_status();
  const auto response = engine.at_member(member.id, std::move(request), Clock::now() + kStatusTime);
  if (!response) return {.member = member, .error = response.error()};
  const pb::StatusReply& reply = response->reply.status();
  // A pinned client asks whoever is behind its endpoint.
  return from_wire(reply, {.id = reply.id(),
                           .name = reply.name(),
                           .address = member.address,
                           .learner = member.learner});
}

Result<ClusterStatus> Client::status() {
  return ClusterStatus{.cluster_uuid = impl_->engine.cluster().to_string(),
                       .nodes = impl_->engine.each_member(
                           [this](const Member& member) { return impl_->ask_status(member); })};
}

Result<Membership> Client::membership() { return client::membership(impl_->engine); }

Result<MemberStep> Client::change_members(const MemberChange& change) {
  return client::change_members(impl_->engine, change);
}

Result<Member> Client::transfer_leadership(const std::string& to) {
  return client::transfer_leadership(impl_->engine, to);
}

Result<Member> Client::drain(const std::string& node, bool undo) {
  return client::drain(impl_->engine, node, undo);
}

namespace {

void add_digests(const google::protobuf::RepeatedPtrField<std::string>& raw,
                 std::vector<Digest>& digests) {
  for (const std::string& each : raw) {
    if (const auto digest = Digest::from_raw(each)) digests.push_back(*digest);
  }
}

}  // namespace

VerifyReport Client::Impl::verify_member(const Member& member, bool deep) {
  VerifyReport report{.member = member};
  const auto ask = [&](pb::Request request) {
    return engine.at_member(member.id, std::move(request), engine.deadline({}));
  };
  std::string after;
  for (bool more = deep; more; more = !after.empty()) {
    pb::Request request;
    request.mutable_verify_blocks()->set_after(after);
    const auto response = ask(std::move(request));
    if (!response) {
      report.error = response.error();
      return report;
    }
    const pb::VerifyBlocksReply& page = response->reply.verify_blocks();
    report.blocks += page.blocks();
    report.bytes += page.bytes();
    add_digests(page.damaged(), report.damaged);
    add_digests(page.repaired(), report.repaired);
    after = page.next();
  }
  pb::Request request;
  request.mutable_state_digest();
  const auto response = ask(std::move(request));
  if (!response) {
    report.error = response.error();
    return report;
  }
  report.applied_index = response->reply.state_digest().applied_index();
  if (const auto digest = Digest::from_raw(response->reply.state_digest().digest()))
    report.state = *digest;
  return report;
}

Result<std::vector<VerifyReport>> Client::verify(bool deep) {
  return impl_->engine.each_member(
      [this, deep](const Member& member) { return impl_->verify_member(member, deep); });
}

Result<std::vector<GarbageReport>> Client::garbage() { return client::garbage(impl_->engine); }

Result<Collected> Client::collect_garbage() { return client::collect_garbage(impl_->engine); }

}  // namespace ballast::client
