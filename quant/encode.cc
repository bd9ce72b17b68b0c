#include <algorithm>
#include <array>
#include <cstring>

#include "proto/base/check.h"
#include "quant/codec.h"
#include "quant/float_convert.h"
#include "quant/int4.h"
#include "quant/kernels.h"

namespace ballast::quant {
namespace {

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
    EncodedBlock block{MutableBytes(block_bytes(codec_, source_, count)), {}};
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

class Int4Encoder final : public TensorEncoder {
 public:
  Int4Encoder(CodecSpec codec, DType source, const Codebook& codebook)
      : codec_(codec), source_(source), codebook_(codebook) {}

  Result<EncodedBlock> encode(std::span<const std::byte> values) const override {
    const size_t value_bytes = dtype_bytes(source_);
    BALLAST_CHECK(values.size() % value_bytes == 0);
    const uint64_t count = values.size() / value_bytes;
    BALLAST_CHECK(count <= values_per_block(codec_, source_));
    EncodedBlock block{MutableBytes(block_bytes(codec_, source_, count)), {}};
    const BlockHeader header{codec_, source_, count, choose_scale_base(values, source_), codebook_};
    std::span<std::byte> out = block.bytes.span();
    write_header(header, out.first<kBlockHeaderBytes>());
    out = out.subspan(kBlockHeaderBytes);
    while (!values.empty()) {
      const uint64_t chunk = std::min(limits::kChunkValues, values.size() / value_bytes);
      const uint64_t bytes = chunk_bytes(codec_, source_, chunk);
      block.error += encode_int4_chunk(header, values.first(chunk * value_bytes), out.first(bytes));
      values = values.subspan(chunk * value_bytes);
      out = out.subspan(bytes);
    }
    return block;
  }

 private:
  CodecSpec codec_;
  DType source_;
  Codebook codebook_;
};

}  // namespace

Result<std::unique_ptr<TensorEncoder>> TensorEncoder::create(CodecSpec spec, DType source,
                                                             std::span<const std::byte> sample) {
  if (spec.id != CodecId::kRaw && !dtype_is_codable(source)) {
    return fail(Errc::kInvalidArgument,
                "codec {} encodes F32, F16 and BF16, not {}; use raw for this tensor",
                codec_name(spec), dtype_name(source));
  }
  if (spec.id != CodecId::kInt4) return std::make_unique<PlainEncoder>(spec, source);
  return std::make_unique<Int4Encoder>(spec, source,
                                       learn_codebook(sample, source, spec.group_size));
}

}  // namespace ballast::quant
