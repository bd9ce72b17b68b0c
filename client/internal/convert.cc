#include "client/internal/convert.h"

#include <algorithm>

#include "proto/base/limits.h"
#include "proto/base/uuid.h"

namespace ballast::client {
namespace {

// Far more than any codec puts into a block. Readers make room for a block's values.
constexpr uint64_t kBlockValuesMax = 8 * limits::kBlockBytesMax;

// The product of a shape, if every tensor of it has a size that can be addressed.
Result<uint64_t> checked_values(const std::vector<uint64_t>& shape) {
  constexpr uint64_t kMax = uint64_t{1} << 56;
  uint64_t values = 1;
  for (const uint64_t extent : shape) {
    if (extent != 0 && values > kMax / extent)
      return fail(Errc::kCorrupt, "a stored tensor's shape overflows");
    values *= extent;
  }
  return values;
}

Ack ack_from_wire(pb::AckLevel level) {
  switch (level) {
    case pb::ACK_ASYNC: return Ack::kAsync;
    case pb::ACK_SYNC_ALL: return Ack::kSyncAll;
    default: return Ack::kSync;
  }
}

}  // namespace

pb::AckLevel to_wire(Ack ack) {
  switch (ack) {
    case Ack::kAsync: return pb::ACK_ASYNC;
    case Ack::kSyncAll: return pb::ACK_SYNC_ALL;
    case Ack::kSync: break;
  }
  return pb::ACK_SYNC;
}

void set_read_level(pb::Request& request, ReadLevel level) {
  if (level.is_bounded()) {
    request.set_read(pb::READ_BOUNDED);
    // Below zero there is nothing on the wire: the node refuses 0.
    request.set_max_staleness_us(static_cast<uint64_t>(std::max(level.staleness(), {}).count()));
  } else {
    request.set_read(level == ReadLevel::kAny ? pb::READ_ANY : pb::READ_LINEARIZABLE);
  }
}

pb::BlockRef to_wire(const BlockId& block) {
  pb::BlockRef wire;
  wire.set_digest(std::string(block.digest.text()));
  wire.set_length(block.length);
  wire.set_crc32c(block.crc32c);
  return wire;
}

pb::ErrorSums to_wire(const quant::ErrorSums& sums) {
  pb::ErrorSums wire;
  wire.set_signal_energy(sums.signal_energy);
  wire.set_decoded_energy(sums.decoded_energy);
  wire.set_noise_energy(sums.noise_energy);
  wire.set_max_abs_error(sums.max_abs_error);
  return wire;
}

quant::ErrorSums from_wire(const pb::ErrorSums& sums) {
  return {.signal_energy = sums.signal_energy(),
          .decoded_energy = sums.decoded_energy(),
          .noise_energy = sums.noise_energy(),
          .max_abs_error = sums.max_abs_error()};
}

pb::Codec to_wire(const CodecSpec& codec) {
  pb::Codec wire;
  wire.set_id(static_cast<uint32_t>(codec.id));
  wire.set_group_size(codec.group_size);
  wire.set_millibits(codec.millibits);
  wire.set_centidb(codec.centidb);
  return wire;
}

Result<CodecSpec> from_wire(const pb::Codec& wire) {
  return quant::codec_from_numbers(wire.id(), wire.group_size(), wire.millibits(), wire.centidb());
}

namespace {

pb::Pruning to_wire(const StoredPruning& pruning, const std::vector<uint64_t>& shape) {
  pb::Pruning wire;
  wire.set_kind(static_cast<uint32_t>(pruning.spec.kind));
  wire.set_millionths(pruning.spec.millionths);
  wire.set_n(pruning.spec.n);
  wire.set_m(pruning.spec.m);
  wire.set_removed(pruning.removed);
  wire.set_removed_energy(pruning.removed_energy);
  wire.set_not_finite(pruning.not_finite);
  if (!pruning.kept) return wire;
  wire.set_kept(std::string(as_text(pruning.kept->bitmap())));
  wire.set_extent(shape.at(quant::prune_axis(pruning.spec, shape.size()).value()));
  return wire;
}

}  // namespace

pb::Tensor to_wire(const StoredTensor& tensor) {
  pb::Tensor wire;
  wire.set_name(tensor.name);
  wire.set_section(tensor.section);
  wire.set_dtype(static_cast<uint32_t>(tensor.dtype));
  const std::vector<uint64_t> shape = tensor.small_shape();
  wire.mutable_shape()->Assign(shape.begin(), shape.end());
  *wire.mutable_codec() = to_wire(tensor.codec);
  wire.set_values_per_block(tensor.values_per_block);
  wire.set_encoded_bytes(tensor.encoded_bytes);
  if (tensor.error) *wire.mutable_error() = to_wire(*tensor.error);
  for (const BlockId& block : tensor.blocks) *wire.add_blocks() = to_wire(block);
  if (tensor.block_list) *wire.mutable_block_list() = to_wire(*tensor.block_list);
  if (tensor.pruning) *wire.mutable_pruning() = to_wire(*tensor.pruning, tensor.shape);
  if (tensor.base) *wire.mutable_base() = to_wire(*tensor.base);
  return wire;
}

Result<BlockId> from_wire(const pb::BlockRef& block) {
  BALLAST_TRY(const Digest digest, Digest::from_raw(block.digest()));
  if (block.length() == 0 || block.length() > limits::kBlockBytesMax)
    return fail(Errc::kCorrupt, "a block reference of {} bytes", block.length());
  return BlockId{.digest = digest, .length = block.length(), .crc32c = block.crc32c()};
}

namespace {

Result<PruneSpec> prune_from_wire(const pb::Pruning& wire) {
  return quant::prune_from_numbers(wire.kind(), wire.millionths(), wire.n(), wire.m());
}

// The shape as it was before slices were taken out.
Result<std::vector<uint64_t>> original_shape(const pb::Pruning& wire, PruneSpec spec,
                                             std::vector<uint64_t> shape) {
  if (!quant::prune_is_structured(spec)) return shape;
  const auto axis = quant::prune_axis(spec, shape.size());
  if (!axis || wire.extent() < shape[*axis] || wire.extent() > quant::kPrunedExtentMax)
    return fail(Errc::kCorrupt, "a stored tensor of rank {} lost slices of {}: pruning {}",
                shape.size(), wire.extent(), quant::prune_name(spec));
  shape[*axis] = wire.extent();
  BALLAST_TRY_STATUS(checked_values(shape));
  return shape;
}

// Sets the pruning, and the shape to the original one.
Status read_pruning(const pb::Pruning& wire, StoredTensor& tensor) {
  BALLAST_TRY(const PruneSpec spec, prune_from_wire(wire));
  std::vector<uint64_t> small = tensor.shape;
  BALLAST_TRY(tensor.shape, original_shape(wire, spec, small));
  tensor.pruning = {.spec = spec,
                    .removed = wire.removed(),
                    .removed_energy = wire.removed_energy(),
                    .not_finite = wire.not_finite(),
                    .kept = nullptr};
  if (!quant::prune_is_structured(spec)) return {};
  BALLAST_TRY(const size_t axis, quant::prune_axis(spec, small.size()));
  BALLAST_TRY(auto kept, quant::KeptSlices::create(tensor.shape, axis, as_byte_span(wire.kept())));
  if (!std::ranges::equal(kept.small_shape(), small))
    return fail(Errc::kCorrupt, "a stored tensor's shape is not what its pruning left");
  tensor.pruning->kept = std::make_shared<const quant::KeptSlices>(std::move(kept));
  return {};
}

Result<StoredTensor> tensor_from_wire(const pb::Tensor& wire, size_t depth) {
  if (depth > limits::kBaseDepthMax)
    return fail(Errc::kCorrupt, "a stored tensor is a difference of more than {} others",
                limits::kBaseDepthMax);
  StoredTensor tensor{.name = wire.name(), .section = wire.section()};
  BALLAST_TRY(tensor.dtype, quant::dtype_from_number(wire.dtype()));
  tensor.shape.assign(wire.shape().begin(), wire.shape().end());
  BALLAST_TRY(const uint64_t values, checked_values(tensor.shape));
  BALLAST_TRY(tensor.codec, from_wire(wire.codec()));
  tensor.values_per_block = wire.values_per_block();
  if (tensor.values_per_block == 0 && values > 0)
    return fail(Errc::kCorrupt, "a stored tensor without values in its blocks");
  if (tensor.values_per_block > kBlockValuesMax)
    return fail(Errc::kCorrupt, "a stored tensor with {} values in a block",
                tensor.values_per_block);
  tensor.encoded_bytes = wire.encoded_bytes();
  if (wire.has_error()) tensor.error = from_wire(wire.error());
  for (const pb::BlockRef& block : wire.blocks()) {
    BALLAST_TRY(const BlockId id, from_wire(block));
    tensor.blocks.push_back(id);
  }
  if (wire.has_block_list()) {
    BALLAST_TRY(tensor.block_list, from_wire(wire.block_list()));
  }
  if (wire.has_pruning()) BALLAST_TRY_STATUS(read_pruning(wire.pruning(), tensor));
  if (wire.has_base()) {
    BALLAST_TRY(StoredTensor base, tensor_from_wire(wire.base(), depth + 1));
    tensor.base = std::make_shared<const StoredTensor>(std::move(base));
  }
  return tensor;
}

}  // namespace

Result<StoredTensor> from_wire(const pb::Tensor& wire) { return tensor_from_wire(wire, 0); }

KeySummary from_wire(const pb::KeySummary& wire) {
  KeySummary summary{.key = wire.key(),
                     .revision = wire.revision(),
                     .shape = {wire.shape().begin(), wire.shape().end()},
                     .encoded_bytes = wire.encoded_bytes()};
  const auto dtype = quant::dtype_from_number(wire.dtype());
  const auto codec = from_wire(wire.codec());
  summary.known = dtype && codec;
  if (wire.has_pruning()) {
    const auto spec = prune_from_wire(wire.pruning());
    auto shape = spec ? original_shape(wire.pruning(), *spec, summary.shape)
                      : Result<std::vector<uint64_t>>(std::unexpected(spec.error()));
    summary.known = summary.known && shape;
    if (shape) summary.shape = *std::move(shape);
    if (spec) summary.prune = *spec;
  }
  if (dtype) summary.dtype = *dtype;
  if (codec) summary.codec = *codec;
  return summary;
}

Receipt receipt_from_wire(const pb::WriteReply& reply) {
  return {
      .group = reply.token().group(),
      .term = Term(reply.token().term()),
      .index = Index(reply.result().index() != 0 ? reply.result().index() : reply.token().index()),
      .asked = ack_from_wire(reply.asked()),
      .reached = ack_from_wire(reply.reached())};
}

Member member_from_wire(const pb::Member& wire) {
  return {wire.id(), wire.name(), wire.address(), wire.learner()};
}

Member member_from_wire(const pb::MemberStatus& wire) {
  return {wire.id(), wire.name(), wire.address(), wire.role() == "learner"};
}

NodeStatus from_wire(const pb::StatusReply& reply, Member member) {
  NodeStatus status{.member = std::move(member)};
  if (const auto uuid = Uuid::from_raw(reply.node())) status.node_uuid = uuid->to_string();
  status.role = reply.role();
  status.term = reply.term();
  status.leader = reply.leader();
  status.commit_index = reply.commit_index();
  status.applied_index = reply.applied_index();
  status.last_index = reply.last_index();
  status.exposure_bytes = reply.exposure_bytes();
  status.disk_bytes_free = reply.disk_bytes_free();
  status.disk_bytes_total = reply.disk_bytes_total();
  status.full = reply.full();
  status.log_bytes = reply.log_bytes();
  status.uptime_ms = reply.uptime_ms();
  status.leader_since_ms = reply.leader_since_ms();
  status.blocks = reply.blocks();
  status.block_bytes = reply.block_bytes();
  status.last_append_us = reply.last_append_us();
  status.read_probes = reply.read_probes();
  status.bounded_reads = reply.bounded_reads();
  status.version = reply.version();
  status.drained = reply.drained();
  status.rows_lost = reply.rows_lost();
  const pb::Upkeep& upkeep = reply.upkeep();
  status.upkeep = {.scrub_passes = upkeep.scrub_passes(),
                   .scrubbed_blocks = upkeep.scrubbed_blocks(),
                   .scrubbed_bytes = upkeep.scrubbed_bytes(),
                   .damaged_found = upkeep.damaged_found(),
                   .repaired = upkeep.repaired(),
                   .waiting = upkeep.waiting(),
                   .fetch_index = upkeep.fetch_index(),
                   .fetch_block_bytes = upkeep.fetch_block_bytes(),
                   .fetched_bytes = upkeep.fetched_bytes()};
  for (const pb::PeerStatus& peer : reply.peers())
    status.peers.push_back({peer.id(), peer.match(), peer.lag_bytes(), peer.active()});
  return status;
}

}  // namespace ballast::client
