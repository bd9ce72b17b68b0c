// int8 as a codec: groups of 32 values with a scale of 8 bits and codes of 8 bits each.
#include <algorithm>
#include <array>
#include <cstring>

#include "proto/base/check.h"
#include "quant/block_codec.h"
#include "quant/float_convert.h"
#include "quant/kernels.h"
#include "quant/log_scale.h"

namespace ballast::quant {
namespace {

static_assert(kPieceValues % kInt8GroupValues == 0);

constexpr uint64_t groups_for(uint64_t values) {
  return (values + kInt8GroupValues - 1) / kInt8GroupValues;
}

// The bytes of a chunk that holds `values` values: scales, then codes.
constexpr uint64_t chunk_bytes(uint64_t values) {
  return groups_for(values) * (1 + kInt8GroupValues);
}

constexpr uint64_t payload_bytes(uint64_t values) {
  return values / limits::kChunkValues * chunk_bytes(limits::kChunkValues) +
         chunk_bytes(values % limits::kChunkValues);
}

ErrorSums sums_in_units(const PairSums& lanes, double unit) {
  ErrorSums sums;
  for (size_t lane = 0; lane < PairSums::kLanes; ++lane) {
    sums += {lanes.signal[lane], lanes.decoded[lane], lanes.noise[lane], lanes.max_error[lane]};
  }
  sums.signal_energy *= unit * unit;
  sums.decoded_energy *= unit * unit;
  sums.noise_energy *= unit * unit;
  sums.max_abs_error *= unit;
  return sums;
}

// Encodes one chunk into `out`, which has its size.
void encode_chunk(float base, DType source, std::span<const std::byte> values, std::byte* out,
                  PairSums& sums) {
  const size_t value_bytes = dtype_bytes(source);
  auto* scales = reinterpret_cast<uint8_t*>(out);
  auto* codes = reinterpret_cast<int8_t*>(scales + groups_for(values.size() / value_bytes));
  alignas(64) std::array<float, kPieceValues> piece;
  alignas(64) std::array<float, kPieceValues> taken;
  alignas(64) std::array<float, kPieceValues> decoded;
  while (!values.empty()) {
    const size_t count = std::min(kPieceValues, values.size() / value_bytes);
    const size_t groups = groups_for(count);
    load_f32(source, values.data(), count, piece.data());
    std::fill(piece.begin() + count, piece.begin() + groups * kInt8GroupValues, 0.0f);
    kernel().int8.encode(1 / base, piece.data(), groups, scales, codes, taken.data(),
                         decoded.data());
    kernel().measure(taken.data(), decoded.data(), count, sums);
    scales += groups;
    codes += groups * kInt8GroupValues;
    values = values.subspan(count * value_bytes);
  }
}

class Int8Encoder final : public TensorEncoder {
 public:
  Int8Encoder(CodecSpec codec, DType source) : codec_(codec), source_(source) {}

  Result<EncodedBlock> encode(std::span<const std::byte> values) const override {
    const size_t value_bytes = dtype_bytes(source_);
    BALLAST_CHECK(values.size() % value_bytes == 0);
    const uint64_t count = values.size() / value_bytes;
    BALLAST_CHECK(count <= values_per_block(codec_, source_));
    // The smallest base whose step 0 holds all values.
    const float base =
        std::clamp(abs_max_of(source_, values) / 127, kWideScaleBaseMin, kScaleBaseMax);
    EncodedBlock block{MutableBytes(kBlockHeaderBytes + payload_bytes(count)), {}};
    write_header({codec_, source_, count, ScaleType::kLogScale, base, {}},
                 block.bytes.span().first<kBlockHeaderBytes>());
    std::byte* out = block.bytes.data() + kBlockHeaderBytes;
    PairSums sums;
    while (!values.empty()) {
      const uint64_t chunk = std::min(limits::kChunkValues, values.size() / value_bytes);
      encode_chunk(base, source_, values.first(chunk * value_bytes), out, sums);
      values = values.subspan(chunk * value_bytes);
      out += chunk_bytes(chunk);
    }
    block.error = sums_in_units(sums, base);
    return block;
  }

 private:
  CodecSpec codec_;
  DType source_;
};

// Decodes ranges of one block.
class Int8Decoder {
 public:
  Int8Decoder(const BlockHeader& header, std::span<const std::byte> block, DType as, bool streaming)
      : payload_(reinterpret_cast<const uint8_t*>(block.data()) + kBlockHeaderBytes),
        as_(as),
        streaming_(streaming) {
    for (size_t byte = 0; byte < magnitudes_.size(); ++byte) {
      magnitudes_[byte] = header.scale_base * kWideScaleSteps.ratio[byte];
    }
  }

  // The values [first, first + count) of chunk number `chunk`, which has `values` values.
  void decode(uint64_t chunk, uint64_t values, uint64_t first, uint64_t count,
              std::byte* out) const {
    const uint8_t* scales = payload_ + chunk * chunk_bytes(limits::kChunkValues);
    const auto* codes = reinterpret_cast<const int8_t*>(scales + groups_for(values));
    alignas(64) std::array<float, kPieceValues> buffer;
    while (count > 0) {
      const uint64_t group = first / kInt8GroupValues;
      const uint64_t skipped = first % kInt8GroupValues;
      const bool direct = skipped == 0 && count >= kInt8GroupValues && writes_directly(out);
      const uint64_t part = direct ? count / kInt8GroupValues * kInt8GroupValues
                                   : std::min(count, kPieceValues - skipped);
      float* piece = direct ? reinterpret_cast<float*>(out) : buffer.data();
      kernel().int8.decode(magnitudes_, scales + group, codes + group * kInt8GroupValues,
                           groups_for(skipped + part), piece, direct && streaming_);
      if (!direct) store_f32(as_, piece + skipped, part, out, streaming_);
      first += part;
      count -= part;
      out += part * dtype_bytes(as_);
    }
  }

 private:
  bool writes_directly(const std::byte* out) const {
    return as_ == DType::kF32 && reinterpret_cast<uintptr_t>(out) % alignof(float) == 0;
  }

  alignas(64) Int8Magnitudes magnitudes_;
  const uint8_t* payload_;
  DType as_;
  bool streaming_;
};

class Int8Codec final : public BlockCodec {
 public:
  bool valid(const CodecSpec& spec) const override {
    return spec == CodecSpec{spec.id, kInt8GroupValues};
  }

  uint64_t values_per_block(CodecSpec /*spec*/, DType /*source*/) const override {
    return limits::kBlockBytesTarget / chunk_bytes(limits::kChunkValues) * limits::kChunkValues;
  }

  Result<std::unique_ptr<TensorEncoder>> make_encoder(
      CodecSpec spec, DType source, std::span<const std::byte> /*sample*/) const override {
    return std::make_unique<Int8Encoder>(spec, source);
  }

  Status check(const BlockHeader& header, std::span<const std::byte> block) const override {
    if (header.scale_type != ScaleType::kLogScale || !(header.scale_base >= kWideScaleBaseMin) ||
        !(header.scale_base <= kScaleBaseMax) ||
        header.parameters != decltype(header.parameters){}) {
      return impossible_header(header);
    }
    // More than a byte for a value: this keeps the product from overflowing.
    const uint64_t payload = block.size() - kBlockHeaderBytes;
    if (header.values > payload || payload_bytes(header.values) != payload) {
      return fail(Errc::kCorrupt, "a block of {} bytes can't be {} values in codec {}",
                  block.size(), header.values, codec_name(header.codec));
    }
    return {};
  }

  Status decode(const BlockHeader& header, std::span<const std::byte> block,
                const DecodeRequest& request) const override {
    if (!dtype_is_codable(request.as)) return cannot_read_as(header, request.as);
    const bool streaming = request.out.size() >= kStreamingBytesMin;
    const Int8Decoder decoder(header, block, request.as, streaming);
    std::byte* out = request.out.data();
    const auto decode_part = [&](uint64_t chunk, uint64_t values, uint64_t first,
                                 uint64_t count) -> Status {
      decoder.decode(chunk, values, first, count, out);
      out += count * dtype_bytes(request.as);
      return {};
    };
    const Status done = for_each_chunk(header.values, request.first, request.count, decode_part);
    if (streaming) finish_streaming();
    return done;
  }
};

}  // namespace

const BlockCodec& int8_codec() {
  static const Int8Codec codec;
  return codec;
}

}  // namespace ballast::quant
