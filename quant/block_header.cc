#include "quant/block_header.h"

#include <bit>
#include <cstring>

#include "proto/base/crc32c.h"
#include "quant/block_codec.h"

namespace ballast::quant {
namespace {

constexpr std::array<uint8_t, 4> kMagic{'B', 'L', 'S', 'T'};
constexpr uint8_t kVersion = 1;

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
  std::array<std::byte, kHeaderParameterBytes> parameters{};
  uint32_t checksum = 0;
};
static_assert(sizeof(Image) == kBlockHeaderBytes && offsetof(Image, checksum) == 60);
static_assert(std::endian::native == std::endian::little);

uint32_t checksum_of(std::span<const std::byte> header) {
  return crc32c(header.first(offsetof(Image, checksum)));
}

}  // namespace

void write_header(const BlockHeader& header, std::span<std::byte, kBlockHeaderBytes> out) {
  Image image;
  image.codec = static_cast<uint8_t>(header.codec.id);
  image.source = static_cast<uint8_t>(header.source);
  image.scale_type = static_cast<uint8_t>(header.scale_type);
  image.group_size = header.codec.group_size;
  image.scale_base = header.scale_base;
  image.values = header.values;
  image.parameters = header.parameters;
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
  const BlockHeader header{codec,
                           source,
                           image.values,
                           static_cast<ScaleType>(image.scale_type),
                           image.scale_base,
                           image.parameters};
  BALLAST_TRY_STATUS(codec_of(codec.id).check(header, block));
  return header;
}

}  // namespace ballast::quant
