// ec4 and ec4t as codecs: the step of a block, and blocks of chunks.
#include <algorithm>
#include <cmath>

#include "proto/base/check.h"
#include "quant/chunk_table.h"
#include "quant/ec4.h"
#include "quant/rans.h"

namespace ballast::quant {
namespace {

// What is aimed at without a parameter: less than GGUF's Q4_0 loses, in at most 4 bits, or 3.8.
constexpr double kDefaultBits = 3.99;
constexpr double kDefaultTrellisBits = 3.799;
// A block whose header and tables take up the target gets this share of it for its values anyway.
constexpr double kPayloadShareMin = 0.85;
constexpr int kTriesMax = 8;
// An error that is smaller than asked for by this much wastes bits: the step is chosen once more.
constexpr double kSurplusDecibels = 0.2;
constexpr double kSurplusBits = 0.012;  // likewise, of a size below the target
// Places for what a try missed: a bit is an octave, as are 6.02 dB.
constexpr double kPlacesPerBit = kEc4PlacesPerOctave;
constexpr double kPlacesPerDecibel = kEc4PlacesPerOctave / 6.02;
// A chunk with more outliers than this is no chunk for this step.
constexpr uint64_t kOutlierShareMax = 8;
constexpr int kCoarser = kEc4PlacesPerOctave;

constexpr uint64_t kChunksPerBlock = 16;

// As error_report() says it, but with the same bits everywhere, since steps follow from it.
double decibels(const ErrorSums& error) {
  if (error.noise_energy == 0 || error.signal_energy == 0) return 0;
  return 3.0102999566398120 * portable_log2(error.signal_energy / error.noise_energy);
}

struct Attempt {
  std::vector<std::vector<std::byte>> chunks;
  ErrorSums error;
  size_t bytes = 0;
  bool too_many_outliers = false;
};

class Ec4Encoder final : public TensorEncoder {
 public:
  Ec4Encoder(CodecSpec codec, DType source) : codec_(codec), source_(source) {}

  Result<EncodedBlock> encode(std::span<const std::byte> values) const override {
    const size_t width = dtype_bytes(source_);
    BALLAST_CHECK(values.size() % width == 0);
    const uint64_t count = values.size() / width;
    BALLAST_CHECK(count <= values_per_block(codec_, source_));
    Ec4Parameters parameters{source_, codec_.id == CodecId::kEc4t, 1};
    const Ec4Target target = target_for(count);
    int place = count == 0 ? 0 : choose_ec4_step(parameters, target, values);
    Attempt attempt;
    Ec4Scratch scratch;
    for (int tries = 1;; ++tries) {
      parameters.step = ec4_step(parameters, place);
      attempt = try_step(parameters, values, scratch);
      const int change = correction(attempt, target, count, tries);
      if (change == 0 || ec4_step(parameters, place + change) == parameters.step) break;
      place += change;
    }
    const BlockHeader header{codec_, source_, count, ScaleType::kStep, parameters.step, {}};
    return EncodedBlock{write_chunks(header, attempt.chunks), attempt.error};
  }

 private:
  Ec4Target target_for(uint64_t count) const {
    Ec4Target target;
    if (codec_.centidb != 0) {
      target.db = codec_.centidb / 100.0;
      return target;
    }
    const double fallback = codec_.id == CodecId::kEc4t ? kDefaultTrellisBits : kDefaultBits;
    target.bits = codec_.millibits != 0 ? codec_.millibits / 1000.0 : fallback;
    size_t overhead = kBlockHeaderBytes;
    for (uint64_t at = 0; at < count; at += limits::kChunkValues) {
      const size_t lanes = rans_lanes(std::min(limits::kChunkValues, count - at));
      overhead += sizeof(uint32_t) + 8 + kRansFrequencyBytes + lanes * sizeof(uint32_t);
    }
    target.overhead_bits =
        8.0 * static_cast<double>(overhead) / static_cast<double>(std::max<uint64_t>(count, 1));
    target.bits = std::max(target.bits, target.bits * kPayloadShareMin + target.overhead_bits);
    return target;
  }

  static Attempt try_step(const Ec4Parameters& parameters, std::span<const std::byte> values,
                          Ec4Scratch& scratch) {
    Attempt attempt;
    const size_t chunk_bytes = limits::kChunkValues * dtype_bytes(parameters.source);
    attempt.bytes = kBlockHeaderBytes;
    for (size_t at = 0; at < values.size(); at += chunk_bytes) {
      const auto part = values.subspan(at, std::min(chunk_bytes, values.size() - at));
      EncodedEc4Chunk chunk = encode_ec4_chunk(parameters, part, scratch);
      attempt.error += chunk.error;
      attempt.bytes += chunk.bytes.size() + sizeof(uint32_t);
      const uint64_t count = part.size() / dtype_bytes(parameters.source);
      attempt.too_many_outliers |= chunk.outliers > 16 + count / kOutlierShareMax;
      attempt.chunks.push_back(std::move(chunk.bytes));
    }
    return attempt;
  }

  // By how many places the step must change; 0 if the attempt is good, or as good as it gets.
  static int correction(const Attempt& attempt, const Ec4Target& target, uint64_t count,
                        int tries) {
    if (count == 0) return 0;
    if (attempt.too_many_outliers) return kCoarser;
    if (tries >= kTriesMax || attempt.error.decoded_energy == 0) return 0;
    if (target.db > 0) {
      const double surplus = decibels(attempt.error) - target.db;
      if (surplus < 0) return -1 - static_cast<int>(-surplus * kPlacesPerDecibel);
      if (tries > 1 || surplus < kSurplusDecibels || attempt.error.noise_energy == 0) return 0;
      return static_cast<int>((surplus - kSurplusDecibels / 2) * kPlacesPerDecibel);
    }
    const double bits = 8.0 * static_cast<double>(attempt.bytes) / static_cast<double>(count);
    const double excess = bits - target.bits;
    if (excess > 0) return 1 + static_cast<int>(excess * kPlacesPerBit);
    if (tries > 1 || -excess < kSurplusBits) return 0;
    return static_cast<int>((excess + kSurplusBits / 2) * kPlacesPerBit);
  }

  CodecSpec codec_;
  DType source_;
};

class Ec4Codec final : public BlockCodec {
 public:
  bool valid(const CodecSpec& spec) const override {
    const bool bits = spec.millibits == 0 || (spec.millibits >= 1000 && spec.millibits <= 4900);
    const bool db = spec.centidb == 0 || (spec.centidb >= 500 && spec.centidb <= 2700);
    return spec.group_size == 0 && bits && db && (spec.millibits == 0 || spec.centidb == 0);
  }

  uint64_t values_per_block(CodecSpec /*spec*/, DType /*source*/) const override {
    return kChunksPerBlock * limits::kChunkValues;
  }

  Result<std::unique_ptr<TensorEncoder>> make_encoder(
      CodecSpec spec, DType source, std::span<const std::byte> /*sample*/) const override {
    return std::make_unique<Ec4Encoder>(spec, source);
  }

  Status check(const BlockHeader& header, std::span<const std::byte> block) const override {
    if (header.scale_type != ScaleType::kStep || !(header.scale_base >= kEc4StepMin) ||
        !(header.scale_base <= (header.codec.id == CodecId::kEc4t ? kEc4tStepMax : kEc4StepMax)) ||
        header.parameters != decltype(header.parameters){}) {
      return fail(Errc::kCorrupt, "the block header has impossible values for codec {}",
                  codec_name(header.codec));
    }
    BALLAST_TRY([[maybe_unused]] const auto chunks, read_chunks(header, block));
    return {};
  }

  Status decode(const BlockHeader& header, std::span<const std::byte> block,
                const DecodeRequest& request) const override {
    if (!dtype_is_codable(request.as)) return cannot_read_as(header, request.as);
    const Ec4Parameters parameters{header.source, header.codec.id == CodecId::kEc4t,
                                   header.scale_base};
    return decode_chunks(header, block, request,
                         [&](uint64_t /*chunk*/, std::span<const std::byte> bytes, uint64_t values,
                             std::byte* out, bool streaming) {
                           return decode_ec4_chunk(parameters, bytes, values, request.as, out,
                                                   streaming);
                         });
  }
};

}  // namespace

const BlockCodec& ec4_codec() {
  static const Ec4Codec kCodec;
  return kCodec;
}

}  // namespace ballast::quant
