// int4 as a codec: which blocks there are, and how parts of them are decoded.
#include <array>
#include <cstring>

#include "proto/base/check.h"
#include "quant/block_codec.h"
#include "quant/int4.h"
#include "quant/kernels.h"
#include "quant/log_scale.h"

namespace ballast::quant {
namespace {

uint64_t payload_bytes(size_t group, uint64_t values) {
  return values / limits::kChunkValues * int4_chunk_bytes(group, limits::kChunkValues) +
         int4_chunk_bytes(group, values % limits::kChunkValues);
}

class Int4Encoder final : public TensorEncoder {
 public:
  Int4Encoder(CodecSpec codec, DType source, const Codebook& codebook)
      : codec_(codec), source_(source), codebook_(codebook) {}

  Result<EncodedBlock> encode(std::span<const std::byte> values) const override {
    const size_t value_bytes = dtype_bytes(source_);
    BALLAST_CHECK(values.size() % value_bytes == 0);
    const uint64_t count = values.size() / value_bytes;
    BALLAST_CHECK(count <= values_per_block(codec_, source_));
    const Int4Parameters parameters{codec_.group_size, source_, choose_scale_base(values, source_),
                                    codebook_};
    BlockHeader header{codec_, source_, count, ScaleType::kLogScale, parameters.scale_base, {}};
    std::memcpy(header.parameters.data(), codebook_.data(), sizeof codebook_);
    EncodedBlock block{MutableBytes(kBlockHeaderBytes + payload_bytes(parameters.group, count)),
                       {}};
    std::span<std::byte> out = block.bytes.span();
    write_header(header, out.first<kBlockHeaderBytes>());
    out = out.subspan(kBlockHeaderBytes);
    while (!values.empty()) {
      const uint64_t chunk = std::min(limits::kChunkValues, values.size() / value_bytes);
      const uint64_t bytes = int4_chunk_bytes(parameters.group, chunk);
      block.error +=
          encode_int4_chunk(parameters, values.first(chunk * value_bytes), out.first(bytes));
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

// Decodes ranges of units of one block.
class Int4Decoder {
 public:
  Int4Decoder(const BlockHeader& header, std::span<const std::byte> block, DType as, bool streaming)
      : header_(header),
        payload_(reinterpret_cast<const uint8_t*>(block.data()) + kBlockHeaderBytes),
        table_(header.scale_base, codebook_of(header)),
        decode_(as == DType::kF32   ? kernel().int4_to_f32
                : as == DType::kF16 ? kernel().int4_to_f16
                                    : kernel().int4_to_bf16),
        value_bytes_(dtype_bytes(as)),
        streaming_(streaming) {}

  // Decodes the values [first, first + count) of the block.
  Status decode(uint64_t first, uint64_t count, std::byte* out) const {
    return for_each_chunk(
        header_.values, first, count,
        [&](uint64_t chunk, uint64_t values, uint64_t start, uint64_t part) -> Status {
          decode_in_chunk(chunk, values, start, part, out);
          out += part * value_bytes_;
          return {};
        });
  }

 private:
  // Decodes the values [first, first + count) of a chunk of `size` values. Whole units go straight
  // to `out`; the others, and all if `out` is not aligned for its dtype, through a buffer.
  void decode_in_chunk(uint64_t chunk, uint64_t size, uint64_t first, uint64_t count,
                       std::byte* out) const {
    const bool aligned = reinterpret_cast<uintptr_t>(out) % value_bytes_ == 0;
    while (count > 0) {
      const uint64_t skipped = first % kUnitValues;
      PackedUnits packed = units_at(chunk, size, first / kUnitValues);
      uint64_t done = 0;
      if (skipped == 0 && count >= kUnitValues && aligned) {
        packed.units = count / kUnitValues;
        done = packed.units * kUnitValues;
        decode_(table_, packed, out, streaming_);
      } else {
        alignas(64) std::array<std::byte, kUnitValues * sizeof(float)> unit;
        decode_(table_, packed, unit.data(), false);
        done = std::min(count, kUnitValues - skipped);
        std::memcpy(out, unit.data() + skipped * value_bytes_, done * value_bytes_);
      }
      first += done;
      count -= done;
      out += done * value_bytes_;
    }
  }

  // The unit `unit` of a chunk of `size` values.
  PackedUnits units_at(uint64_t chunk, uint64_t size, uint64_t unit) const {
    const size_t group = header_.codec.group_size;
    const uint8_t* scales = payload_ + chunk * int4_chunk_bytes(group, limits::kChunkValues);
    const uint8_t* codes = scales + units_for(size) * unit_groups(group);
    return {scales + unit * unit_groups(group), codes + unit * kUnitCodeBytes, 1, group};
  }

  const BlockHeader& header_;
  const uint8_t* payload_;
  DecodeTable table_;
  DecodeFn decode_;
  size_t value_bytes_;
  bool streaming_;
};

class Int4Codec final : public BlockCodec {
 public:
  bool valid(const CodecSpec& spec) const override {
    const bool group = spec.group_size == 16 || spec.group_size == 32 || spec.group_size == 64;
    return group && spec == CodecSpec{spec.id, spec.group_size};
  }

  uint64_t values_per_block(CodecSpec spec, DType /*source*/) const override {
    const uint64_t bytes = int4_chunk_bytes(spec.group_size, limits::kChunkValues);
    return limits::kBlockBytesTarget / bytes * limits::kChunkValues;
  }

  bool learns() const override { return true; }

  Result<std::unique_ptr<TensorEncoder>> make_encoder(
      CodecSpec spec, DType source, std::span<const std::byte> sample) const override {
    return std::make_unique<Int4Encoder>(spec, source,
                                         learn_codebook(sample, source, spec.group_size));
  }

  Status check(const BlockHeader& header, std::span<const std::byte> block) const override {
    if (!has_codebook(header)) return impossible_header(header);
    // More than half a byte for a value: this keeps the product from overflowing.
    const uint64_t payload = block.size() - kBlockHeaderBytes;
    if (header.values / 2 > payload ||
        payload_bytes(header.codec.group_size, header.values) != payload) {
      return fail(Errc::kCorrupt, "a block of {} bytes can't be {} values in codec {}",
                  block.size(), header.values, codec_name(header.codec));
    }
    return {};
  }

  Status decode(const BlockHeader& header, std::span<const std::byte> block,
                const DecodeRequest& request) const override {
    if (!dtype_is_codable(request.as)) return cannot_read_as(header, request.as);
    const bool streaming = request.out.size() >= kStreamingBytesMin;
    return Int4Decoder(header, block, request.as, streaming)
        .decode(request.first, request.count, request.out.data());
  }
};

}  // namespace

const BlockCodec& int4_codec() {
  static const Int4Codec codec;
  return codec;
}

}  // namespace ballast::quant
