#include "quant/codec.h"

#include <algorithm>
#include <bit>

#include "proto/base/check.h"
#include "quant/block_codec.h"
#include "quant/kernels.h"

namespace ballast::quant {
namespace {

constexpr uint64_t kSampleRangesMax = 64;
// Learning walks over its sample up to a dozen times, and should cost less than the encoding.
constexpr uint64_t kSampleShare = 8;
constexpr uint64_t kSampleValuesMin = 1 << 15;

}  // namespace

const BlockCodec& codec_of(CodecId id) {
  switch (id) {
    case CodecId::kRaw:
    case CodecId::kF32:
    case CodecId::kF16:
    case CodecId::kBF16: return plain_codec();
    case CodecId::kInt4: return int4_codec();
    case CodecId::kInt8: return int8_codec();
    case CodecId::kEc4:
    case CodecId::kEc4t: return ec4_codec();
    case CodecId::kLossless: return lossless_codec();
    case CodecId::kSparse4: return sparse4_codec();
  }
  BALLAST_CHECK(false, "codec {}", static_cast<int>(id));
}

bool has_no_parameters(const BlockHeader& header) {
  return header.scale_type == ScaleType::kNone && std::bit_cast<uint32_t>(header.scale_base) == 0 &&
         header.parameters == decltype(header.parameters){};
}

std::unexpected<Error> cannot_read_as(const BlockHeader& header, DType as) {
  return fail(Errc::kInvalidArgument, "a block of {} in codec {} can't be read as {}",
              dtype_name(header.source), codec_name(header.codec), dtype_name(as));
}

std::unexpected<Error> impossible_header(const BlockHeader& header) {
  return fail(Errc::kCorrupt, "the block header has impossible values for codec {}",
              codec_name(header.codec));
}

uint64_t values_per_block(CodecSpec spec, DType source) {
  return codec_of(spec.id).values_per_block(spec, source);
}

std::vector<ValueRange> sample_ranges(CodecSpec spec, uint64_t total_values) {
  if (!codec_of(spec.id).learns() || total_values == 0) return {};
  const uint64_t wanted =
      std::clamp(total_values / kSampleShare, kSampleValuesMin, kSampleValuesMax);
  if (wanted >= total_values) return {{0, total_values}};
  // Whole units, so that the groups of the sample are groups of the tensor.
  const uint64_t count = wanted / kSampleRangesMax / kUnitValues * kUnitValues;
  std::vector<ValueRange> ranges;
  for (uint64_t i = 0; i < kSampleRangesMax; ++i) {
    // Divided before it is multiplied: total_values may be anything.
    const uint64_t first = (total_values - count) / (kSampleRangesMax - 1) * i;
    ranges.push_back({first / kUnitValues * kUnitValues, count});
  }
  return ranges;
}

Status check_codec(CodecSpec spec, DType source) {
  const auto known = codec_from_numbers(static_cast<uint32_t>(spec.id), spec.group_size,
                                        spec.millibits, spec.centidb);
  if (!known) return fail(Errc::kInvalidArgument, "{}", known.error().message);
  if (spec.id == CodecId::kRaw || dtype_is_codable(source)) return {};
  return fail(Errc::kInvalidArgument,
              "codec {} encodes F32, F16 and BF16, not {}; use raw for this tensor",
              codec_name(spec), dtype_name(source));
}

Result<std::unique_ptr<TensorEncoder>> TensorEncoder::create(CodecSpec spec, DType source,
                                                             std::span<const std::byte> sample) {
  BALLAST_TRY_STATUS(check_codec(spec, source));
  return codec_of(spec.id).make_encoder(spec, source, sample);
}

Result<EncodedBlock> TensorEncoder::encode_delta(std::span<const std::byte> /*values*/,
                                                 std::span<const std::byte> /*base*/) const {
  return fail(Errc::kInvalidArgument, "only codec lossless encodes a tensor against another");
}

Result<BlockInfo> inspect_block(std::span<const std::byte> block) {
  BALLAST_TRY(const BlockHeader header, read_header(block));
  return BlockInfo{header.codec, header.source, header.values,
                   codec_of(header.codec.id).base(header)};
}

Status decode_block(std::span<const std::byte> block, uint64_t first, uint64_t count, DType as,
                    std::span<std::byte> out, std::span<const std::byte> base) {
  BALLAST_TRY(const BlockHeader header, read_header(block));
  if (first > header.values || count > header.values - first) {
    return fail(Errc::kInvalidArgument, "values {} to {} lie outside of a block of {}", first,
                first + count, header.values);
  }
  BALLAST_CHECK(out.size() == count * dtype_bytes(as), "{} bytes for {} values of {}", out.size(),
                count, dtype_name(as));
  return codec_of(header.codec.id).decode(header, block, {first, count, as, out, base});
}

}  // namespace ballast::quant
