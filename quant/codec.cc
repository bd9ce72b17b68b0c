#include "quant/codec.h"

#include <algorithm>
#include <charconv>

#include "quant/block_header.h"

namespace ballast::quant {
namespace {

constexpr std::string_view kKnownCodecs =
    "raw, f32, f16, bf16, int4, int4:group=16, int4:group=32 and int4:group=64";

constexpr uint32_t kDefaultGroup = 32;
constexpr uint64_t kSampleRangesMax = 64;
// Learning walks over its sample up to a dozen times, and should cost less than the encoding.
constexpr uint64_t kSampleShare = 8;
constexpr uint64_t kSampleValuesMin = 1 << 15;

std::string_view id_name(CodecId id) {
  switch (id) {
    case CodecId::kRaw: return "raw";
    case CodecId::kF32: return "f32";
    case CodecId::kF16: return "f16";
    case CodecId::kBF16: return "bf16";
    case CodecId::kInt4: return "int4";
  }
  return "unknown";
}

bool valid(CodecSpec spec) {
  switch (spec.id) {
    case CodecId::kRaw:
    case CodecId::kF32:
    case CodecId::kF16:
    case CodecId::kBF16: return spec.group_size == 0;
    case CodecId::kInt4:
      return spec.group_size == 16 || spec.group_size == 32 || spec.group_size == 64;
  }
  return false;
}

}  // namespace

Result<CodecSpec> parse_codec(std::string_view text) {
  for (const CodecSpec spec :
       {CodecSpec{CodecId::kRaw}, CodecSpec{CodecId::kF32}, CodecSpec{CodecId::kF16},
        CodecSpec{CodecId::kBF16}, CodecSpec{CodecId::kInt4, 16}, CodecSpec{CodecId::kInt4, 32},
        CodecSpec{CodecId::kInt4, 64}}) {
    if (text == codec_name(spec)) return spec;
  }
  if (text == "int4:group=32") return CodecSpec{CodecId::kInt4, kDefaultGroup};
  return fail(Errc::kInvalidArgument, "codec '{}' is not known; known are {}", text, kKnownCodecs);
}

std::string codec_name(CodecSpec spec) {
  std::string name(id_name(spec.id));
  if (spec.id == CodecId::kInt4 && spec.group_size != kDefaultGroup) {
    name += ":group=" + std::to_string(spec.group_size);
  }
  return name;
}

Result<CodecSpec> codec_from_numbers(uint32_t id, uint32_t group_size) {
  if (id <= UINT8_MAX) {
    const CodecSpec spec{static_cast<CodecId>(id), group_size};
    if (valid(spec)) return spec;
  }
  return fail(Errc::kCorrupt, "there is no codec {} with group size {}", id, group_size);
}

CodecSpec exact_codec(DType dtype) {
  switch (dtype) {
    case DType::kF32: return {CodecId::kF32};
    case DType::kF16: return {CodecId::kF16};
    case DType::kBF16: return {CodecId::kBF16};
    default: return {CodecId::kRaw};
  }
}

uint64_t values_per_block(CodecSpec spec, DType source) {
  const uint64_t bytes = chunk_bytes(spec, source, limits::kChunkValues);
  static_assert(limits::kChunkValues * 8 <= limits::kBlockBytesTarget, "a chunk of F64 is a block");
  return limits::kBlockBytesTarget / bytes * limits::kChunkValues;
}

std::vector<ValueRange> sample_ranges(CodecSpec spec, uint64_t total_values) {
  if (spec.id != CodecId::kInt4 || total_values == 0) return {};
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

Result<BlockInfo> inspect_block(std::span<const std::byte> block) {
  BALLAST_TRY(const BlockHeader header, read_header(block));
  return BlockInfo{header.codec, header.source, header.values};
}

}  // namespace ballast::quant
