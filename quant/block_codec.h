// What the generic code asks of a codec. A codec is one class in one file and one row in
// codec_of().
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "proto/base/result.h"
#include "quant/block_header.h"
#include "quant/codec.h"

namespace ballast::quant {

// The values [first, first + count) of a block, wanted as `as`.
// REQUIRES: they lie in the block, and out.size() == count * dtype_bytes(as).
struct DecodeRequest {
  uint64_t first = 0;
  uint64_t count = 0;
  DType as = DType::kF32;
  std::span<std::byte> out;
  std::span<const std::byte> base;  // see decode_block()
};

// Immutable: one object of each class serves all threads.
class BlockCodec {
 public:
  virtual ~BlockCodec() = default;

  // Whether a spec with this codec's id may say the rest of what it says.
  virtual bool valid(const CodecSpec& spec) const = 0;
  virtual uint64_t values_per_block(CodecSpec spec, DType source) const = 0;
  // True if create() wants a sample of the tensor.
  virtual bool learns() const { return false; }
  virtual Result<std::unique_ptr<TensorEncoder>> make_encoder(
      CodecSpec spec, DType source, std::span<const std::byte> sample) const = 0;

  // The digest of the values that a block is a difference to, if it is one.
  virtual std::optional<Digest> base(const BlockHeader& /*header*/) const { return {}; }

  // Checks what the header says for this codec, and the block's length. Errors: kCorrupt.
  virtual Status check(const BlockHeader& header, std::span<const std::byte> block) const = 0;
  // REQUIRES: check() succeeded. Errors: kCorrupt, kInvalidArgument (a dtype that can't be had).
  virtual Status decode(const BlockHeader& header, std::span<const std::byte> block,
                        const DecodeRequest& request) const = 0;
};

// REQUIRES: the id is one of CodecId's.
const BlockCodec& codec_of(CodecId id);

const BlockCodec& plain_codec();  // raw, f32, f16, bf16
const BlockCodec& int4_codec();
const BlockCodec& int8_codec();
const BlockCodec& ec4_codec();  // ec4, ec4t
const BlockCodec& lossless_codec();
const BlockCodec& sparse4_codec();

// An output of this size does not stay in a core's cache, so writing around the caches is faster.
inline constexpr size_t kStreamingBytesMin = 2 * limits::kMiB;

// True if the header has neither scale nor parameters.
bool has_no_parameters(const BlockHeader& header);
std::unexpected<Error> cannot_read_as(const BlockHeader& header, DType as);
std::unexpected<Error> impossible_header(const BlockHeader& header);

// Calls visit(chunk, values, first, count) for each chunk that the values [first, first + count) of
// a block of `total` values touch: `values` are in it, of which [first, first + count) are wanted.
template <class Visit>
Status for_each_chunk(uint64_t total, uint64_t first, uint64_t count, const Visit& visit) {
  while (count > 0) {
    const uint64_t chunk = first / limits::kChunkValues;
    const uint64_t start = chunk * limits::kChunkValues;
    const uint64_t values = std::min<uint64_t>(limits::kChunkValues, total - start);
    const uint64_t part = std::min(count, start + values - first);
    BALLAST_TRY_STATUS(visit(chunk, values, first - start, part));
    first += part;
    count -= part;
  }
  return {};
}

}  // namespace ballast::quant
