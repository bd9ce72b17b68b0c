// Any bytes as a block, read with every kernel: no crash, no read outside of the block, and the
// same answer from all. The input's own checksum chooses a range and a dtype, so the golden blocks
// are a corpus as they are.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "proto/base/crc32c.h"
#include "proto/base/digest.h"
#include "quant/block_header.h"
#include "quant/codec.h"

namespace {

using namespace ballast;

// A base for blocks that are differences: as many zeros as the header says that there are values.
std::vector<std::byte> base_of(std::span<const std::byte> block) {
  constexpr size_t kBytesMax = 1 << 20;
  uint64_t values = 0;
  std::memcpy(&values, &block[16], sizeof values);
  const auto source = quant::dtype_from_number(std::to_integer<uint32_t>(block[6]));
  const bool sensible = source && values < kBytesMax / 8;
  return std::vector<std::byte>(sensible ? values * quant::dtype_bytes(*source) : 0);
}

// With a valid header checksum and base, since no fuzzer would find one.
std::vector<std::byte> seal(std::span<const std::byte> input) {
  // A copy of exactly this size lets the address sanitizer see every read behind its end.
  std::vector<std::byte> block(input.begin(), input.end());
  if (block.size() >= quant::kBlockHeaderBytes) {
    if (block[5] == std::byte{9} && block[56] == std::byte{1}) {
      std::ranges::copy(sha256(base_of(block)).bytes, block.begin() + 24);
    }
    const uint32_t checksum = crc32c(std::span(block).first(quant::kBlockHeaderBytes - 4));
    std::memcpy(&block[quant::kBlockHeaderBytes - 4], &checksum, sizeof checksum);
  }
  return block;
}

void decode_with_every_kernel(std::span<const std::byte> block, uint64_t first, uint64_t count,
                              quant::DType as) {
  bool first_kernel = true;
  std::vector<std::byte> expected;
  const auto base =
      block.size() < quant::kBlockHeaderBytes ? std::vector<std::byte>() : base_of(block);
  for (const std::string_view kernel : quant::available_kernels()) {
    if (!quant::select_kernel(kernel)) std::abort();
    std::vector<std::byte> out(count * quant::dtype_bytes(as));
    if (!quant::decode_block(block, first, count, as, out, base)) out.clear();
    // One that refuses what another takes is as wrong as one that gives other values.
    if (!first_kernel && out != expected) std::abort();
    expected = out;
    first_kernel = false;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  (void)quant::inspect_block(input);
  const uint32_t choice = crc32c(input);
  const std::vector<std::byte> block = seal(input);
  const auto info = quant::inspect_block(block);
  const auto as = quant::dtype_from_number(1 + choice % 15);
  decode_with_every_kernel(block, choice >> 20, (choice >> 8) % 4096, *as);
  if (!info) return 0;
  // Chunks of one value over and over are short, so a few bytes may announce many values; but never
  // more than an encoder puts into a block.
  const bool bounded = info->values <= quant::values_per_block(info->codec, info->source) ||
                       info->values / 2 <= block.size();
  if (!bounded) std::abort();
  decode_with_every_kernel(block, 0, info->values, *as);
  decode_with_every_kernel(block, info->values / 3, info->values / 2, quant::DType::kBF16);
  return 0;
}
