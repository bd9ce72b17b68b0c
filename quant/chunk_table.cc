#include "quant/chunk_table.h"

#include <cstring>

#include "proto/base/check.h"

namespace ballast::quant {
namespace {

using Length = uint32_t;

}  // namespace

MutableBytes write_chunks(const BlockHeader& header,
                          std::span<const std::vector<std::byte>> chunks) {
  BALLAST_CHECK(chunks.size() == chunks_for(header.values));
  size_t bytes = kBlockHeaderBytes + chunks.size() * sizeof(Length);
  for (const auto& chunk : chunks) bytes += chunk.size();
  BALLAST_CHECK(bytes <= limits::kBlockBytesMax, "a block of {} bytes", bytes);
  MutableBytes block(bytes);
  write_header(header, block.span().first<kBlockHeaderBytes>());
  std::byte* table = block.data() + kBlockHeaderBytes;
  std::byte* out = table + chunks.size() * sizeof(Length);
  for (const auto& chunk : chunks) {
    const auto length = static_cast<Length>(chunk.size());
    std::memcpy(table, &length, sizeof length);
    table += sizeof length;
    out = std::ranges::copy(chunk, out).out;
  }
  return block;
}

Result<std::vector<std::span<const std::byte>>> read_chunks(const BlockHeader& header,
                                                            std::span<const std::byte> block) {
  if (header.values > values_per_block(header.codec, header.source)) {
    return fail(Errc::kCorrupt, "a block has {} values, more than codec {} puts into one",
                header.values, codec_name(header.codec));
  }
  const uint64_t count = chunks_for(header.values);
  std::span<const std::byte> rest = block.subspan(kBlockHeaderBytes);
  if (rest.size() < count * sizeof(Length)) {
    return fail(Errc::kCorrupt, "a block of {} bytes can't have {} chunks", block.size(), count);
  }
  const std::byte* table = rest.data();
  rest = rest.subspan(count * sizeof(Length));
  std::vector<std::span<const std::byte>> chunks;
  for (uint64_t i = 0; i < count; ++i) {
    Length length = 0;
    std::memcpy(&length, table + i * sizeof length, sizeof length);
    if (length > rest.size()) {
      return fail(Errc::kCorrupt, "chunk {} of a block ends behind the block", i);
    }
    chunks.push_back(rest.first(length));
    rest = rest.subspan(length);
  }
  if (!rest.empty()) return fail(Errc::kCorrupt, "{} bytes follow a block's chunks", rest.size());
  return chunks;
}

Status decode_chunks(const BlockHeader& header, std::span<const std::byte> block,
                     const DecodeRequest& request, const DecodeChunkFn& decode) {
  BALLAST_TRY(const auto chunks, read_chunks(header, block));
  const size_t width = dtype_bytes(request.as);
  const bool streaming = request.out.size() >= kStreamingBytesMin;
  std::byte* out = request.out.data();
  std::vector<std::byte> whole;
  return for_each_chunk(
      header.values, request.first, request.count,
      [&](uint64_t chunk, uint64_t values, uint64_t first, uint64_t count) -> Status {
        if (count == values) {
          BALLAST_TRY_STATUS(decode(chunk, chunks[chunk], values, out, streaming));
        } else {
          whole.resize(values * width);
          BALLAST_TRY_STATUS(decode(chunk, chunks[chunk], values, whole.data(), false));
          std::memcpy(out, whole.data() + first * width, count * width);
        }
        out += count * width;
        return {};
      });
}

}  // namespace ballast::quant
