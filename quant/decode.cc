#include <algorithm>
#include <array>
#include <cstring>

#include "proto/base/check.h"
#include "quant/block_header.h"
#include "quant/codec.h"
#include "quant/float_convert.h"
#include "quant/kernels.h"

namespace ballast::quant {
namespace {

// An output of this size does not stay in a core's cache, so writing around the caches is faster.
constexpr size_t kStreamingBytesMin = 2 * limits::kMiB;

// Decodes ranges of units of one block.
class Int4Decoder {
 public:
  Int4Decoder(const BlockHeader& header, std::span<const std::byte> block, DType as, bool streaming)
      : header_(header),
        payload_(reinterpret_cast<const uint8_t*>(block.data()) + kBlockHeaderBytes),
        table_(header.scale_base, header.codebook),
        decode_(as == DType::kF32   ? kernel().int4_to_f32
                : as == DType::kF16 ? kernel().int4_to_f16
                                    : kernel().int4_to_bf16),
        value_bytes_(dtype_bytes(as)),
        streaming_(streaming) {}

  // Decodes the values [first, first + count) of the block.
  void decode(uint64_t first, uint64_t count, std::byte* out) const {
    while (count > 0) {
      const uint64_t chunk = first / limits::kChunkValues;
      const uint64_t start = chunk * limits::kChunkValues;
      const uint64_t size = std::min(limits::kChunkValues, header_.values - start);
      const uint64_t part = std::min(count, start + size - first);
      decode_in_chunk(chunk, size, first - start, part, out);
      first += part;
      count -= part;
      out += part * value_bytes_;
    }
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
    const size_t unit_groups = kUnitValues / group;
    const uint8_t* scales =
        payload_ + chunk * chunk_bytes(header_.codec, header_.source, limits::kChunkValues);
    const uint8_t* codes = scales + units_for(size) * unit_groups;
    return {scales + unit * unit_groups, codes + unit * kUnitCodeBytes, 1, group};
  }

  const BlockHeader& header_;
  const uint8_t* payload_;
  DecodeTable table_;
  DecodeFn decode_;
  size_t value_bytes_;
  bool streaming_;
};

// From the values of a plain block, of dtype `stored`.
void convert(const std::byte* values, DType stored, DType as, uint64_t count, std::byte* out) {
  alignas(64) std::array<float, kPieceValues> piece;
  for (uint64_t at = 0; at < count; at += kPieceValues) {
    const size_t part = std::min<uint64_t>(kPieceValues, count - at);
    load_f32(stored, values + at * dtype_bytes(stored), part, piece.data());
    store_f32(as, piece.data(), part, out + at * dtype_bytes(as));
  }
}

}  // namespace

Status decode_block(std::span<const std::byte> block, uint64_t first, uint64_t count, DType as,
                    std::span<std::byte> out) {
  BALLAST_TRY(const BlockHeader header, read_header(block));
  if (first > header.values || count > header.values - first) {
    return fail(Errc::kInvalidArgument, "values {} to {} lie outside of a block of {}", first,
                first + count, header.values);
  }
  BALLAST_CHECK(out.size() == count * dtype_bytes(as), "{} bytes for {} values of {}", out.size(),
                count, dtype_name(as));
  if (header.codec.id == CodecId::kInt4 && dtype_is_codable(as)) {
    const bool streaming = out.size() >= kStreamingBytesMin;
    Int4Decoder(header, block, as, streaming).decode(first, count, out.data());
    return {};
  }
  const DType stored = stored_dtype(header.codec, header.source);
  const std::byte* values = block.data() + kBlockHeaderBytes + first * dtype_bytes(stored);
  if (header.codec.id != CodecId::kInt4 && as == stored) {
    std::copy_n(values, out.size(), out.data());
  } else if (header.codec.id != CodecId::kInt4 && dtype_is_codable(stored) &&
             dtype_is_codable(as)) {
    convert(values, stored, as, count, out.data());
  } else {
    return fail(Errc::kInvalidArgument, "a block of {} in codec {} can't be read as {}",
                dtype_name(header.source), codec_name(header.codec), dtype_name(as));
  }
  return {};
}

}  // namespace ballast::quant
