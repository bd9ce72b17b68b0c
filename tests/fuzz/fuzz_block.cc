// Any bytes as a block, read with every kernel: no crash, no read outside of the block, and the
// same answer from all. The input's own checksum chooses a range and a dtype, so the golden blocks
// are a corpus as they are.
#include <cstdlib>
#include <cstring>
#include <vector>

#include "proto/base/crc32c.h"
#include "quant/block_header.h"
#include "quant/codec.h"

namespace {

using namespace ballast;

// With a valid header checksum, since no fuzzer would find one.
std::vector<std::byte> seal(std::span<const std::byte> input) {
  // A copy of exactly this size lets the address sanitizer see every read behind its end.
  std::vector<std::byte> block(input.begin(), input.end());
  if (block.size() >= quant::kBlockHeaderBytes) {
    const uint32_t checksum = crc32c(std::span(block).first(quant::kBlockHeaderBytes - 4));
    std::memcpy(&block[quant::kBlockHeaderBytes - 4], &checksum, sizeof checksum);
  }
  return block;
}

void decode_with_every_kernel(std::span<const std::byte> block, uint64_t first, uint64_t count,
                              quant::DType as) {
  std::vector<std::byte> expected;
  for (const std::string_view kernel : quant::available_kernels()) {
    if (!quant::select_kernel(kernel)) std::abort();
    std::vector<std::byte> out(count * quant::dtype_bytes(as));
    if (!quant::decode_block(block, first, count, as, out)) out.clear();
    if (expected.empty()) expected = out;
    if (out != expected) std::abort();
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
  if ((info->values + 1) / 2 > block.size()) std::abort();
  decode_with_every_kernel(block, 0, info->values, *as);
  decode_with_every_kernel(block, info->values / 3, info->values / 2, quant::DType::kBF16);
  return 0;
}
