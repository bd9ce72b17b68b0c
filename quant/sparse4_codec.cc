// sparse4: tensors of which most values are 0. A chunk is a bitmap of the others and these as int4,
// or, where it pays, a chunk of ec4.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

#include "proto/base/check.h"
#include "quant/block_codec.h"
#include "quant/chunk_table.h"
#include "quant/ec4.h"
#include "quant/float_convert.h"
#include "quant/int4.h"
#include "quant/kernels.h"
#include "quant/log_scale.h"
#include "quant/rans.h"

namespace ballast::quant {
namespace {

// How a chunk is encoded. Numbers lie on disk: never reused.
enum class ChunkMode : uint32_t {
  kZeros = 0,    // nothing follows
  kBitmap = 1,   // ChunkHead, bitmap, int4 of the kept values
  kEntropy = 2,  // EntropyHead, chunk of ec4
};

struct ChunkHead {
  ChunkMode mode = ChunkMode::kZeros;
  uint32_t kept = 0;
};

struct EncodedChunk {
  std::vector<std::byte> bytes;
  ErrorSums error;
};

struct EntropyHead {
  ChunkMode mode = ChunkMode::kEntropy;
  float step = 0;
};

// Where one value in so many or fewer is kept, the zeros' entropy is far below a bit, and the
// smaller of both ways is taken. With more values it would gain a few percent, and be slower to
// decode.
constexpr size_t kEntropyShare = 4;
// The entropy coder aims at the bitmap's error, within these limits.
constexpr double kDecibelsMin = 21.5;
constexpr double kDecibelsMax = 28;
constexpr size_t kEntropySample = 16 << 10;
// So much below what was aimed at, about 2 dB, the step is not the one that was looked for.
constexpr double kMarginMin = -kEc4PlacesPerOctave / 3.0;

constexpr uint64_t bitmap_bytes(uint64_t values) { return units_for(values) * kUnitBitmapBytes; }

// What is worth a bit. NaN is not: it is encoded as 0.
bool is_kept(float value) { return value < 0 || value > 0; }

// --- encoding ---

struct Compacted {
  std::vector<uint8_t> bitmap;
  std::vector<float> kept;
};

Compacted compact(std::span<const std::byte> values, DType source) {
  const size_t width = dtype_bytes(source);
  const size_t count = values.size() / width;
  Compacted result{std::vector<uint8_t>(bitmap_bytes(count)), std::vector<float>(count + 1)};
  alignas(64) std::array<float, kPieceValues> piece;
  size_t kept = 0;
  for (size_t at = 0; at < count; at += kPieceValues) {
    const size_t part = std::min(kPieceValues, count - at);
    load_f32(source, values.data() + at * width, part, piece.data());
    for (size_t i = 0; i < part; ++i) {
      const bool keep = is_kept(piece[i]);
      result.kept[kept] = piece[i];
      kept += keep ? 1 : 0;
      result.bitmap[(at + i) / 8] |= static_cast<uint8_t>(uint32_t{keep} << i % 8);
    }
  }
  result.kept.resize(kept);
  return result;
}

std::vector<std::byte> with_head(ChunkHead head, size_t bytes) {
  std::vector<std::byte> chunk(bytes);
  std::memcpy(chunk.data(), &head, std::min(bytes, sizeof head));
  return chunk;
}

class Sparse4Encoder final : public TensorEncoder {
 public:
  Sparse4Encoder(CodecSpec codec, DType source, const Codebook& codebook)
      : codec_(codec), source_(source), codebook_(codebook) {}

  Result<EncodedBlock> encode(std::span<const std::byte> values) const override {
    const size_t width = dtype_bytes(source_);
    BALLAST_CHECK(values.size() % width == 0);
    const uint64_t count = values.size() / width;
    BALLAST_CHECK(count <= values_per_block(codec_, source_));
    BlockHeader header{
        codec_, source_, count, ScaleType::kLogScale, choose_scale_base(values, source_), {}};
    std::memcpy(header.parameters.data(), codebook_.data(), sizeof codebook_);
    EncodedBlock block;
    std::vector<std::vector<std::byte>> chunks;
    for (uint64_t at = 0; at < count; at += limits::kChunkValues) {
      const uint64_t chunk = std::min<uint64_t>(limits::kChunkValues, count - at);
      chunks.push_back(
          encode_chunk(header.scale_base, values.subspan(at * width, chunk * width), block.error));
    }
    block.bytes = write_chunks(header, chunks);
    return block;
  }

 private:
  std::vector<std::byte> encode_chunk(float scale_base, std::span<const std::byte> values,
                                      ErrorSums& error) const {
    const Compacted compacted = compact(values, source_);
    const size_t kept = compacted.kept.size();
    if (kept == 0) return with_head({ChunkMode::kZeros}, sizeof(ChunkMode));
    const size_t codes = sizeof(ChunkHead) + compacted.bitmap.size();
    const size_t bytes = codes + int4_chunk_bytes(codec_.group_size, kept);
    std::vector<std::byte> chunk =
        with_head({ChunkMode::kBitmap, static_cast<uint32_t>(kept)}, bytes);
    std::ranges::copy(std::as_bytes(std::span(compacted.bitmap)), chunk.data() + sizeof(ChunkHead));
    const auto kept_values = std::as_bytes(std::span(compacted.kept));
    const ErrorSums sums =
        encode_int4_chunk({codec_.group_size, DType::kF32, scale_base, codebook_}, kept_values,
                          std::span(chunk).subspan(codes));
    if (kept * kEntropyShare <= values.size() / dtype_bytes(source_)) {
      auto other = encode_entropy(values, kept_values, sums);
      if (other && other->bytes.size() < chunk.size()) {
        error += other->error;
        return std::move(other->bytes);
      }
    }
    error += sums;
    return chunk;
  }

  // With a step that makes about the error that the bitmap chunk has; nothing if there is none.
  std::optional<EncodedChunk> encode_entropy(std::span<const std::byte> values,
                                             std::span<const std::byte> kept,
                                             const ErrorSums& error) const {
    Ec4Target target;
    target.db = kDecibelsMax;
    if (error.noise_energy > 0 && error.signal_energy > error.noise_energy) {
      target.db = portable_decibels(error.signal_energy / error.noise_energy);
    }
    target.db = std::clamp(target.db, kDecibelsMin, kDecibelsMax);
    // Zeros add neither signal nor noise, so the kept values tell what all lose.
    Ec4StepSearch search({DType::kF32, false}, target, kept, kEntropySample);
    Ec4Parameters parameters = search.at(search.best());
    parameters.source = source_;
    Ec4Scratch scratch;
    Ec4Chunk chunk;
    quantize_ec4_chunk(parameters, values, scratch, chunk);
    const double rounded = chunk.error.signal_energy - chunk.outlier_energy;
    if (target.margin(0, rounded, chunk.error.noise_energy) < kMarginMin) return {};
    return written(parameters, chunk, scratch);
  }

  EncodedChunk written(const Ec4Parameters& parameters, const Ec4Chunk& chunk,
                       Ec4Scratch& scratch) const {
    const EntropyHead head{ChunkMode::kEntropy, parameters.step};
    std::vector<std::byte> bytes = write_ec4_chunk(source_, chunk, scratch);
    const auto head_bytes = std::as_bytes(std::span(&head, 1));
    bytes.insert(bytes.begin(), head_bytes.begin(), head_bytes.end());
    return {std::move(bytes), chunk.error};
  }

  CodecSpec codec_;
  DType source_;
  Codebook codebook_;
};

// --- decoding ---

// A bitmap chunk taken apart.
struct BitmapChunk {
  uint64_t kept = 0;
  const uint8_t* bitmap = nullptr;
  PackedUnits packed;
};

Result<BitmapChunk> open_chunk(std::span<const std::byte> chunk, uint64_t values, size_t group) {
  ChunkHead head;
  if (chunk.size() >= sizeof head) std::memcpy(&head, chunk.data(), sizeof head);
  const uint64_t codes = sizeof head + bitmap_bytes(values);
  if (chunk.size() != codes + int4_chunk_bytes(group, head.kept)) {
    return fail(Errc::kCorrupt, "a chunk of {} bytes can't keep {} of {} values", chunk.size(),
                head.kept, values);
  }
  const auto* bytes = reinterpret_cast<const uint8_t*>(chunk.data());
  const size_t units = units_for(head.kept);
  const uint8_t* scales = bytes + codes;
  return BitmapChunk{
      head.kept, bytes + sizeof head, {scales, scales + units * unit_groups(group), units, group}};
}

// Decodes ranges of the places of a chunk.
class BitmapDecoder {
 public:
  BitmapDecoder(const DecodeTable& table, DType as, bool streaming)
      : table_(table),
        decode_(as == DType::kF32   ? kernel().sparse4_to_f32
                : as == DType::kF16 ? kernel().sparse4_to_f16
                                    : kernel().sparse4_to_bf16),
        width_(dtype_bytes(as)),
        streaming_(streaming) {}

  // Whole units go straight to `out`; the others, and all if `out` is not aligned for its dtype,
  // through a buffer.
  Status decode(const BitmapChunk& chunk, uint64_t first, uint64_t count, std::byte* out) const {
    const bool aligned = reinterpret_cast<uintptr_t>(out) % width_ == 0;
    const CountOnesFn count_ones = kernel().count_ones;
    SparseUnits sparse{chunk.bitmap, 0, chunk.packed, 0};
    sparse.bitmap += first / kUnitValues * kUnitBitmapBytes;
    sparse.taken = count_ones(chunk.bitmap, static_cast<size_t>(sparse.bitmap - chunk.bitmap));
    while (count > 0) {
      const uint64_t skipped = first % kUnitValues;
      const bool direct = skipped == 0 && count >= kUnitValues && aligned;
      sparse.units = direct ? count / kUnitValues : 1;
      const uint64_t kept = count_ones(sparse.bitmap, sparse.units * kUnitBitmapBytes);
      if (sparse.taken + kept > chunk.kept) {
        return fail(Errc::kCorrupt, "a chunk's bitmap keeps more than {} values", chunk.kept);
      }
      uint64_t done = sparse.units * kUnitValues;
      if (direct) {
        decode_(table_, sparse, out, streaming_);
      } else {
        alignas(64) std::array<std::byte, kUnitValues * sizeof(float)> unit;
        decode_(table_, sparse, unit.data(), false);
        done = std::min(count, kUnitValues - skipped);
        std::memcpy(out, unit.data() + skipped * width_, done * width_);
      }
      sparse.taken += kept;
      sparse.bitmap += sparse.units * kUnitBitmapBytes;
      first += done;
      count -= done;
      out += done * width_;
    }
    return {};
  }

 private:
  const DecodeTable& table_;
  SparseFn decode_;
  size_t width_;
  bool streaming_;
};

// Decodes ranges of chunks of one block.
class Sparse4Decoder {
 public:
  Sparse4Decoder(const BlockHeader& header, DType as, bool streaming)
      : header_(header),
        table_(header.scale_base, codebook_of(header)),
        bitmaps_(table_, as, streaming),
        as_(as),
        streaming_(streaming) {}

  // Decodes the values [first, first + count) of a chunk of `values` values.
  Status decode(std::span<const std::byte> chunk, uint64_t values, uint64_t first, uint64_t count,
                std::byte* out) {
    ChunkMode mode{};
    if (chunk.size() >= sizeof mode) {
      std::memcpy(&mode, chunk.data(), sizeof mode);
      if (mode == ChunkMode::kZeros && chunk.size() == sizeof mode) {
        std::memset(out, 0, count * dtype_bytes(as_));
        return {};
      }
      if (mode == ChunkMode::kBitmap) {
        BALLAST_TRY(const BitmapChunk opened, open_chunk(chunk, values, header_.codec.group_size));
        return bitmaps_.decode(opened, first, count, out);
      }
      if (mode == ChunkMode::kEntropy) return decode_entropy(chunk, values, first, count, out);
    }
    return fail(Errc::kCorrupt, "a chunk of {} bytes has the unknown mode {}", chunk.size(),
                static_cast<uint32_t>(mode));
  }

 private:
  Status decode_entropy(std::span<const std::byte> chunk, uint64_t values, uint64_t first,
                        uint64_t count, std::byte* out) {
    EntropyHead head;
    if (chunk.size() >= sizeof head) std::memcpy(&head, chunk.data(), sizeof head);
    if (!(head.step >= kEc4StepMin) || !(head.step <= kEc4StepMax)) {
      return fail(Errc::kCorrupt, "a chunk of {} bytes has an impossible step", chunk.size());
    }
    const Ec4Parameters parameters{header_.source, false, head.step};
    chunk = chunk.subspan(sizeof head);
    if (count == values) return decode_ec4_chunk(parameters, chunk, values, as_, out, streaming_);
    const size_t width = dtype_bytes(as_);
    whole_.resize(values * width);
    BALLAST_TRY_STATUS(decode_ec4_chunk(parameters, chunk, values, as_, whole_.data(), false));
    std::memcpy(out, whole_.data() + first * width, count * width);
    return {};
  }

  const BlockHeader& header_;
  DecodeTable table_;
  BitmapDecoder bitmaps_;
  DType as_;
  bool streaming_;
  std::vector<std::byte> whole_;
};

class Sparse4Codec final : public BlockCodec {
 public:
  bool valid(const CodecSpec& spec) const override {
    const bool group = spec.group_size == 16 || spec.group_size == 32 || spec.group_size == 64;
    return group && spec == CodecSpec{spec.id, spec.group_size};
  }

  uint64_t values_per_block(CodecSpec spec, DType /*source*/) const override {
    constexpr uint64_t kChunk = limits::kChunkValues;
    const uint64_t half_full = bitmap_bytes(kChunk) + int4_chunk_bytes(spec.group_size, kChunk / 2);
    const uint64_t chunks = limits::kBlockBytesTarget / half_full;
    static_assert(limits::kBlockBytesTarget * 2 < limits::kBlockBytesMax,
                  "a chunk that keeps everything is less than twice as long");
    return chunks * kChunk;
  }

  bool learns() const override { return true; }

  Result<std::unique_ptr<TensorEncoder>> make_encoder(
      CodecSpec spec, DType source, std::span<const std::byte> sample) const override {
    const Compacted compacted = compact(sample, source);
    return std::make_unique<Sparse4Encoder>(
        spec, source,
        learn_codebook(std::as_bytes(std::span(compacted.kept)), DType::kF32, spec.group_size));
  }

  Status check(const BlockHeader& header, std::span<const std::byte> block) const override {
    if (!has_codebook(header)) return impossible_header(header);
    BALLAST_TRY([[maybe_unused]] const auto chunks, read_chunks(header, block));
    return {};
  }

  Status decode(const BlockHeader& header, std::span<const std::byte> block,
                const DecodeRequest& request) const override {
    if (!dtype_is_codable(request.as)) return cannot_read_as(header, request.as);
    BALLAST_TRY(const auto chunks, read_chunks(header, block));
    Sparse4Decoder decoder(header, request.as, request.out.size() >= kStreamingBytesMin);
    std::byte* out = request.out.data();
    return for_each_chunk(
        header.values, request.first, request.count,
        [&](uint64_t number, uint64_t values, uint64_t first, uint64_t count) -> Status {
          BALLAST_TRY_STATUS(decoder.decode(chunks[number], values, first, count, out));
          out += count * dtype_bytes(request.as);
          return {};
        });
  }
};

}  // namespace

const BlockCodec& sparse4_codec() {
  static const Sparse4Codec codec;
  return codec;
}

}  // namespace ballast::quant
