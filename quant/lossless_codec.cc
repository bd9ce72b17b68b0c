// lossless as a codec: chunks of different lengths, and the base that a block may be a difference
// to.
#include <algorithm>
#include <cstring>

#include "proto/base/check.h"
#include "quant/block_codec.h"
#include "quant/chunk_table.h"
#include "quant/float_convert.h"
#include "quant/kernels.h"
#include "quant/lossless.h"

namespace ballast::quant {
namespace {

// The parameters of a header: the base's digest, and whether there is one.
constexpr size_t kDigestAt = 0;
constexpr size_t kHasBaseAt = Digest::kSize;

ErrorSums energy_of(std::span<const std::byte> values, DType source) {
  alignas(64) std::array<float, kPieceValues> piece;
  PairSums lanes;
  while (!values.empty()) {
    const size_t count = std::min(kPieceValues, values.size() / dtype_bytes(source));
    load_f32(source, values.data(), count, piece.data());
    kernel().measure(piece.data(), piece.data(), count, lanes);
    values = values.subspan(count * dtype_bytes(source));
  }
  ErrorSums sums;
  for (size_t lane = 0; lane < PairSums::kLanes; ++lane) {
    sums += {lanes.signal[lane], lanes.decoded[lane], lanes.noise[lane], lanes.max_error[lane]};
  }
  return sums;
}

class LosslessEncoder final : public TensorEncoder {
 public:
  LosslessEncoder(CodecSpec codec, DType source) : codec_(codec), source_(source) {}

  Result<EncodedBlock> encode(std::span<const std::byte> values) const override {
    return encode_block(values, {}, header_for(values));
  }

  Result<EncodedBlock> encode_delta(std::span<const std::byte> values,
                                    std::span<const std::byte> base) const override {
    if (base.size() != values.size()) {
      return fail(Errc::kInvalidArgument,
                  "the base has {} bytes, the values that are to be encoded against it {}",
                  base.size(), values.size());
    }
    BlockHeader header = header_for(values);
    const Digest digest = sha256(base);
    std::ranges::copy(digest.bytes, header.parameters.begin() + kDigestAt);
    header.parameters[kHasBaseAt] = std::byte{1};
    return encode_block(values, base, header);
  }

 private:
  BlockHeader header_for(std::span<const std::byte> values) const {
    BALLAST_CHECK(values.size() % dtype_bytes(source_) == 0);
    const uint64_t count = values.size() / dtype_bytes(source_);
    BALLAST_CHECK(count <= values_per_block(codec_, source_));
    return {.codec = codec_, .source = source_, .values = count};
  }

  EncodedBlock encode_block(std::span<const std::byte> values, std::span<const std::byte> base,
                            const BlockHeader& header) const {
    const size_t step = limits::kChunkValues * dtype_bytes(source_);
    std::vector<std::vector<std::byte>> chunks;
    for (size_t at = 0; at < values.size(); at += step) {
      const size_t bytes = std::min(step, values.size() - at);
      const auto chunk_base = base.empty() ? base : base.subspan(at, bytes);
      chunks.push_back(encode_lossless_chunk({source_, values.subspan(at, bytes), chunk_base}));
    }
    return {write_chunks(header, chunks), energy_of(values, source_)};
  }

  CodecSpec codec_;
  DType source_;
};

class LosslessCodec final : public BlockCodec {
 public:
  bool valid(const CodecSpec& spec) const override { return spec == CodecSpec{spec.id}; }

  // So many that a block of weights has about the size that is aimed at: the exponents of f32, f16
  // and bf16 shrink to about 83, 83 and 65 %. Even if nothing shrinks, the block fits.
  uint64_t values_per_block(CodecSpec /*spec*/, DType source) const override {
    switch (source) {
      case DType::kF16: return 5 * limits::kChunkValues;
      case DType::kBF16: return 6 * limits::kChunkValues;
      default: return 2 * limits::kChunkValues;
    }
  }
  static_assert(6 * limits::kChunkValues * 2 + limits::kKiB < limits::kBlockBytesMax);

  Result<std::unique_ptr<TensorEncoder>> make_encoder(
      CodecSpec spec, DType source, std::span<const std::byte> /*sample*/) const override {
    return std::make_unique<LosslessEncoder>(spec, source);
  }

  std::optional<Digest> base(const BlockHeader& header) const override {
    if (header.parameters[kHasBaseAt] == std::byte{}) return {};
    Digest digest;
    std::memcpy(digest.bytes.data(), header.parameters.data() + kDigestAt, Digest::kSize);
    return digest;
  }

  Status check(const BlockHeader& header, std::span<const std::byte> block) const override {
    BlockHeader expected{.codec = header.codec, .source = header.source, .values = header.values};
    if (const auto digest = base(header)) {
      std::ranges::copy(digest->bytes, expected.parameters.begin() + kDigestAt);
      expected.parameters[kHasBaseAt] = std::byte{1};
    }
    BlockHeader rest = header;
    rest.parameters = {};
    if (!has_no_parameters(rest) || header.parameters != expected.parameters) {
      return impossible_header(header);
    }
    if (const auto chunks = read_chunks(header, block); !chunks) {
      return std::unexpected(chunks.error());
    }
    return {};
  }

  Status decode(const BlockHeader& header, std::span<const std::byte> block,
                const DecodeRequest& request) const override {
    if (!dtype_is_codable(request.as)) return cannot_read_as(header, request.as);
    const auto digest = base(header);
    if (digest) BALLAST_TRY_STATUS(check_base(header, *digest, request.base));
    const size_t width = dtype_bytes(header.source);
    bool streamed = false;
    const Status done = decode_chunks(
        header, block, request,
        [&](uint64_t chunk, std::span<const std::byte> bytes, uint64_t values, std::byte* out,
            bool streaming) -> Status {
          streamed |= streaming;
          ValueSink sink(header.source, request.as, out, streaming);
          const uint64_t start = chunk * limits::kChunkValues * width;
          const auto chunk_base =
              digest ? request.base.subspan(start, values * width) : std::span<const std::byte>();
          return decode_lossless_chunk(bytes, header.source, values, chunk_base, sink);
        });
    if (streamed) finish_streaming();
    return done;
  }

 private:
  static Status check_base(const BlockHeader& header, const Digest& digest,
                           std::span<const std::byte> base) {
    const uint64_t bytes = header.values * dtype_bytes(header.source);
    if (base.size() != bytes) {
      return fail(Errc::kInvalidArgument,
                  "the block is a difference to {} bytes of values with digest {}, but {} were "
                  "given",
                  bytes, digest.brief(), base.size());
    }
    if (const Digest given = sha256(base); given != digest) {
      return fail(Errc::kInvalidArgument,
                  "the block is a difference to values with digest {}, but those that were given "
                  "have {}",
                  digest.brief(), given.brief());
    }
    return {};
  }
};

}  // namespace

const BlockCodec& lossless_codec() {
  static const LosslessCodec codec;
  return codec;
}

}  // namespace ballast::quant
