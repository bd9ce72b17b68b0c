#include "client/kvctl/import_policy.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

namespace ballast::kvctl {
namespace {

using client::DType;
using client::TensorSource;
using quant::CodecId;

constexpr float kF16Max = 65504.0F;
// A vector that is longer is not worth reading twice: it stays as it is.
constexpr uint64_t kScannedValuesMax = 16 << 20;
constexpr uint64_t kPieceValues = 128 << 10;

// REQUIRES: dtype is f32 or bf16.
float value_at(std::span<const std::byte> bytes, DType dtype, size_t i) {
  if (dtype == DType::kF32) {
    float value = 0;
    std::memcpy(&value, bytes.data() + 4 * i, sizeof value);
    return value;
  }
  uint16_t upper = 0;
  std::memcpy(&upper, bytes.data() + 2 * i, sizeof upper);
  return std::bit_cast<float>(static_cast<uint32_t>(upper) << 16);
}

uint64_t values_of(const TensorSource& tensor) {
  return tensor.shape.empty() ? 1 : tensor.shape.front();
}

// REQUIRES: fewer than two dimensions. False also if it can't be read: whoever writes the tensor
// meets the same error and reports it.
bool fits_f16(const TensorSource& tensor) {
  const uint64_t values = values_of(tensor);
  if (values > kScannedValuesMax) return false;
  const size_t width = quant::dtype_bytes(tensor.dtype);
  std::vector<std::byte> piece(std::min(values, kPieceValues) * width);
  for (uint64_t first = 0; first < values; first += kPieceValues) {
    const uint64_t count = std::min(kPieceValues, values - first);
    const std::span<std::byte> out = std::span(piece).first(count * width);
    if (!tensor.read(first * width, out)) return false;
    for (size_t i = 0; i < count; ++i) {
      const float value = value_at(out, tensor.dtype, i);
      if (std::isfinite(value) && std::abs(value) > kF16Max) return false;
    }
  }
  return true;
}

// Nothing for "exact": each tensor's own.
Result<std::optional<quant::CodecSpec>> parse_import_codec(const std::string& codec) {
  if (codec == "exact") return std::optional<quant::CodecSpec>();
  BALLAST_TRY(const quant::CodecSpec spec, quant::parse_codec(codec));
  if (spec.id != CodecId::kRaw) return std::optional(spec);
  return fail(Errc::kInvalidArgument, "codec raw: give 'exact' to keep every tensor as it is");
}

}  // namespace

client::EncodingPolicy without_f16_overflow(client::EncodingPolicy policy) {
  return [policy = std::move(policy)](const TensorSource& tensor) -> client::Encoding {
    const client::Encoding chosen = policy(tensor);
    const bool narrowed = chosen.codec.id == CodecId::kF16 &&
                          (tensor.dtype == DType::kF32 || tensor.dtype == DType::kBF16);
    if (!narrowed || tensor.shape.size() >= 2 || fits_f16(tensor)) return chosen;
    return {quant::exact_codec(tensor.dtype), chosen.prune};
  };
}

std::string codec_or_default(const std::string& codec, std::optional<client::PruneSpec> prune,
                             const std::string& otherwise) {
  if (!codec.empty()) return codec;
  return prune && !quant::prune_is_structured(*prune) ? "sparse4" : otherwise;
}

std::string default_codec(std::string_view section) {
  return section == "model" ? "int4" : "lossless";
}

Result<client::EncodingPolicy> import_policy(const std::string& codec,
                                             std::optional<client::PruneSpec> prune) {
  BALLAST_TRY(const std::optional<quant::CodecSpec> spec, parse_import_codec(codec));
  if (spec && quant::codec_quantizes(spec->id))
    return without_f16_overflow(client::default_policy({*spec, prune}));
  return without_f16_overflow([spec, prune](const TensorSource& tensor) {
    return client::uniform_policy(spec.value_or(quant::exact_codec(tensor.dtype)), prune)(tensor);
  });
}

Result<client::EncodingPolicy> rule_policy(const std::string& codec,
                                           std::optional<client::PruneSpec> prune) {
  BALLAST_TRY(const std::optional<quant::CodecSpec> spec, parse_import_codec(codec));
  return without_f16_overflow([spec, prune](const TensorSource& tensor) -> client::Encoding {
    const quant::CodecSpec exact = quant::exact_codec(tensor.dtype);
    if (!quant::dtype_is_codable(tensor.dtype)) return {exact, {}};
    return {spec.value_or(exact), prune};
  });
}

}  // namespace ballast::kvctl
