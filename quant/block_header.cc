#include "quant/block_header.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "proto/base/crc32c.h"

namespace ballast::quant {
namespace {

constexpr std::array<uint8_t, 4> kMagic{'B', 'L', 'S', 'T'};
constexpr uint8_t kVersion = 1;
constexpr uint8_t kLogScale = 1;

// The fields lie in the order and with the sizes of the format, so the header is its own image.
struct Image {
  std::array<uint8_t, 4> magic = kMagic;
  uint8_t version = kVersion;
  uint8_t codec = 0;
  uint8_t source = 0;
  uint8_t scale_type = 0;
  uint32_t group_size = 0;
  float scale_base = 0;
  uint64_t values = 0;
  Codebook codebook{};
  std::array<uint8_t, 20> reserved{};
  uint32_t checksum = 0;
};
static_assert(sizeof(Image) == kBlockHeaderBytes && offsetof(Image, checksum) == 60);
static_assert(std::endian::native == std::endian::little);

uint32_t checksum_of(std::span<const std::byte> header) {
  return crc32c(header.first(offsetof(Image, checksum)));
}

bool scale_fits_codec(const Image& image) {
  if (image.codec == static_cast<uint8_t>(CodecId::kInt4)) {
    return image.scale_type == kLogScale && image.scale_base >= kScaleBaseMin &&
           image.scale_base <= kScaleBaseMax &&
           std::ranges::find(image.codebook, INT8_MIN) == image.codebook.end();
  }
  return image.scale_type == 0 && std::bit_cast<uint32_t>(image.scale_base) == 0 &&
         image.codebook == Codebook{};
}

}  // namespace

void write_header(const BlockHeader& header, std::span<std::byte, kBlockHeaderBytes> out) {
  Image image;
  image.codec = static_cast<uint8_t>(header.codec.id);
  image.source = static_cast<uint8_t>(header.source);
  image.scale_type = header.codec.id == CodecId::kInt4 ? kLogScale : uint8_t{0};
  image.group_size = header.codec.group_size;
  image.scale_base = header.scale_base;
  image.values = header.values;
  image.codebook = header.codebook;
  image.checksum = checksum_of(std::as_bytes(std::span(&image, 1)));
  std::memcpy(out.data(), &image, sizeof image);
}

Result<BlockHeader> read_header(std::span<const std::byte> block) {
  if (block.size() < kBlockHeaderBytes) {
    return fail(Errc::kCorrupt, "a block of {} bytes has no header", block.size());
  }
  Image image;
  std::memcpy(&image, block.data(), sizeof image);
  if (image.magic != kMagic) return fail(Errc::kCorrupt, "these bytes are not a block");
  if (image.checksum != checksum_of(block)) {
    return fail(Errc::kCorrupt, "the block header does not match its checksum");
  }
  if (image.version != kVersion) {
    return fail(Errc::kCorrupt, "block format version {} is not known; a newer release wrote it",
                image.version);
  }
  BALLAST_TRY(const CodecSpec codec, codec_from_numbers(image.codec, image.group_size));
  BALLAST_TRY(const DType source, dtype_from_number(image.source));
  if (codec.id != CodecId::kRaw && !dtype_is_codable(source)) {
    return fail(Errc::kCorrupt, "a block says that codec {} encodes {}", codec_name(codec),
                dtype_name(source));
  }
  if (!scale_fits_codec(image) || image.reserved != decltype(image.reserved){}) {
    return fail(Errc::kCorrupt, "the block header has impossible values for codec {}",
                codec_name(codec));
  }
  // Every codec spends more than half a byte on a value: this keeps the product from overflowing.
  if (image.values / 2 > block.size() || block_bytes(codec, source, image.values) != block.size()) {
    return fail(Errc::kCorrupt, "a block of {} bytes can't be {} values in codec {}", block.size(),
                image.values, codec_name(codec));
  }
  return BlockHeader{codec, source, image.values, image.scale_base, image.codebook};
}

DType stored_dtype(CodecSpec codec, DType source) {
  switch (codec.id) {
    case CodecId::kF32: return DType::kF32;
    case CodecId::kF16: return DType::kF16;
    case CodecId::kBF16: return DType::kBF16;
    case CodecId::kRaw:
    case CodecId::kInt4: return source;
  }
  return source;
}

uint64_t chunk_bytes(CodecSpec codec, DType source, uint64_t values) {
  if (codec.id != CodecId::kInt4) return values * dtype_bytes(stored_dtype(codec, source));
  return units_for(values) * (kUnitValues / codec.group_size + kUnitCodeBytes);
}

uint64_t block_bytes(CodecSpec codec, DType source, uint64_t values) {
  return kBlockHeaderBytes +
         values / limits::kChunkValues * chunk_bytes(codec, source, limits::kChunkValues) +
         chunk_bytes(codec, source, values % limits::kChunkValues);
}

}  // namespace ballast::quant
