// ec4 and ec4t as codecs: the step of a block, and blocks of chunks.
#include <algorithm>
#include <optional>

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

constexpr uint64_t kChunksPerBlock = 16;
// The search looks at so many values at first, and for the trellis, whose tries are dear, at more
// then. Blocks of many chunks try some of them before all.
constexpr size_t kSample = 16 << 10;
constexpr size_t kTrellisSample = 128 << 10;
constexpr size_t kManyChunks = 8;
constexpr size_t kTriedFirst = 4;  // one chunk in so many

// In places of the steps' grid: a margin up to the first is good enough, and a change aims at the
// second.
constexpr double kMarginGood = 5;
constexpr int kMarginAim = 1;
constexpr int kFirstAim = 3;   // with some chunks, of which all may differ a little
constexpr int kGoodTries = 2;  // after which any margin is good enough
constexpr int kTriesMax = 24;  // few blocks need more than three
// A chunk with more outliers than one value in so many is no chunk for this step.
constexpr uint64_t kOutlierShareMax = 8;

// What rounding some chunks of a block with a step came to.
struct Attempt {
  ErrorSums error;
  double outlier_energy = 0;
  double bits = 0;
  uint64_t values = 0;
  bool too_many_outliers = false;

  void add(DType source, const Ec4Chunk& chunk) {
    error += chunk.error;
    outlier_energy += chunk.outlier_energy;
    bits += ec4_chunk_bits(source, chunk) + 8 * sizeof(uint32_t);
    values += chunk.values;
    too_many_outliers |= chunk.outliers.size() > 16 + chunk.values / kOutlierShareMax;
  }
  double margin(const Ec4Target& target) const {
    const double rounded = error.signal_energy - outlier_energy;
    return target.margin(bits / static_cast<double>(values),
                         rounded + std::min(rounded, outlier_energy), error.noise_energy);
  }
};

// Encodes one block.
class BlockEncoder {
 public:
  BlockEncoder(CodecSpec codec, DType source, std::span<const std::byte> values)
      : codec_(codec),
        source_(source),
        values_(values),
        count_(values.size() / dtype_bytes(source)),
        target_(target()),
        scales_(choose_ec4_scales(source, codec.group_size, values)),
        chunks_(chunks_for(count_)) {
    std::span<const uint8_t> scales = scales_;
    const size_t most = ec4_scale_bytes(codec.group_size, limits::kChunkValues);
    for (Ec4Chunk& chunk : chunks_) {
      chunk.scales = scales.first(std::min(most, scales.size()));
      scales = scales.subspan(chunk.scales.size());
    }
  }

  EncodedBlock run() {
    const Ec4Parameters parameters{
        .source = source_, .trellis = codec_.id == CodecId::kEc4t, .group = codec_.group_size};
    if (count_ == 0) return write(parameters, {});
    Ec4StepSearch search(parameters, target_, values_, kSample, scales_);
    int place = search.best();
    if (parameters.trellis) {
      search = Ec4StepSearch(parameters, target_, values_, kTrellisSample);
      place = search.best(place);
    }
    if (chunks_.size() >= kManyChunks)
      place = moved(place, round(search.at(place), kTriedFirst), kFirstAim);
    Ec4Parameters tried = search.at(place);
    for (int tries = 1; tries <= kTriesMax; ++tries) {
      const Attempt attempt = round(tried, 1);
      const bool taken = good(attempt, tries);
      if (taken) {
        EncodedBlock block = write(tried, attempt.error);
        if (within_target(block)) return block;
      }
      place = taken ? place + kMarginAim : next_place(place, attempt);
      const Ec4Parameters next = search.at(place);
      if (next.step == tried.step) break;
      tried = next;
    }
    return settle(search, place);
  }

 private:
  Ec4Target target() const {
    if (codec_.centidb != 0) return {0, codec_.centidb / 100.0};
    const double fallback = codec_.id == CodecId::kEc4t ? kDefaultTrellisBits : kDefaultBits;
    const double bits = codec_.millibits != 0 ? codec_.millibits / 1000.0 : fallback;
    const double overhead = ec4_overhead_bits(codec_.group_size, count_, 0) /
                            static_cast<double>(std::max<uint64_t>(count_, 1));
    return {std::max(bits, bits * kPayloadShareMin + overhead), 0};
  }

  // Rounds one chunk in `stride`.
  Attempt round(const Ec4Parameters& parameters, size_t stride) {
    const size_t chunk_bytes = limits::kChunkValues * dtype_bytes(source_);
    Attempt attempt;
    for (size_t i = 0; i < chunks_.size(); i += stride) {
      const auto rest = values_.subspan(i * chunk_bytes);
      quantize_ec4_chunk(parameters, rest.first(std::min(chunk_bytes, rest.size())), scratch_,
                         chunks_[i]);
      attempt.add(source_, chunks_[i]);
    }
    if (stride == 1) attempt.bits += 8 * kBlockHeaderBytes;
    return attempt;
  }

  bool meets(const Attempt& attempt) const {
    return !attempt.too_many_outliers && attempt.margin(target_) >= 0;
  }
  bool good(const Attempt& attempt, int tries) const {
    return meets(attempt) && (tries > kGoodTries || attempt.margin(target_) <= kMarginGood);
  }

  int moved(int place, const Attempt& attempt, int aim) const {
    if (attempt.too_many_outliers) return place + kEc4PlacesPerOctave;
    return target_.moved(place, attempt.margin(target_) - aim);
  }

  // Where to go on, between the places that are known to be too fine or too coarse.
  int next_place(int place, const Attempt& attempt) {
    const int next = moved(place, attempt, kMarginAim);
    if (next > place) {
      too_fine_ = std::max(too_fine_.value_or(place), place);
      // Far off, a step an octave at a time takes too long.
      if (attempt.too_many_outliers && !too_coarse_) return place + (stride_ *= 2);
    } else {
      too_coarse_ = std::min(too_coarse_.value_or(place), place);
    }
    if (!too_fine_ || !too_coarse_ || (next > *too_fine_ && next < *too_coarse_)) return next;
    return *too_fine_ + (*too_coarse_ - *too_fine_) / 2;
  }

  // For values whose bits or error leap with the step: towards what is safe, until the target is
  // met, or as well as it can be with few outliers.
  EncodedBlock settle(Ec4StepSearch& search, int place) {
    bool had_too_many = false;
    while (true) {
      const Ec4Parameters tried = search.at(place);
      const Attempt attempt = round(tried, 1);
      had_too_many |= attempt.too_many_outliers;
      const bool finer = target_.db > 0 && !attempt.too_many_outliers;
      const int next = place + (finer ? -kEc4PlacesPerOctave : kEc4PlacesPerOctave) / 4;
      const bool last = search.at(next).step == tried.step || (finer && had_too_many);
      if (meets(attempt) || last) {
        EncodedBlock block = write(tried, attempt.error);
        if (last || within_target(block)) return block;
      }
      place = next;
    }
  }

  // Bits were an estimate before it was written.
  bool within_target(const EncodedBlock& block) const {
    return target_.db > 0 || 8.0 * static_cast<double>(block.bytes.size()) <=
                                 target_.bits * static_cast<double>(count_);
  }

  EncodedBlock write(const Ec4Parameters& parameters, const ErrorSums& error) {
    std::vector<std::vector<std::byte>> chunks;
    chunks.reserve(chunks_.size());
    for (const Ec4Chunk& chunk : chunks_) {
      chunks.push_back(write_ec4_chunk(source_, chunk, scratch_));
    }
    const BlockHeader header{codec_, source_, count_, ScaleType::kStep, parameters.step, {}};
    return EncodedBlock{write_chunks(header, chunks), error};
  }

  CodecSpec codec_;
  DType source_;
  std::span<const std::byte> values_;
  uint64_t count_;
  Ec4Target target_;
  std::vector<uint8_t> scales_;
  std::vector<Ec4Chunk> chunks_;
  Ec4Scratch scratch_;
  std::optional<int> too_fine_;
  std::optional<int> too_coarse_;
  int stride_ = kEc4PlacesPerOctave;
};

class Ec4Encoder final : public TensorEncoder {
 public:
  Ec4Encoder(CodecSpec codec, DType source) : codec_(codec), source_(source) {}

  Result<EncodedBlock> encode(std::span<const std::byte> values) const override {
    BALLAST_CHECK(values.size() % dtype_bytes(source_) == 0);
    BALLAST_CHECK(values.size() / dtype_bytes(source_) <= values_per_block(codec_, source_));
    return BlockEncoder(codec_, source_, values).run();
  }

 private:
  CodecSpec codec_;
  DType source_;
};

class Ec4Codec final : public BlockCodec {
 public:
  bool valid(const CodecSpec& spec) const override {
    const bool bits = spec.millibits == 0 || (spec.millibits >= 1000 && spec.millibits <= 4900);
    const bool db = spec.centidb == 0 || (spec.centidb >= 500 && spec.centidb <= 2700);
    const bool groups =
        spec.id == CodecId::kEc4 && std::ranges::count(kEc4Groups, spec.group_size) > 0;
    return (groups || spec.group_size == 0) && bits && db &&
           (spec.millibits == 0 || spec.centidb == 0);
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
      return impossible_header(header);
    }
    BALLAST_TRY([[maybe_unused]] const auto chunks, read_chunks(header, block));
    return {};
  }

  Status decode(const BlockHeader& header, std::span<const std::byte> block,
                const DecodeRequest& request) const override {
    if (!dtype_is_codable(request.as)) return cannot_read_as(header, request.as);
    const Ec4Parameters parameters{.source = header.source,
                                   .trellis = header.codec.id == CodecId::kEc4t,
                                   .step = header.scale_base,
                                   .group = header.codec.group_size};
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
  static const Ec4Codec codec;
  return codec;
}

}  // namespace ballast::quant
