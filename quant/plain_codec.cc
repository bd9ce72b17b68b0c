#include <algorithm>
#include <array>
#include <cstring>

#include "proto/base/check.h"
#include "quant/block_codec.h"
#include "quant/float_convert.h"
#include "quant/kernels.h"

namespace ballast::quant {
namespace {

// The dtype in which a block keeps its values.
DType stored_dtype(CodecSpec codec, DType source) {
  switch (codec.id) {
    case CodecId::kF32: return DType::kF32;
    case CodecId::kF16: return DType::kF16;
    case CodecId::kBF16: return DType::kBF16;
    default: return source;
  }
}

ErrorSums fold(const PairSums& lanes) {
  ErrorSums sums;
  for (size_t lane = 0; lane < PairSums::kLanes; ++lane) {
    sums += {lanes.signal[lane], lanes.decoded[lane], lanes.noise[lane], lanes.max_error[lane]};
  }
  return sums;
}

// Writes `values` in the dtype `to`, and measures what that lost.
ErrorSums convert_values(std::span<const std::byte> values, DType from, DType to, std::byte* out) {
  const size_t from_bytes = dtype_bytes(from);
  const size_t to_bytes = dtype_bytes(to);
  const size_t count = values.size() / from_bytes;
  alignas(64) std::array<float, kPieceValues> before;
  alignas(64) std::array<float, kPieceValues> after;
  PairSums lanes;
  for (size_t at = 0; at < count; at += kPieceValues) {
    const size_t piece = std::min(kPieceValues, count - at);
    load_f32(from, values.data() + at * from_bytes, piece, before.data());
    if (from == to) {
      std::memcpy(out + at * to_bytes, values.data() + at * from_bytes, piece * to_bytes);
    } else {
      store_f32(to, before.data(), piece, out + at * to_bytes);
    }
    load_f32(to, out + at * to_bytes, piece, after.data());
    kernel().measure(before.data(), after.data(), piece, lanes);
  }
  return fold(lanes);
}

class PlainEncoder final : public TensorEncoder {
 public:
  PlainEncoder(CodecSpec codec, DType source) : codec_(codec), source_(source) {}

  Result<EncodedBlock> encode(std::span<const std::byte> values) const override {
    BALLAST_CHECK(values.size() % dtype_bytes(source_) == 0);
    const uint64_t count = values.size() / dtype_bytes(source_);
    BALLAST_CHECK(count <= values_per_block(codec_, source_));
    const size_t bytes = count * dtype_bytes(stored_dtype(codec_, source_));
    EncodedBlock block{MutableBytes(kBlockHeaderBytes + bytes), {}};
    write_header({.codec = codec_, .source = source_, .values = count},
                 block.bytes.span().first<kBlockHeaderBytes>());
    std::byte* out = block.bytes.data() + kBlockHeaderBytes;
    if (dtype_is_codable(source_)) {
      block.error = convert_values(values, source_, stored_dtype(codec_, source_), out);
    } else {
      std::ranges::copy(values, out);
    }
    return block;
  }

 private:
  CodecSpec codec_;
  DType source_;
};

// From the values of a block, of dtype `stored`.
void convert(const std::byte* values, DType stored, const DecodeRequest& request) {
  alignas(64) std::array<float, kPieceValues> piece;
  const size_t from_bytes = dtype_bytes(stored);
  const size_t to_bytes = dtype_bytes(request.as);
  for (uint64_t at = 0; at < request.count; at += kPieceValues) {
    const size_t part = std::min<uint64_t>(kPieceValues, request.count - at);
    load_f32(stored, values + at * from_bytes, part, piece.data());
    store_f32(request.as, piece.data(), part, request.out.data() + at * to_bytes);
  }
}

class PlainCodec final : public BlockCodec {
 public:
  bool valid(const CodecSpec& spec) const override { return spec == CodecSpec{spec.id}; }

  uint64_t values_per_block(CodecSpec spec, DType source) const override {
    const uint64_t bytes = limits::kChunkValues * dtype_bytes(stored_dtype(spec, source));
    static_assert(limits::kChunkValues * 8 <= limits::kBlockBytesTarget, "a chunk of F64 fits");
    return limits::kBlockBytesTarget / bytes * limits::kChunkValues;
  }

  Result<std::unique_ptr<TensorEncoder>> make_encoder(
      CodecSpec spec, DType source, std::span<const std::byte> /*sample*/) const override {
    return std::make_unique<PlainEncoder>(spec, source);
  }

  Status check(const BlockHeader& header, std::span<const std::byte> block) const override {
    const DType stored = stored_dtype(header.codec, header.source);
    const uint64_t payload = block.size() - kBlockHeaderBytes;
    if (!has_no_parameters(header) || header.values > payload ||
        header.values * dtype_bytes(stored) != payload) {
      return fail(Errc::kCorrupt, "a block of {} bytes can't be {} values in codec {}",
                  block.size(), header.values, codec_name(header.codec));
    }
    return {};
  }

  Status decode(const BlockHeader& header, std::span<const std::byte> block,
                const DecodeRequest& request) const override {
    const DType stored = stored_dtype(header.codec, header.source);
    const std::byte* values =
        block.data() + kBlockHeaderBytes + request.first * dtype_bytes(stored);
    if (request.as == stored) {
      std::copy_n(values, request.out.size(), request.out.data());
    } else if (dtype_is_codable(stored) && dtype_is_codable(request.as)) {
      convert(values, stored, request);
    } else {
      return cannot_read_as(header, request.as);
    }
    return {};
  }
};

}  // namespace

const BlockCodec& plain_codec() {
  static const PlainCodec codec;
  return codec;
}

}  // namespace ballast::quant
