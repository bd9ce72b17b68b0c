// Any bytes as a chunk of lossless, read with every kernel: no crash, no access outside of what was
// given, and the same answer from all. And any bytes as values: what was encoded comes back.
// The golden blocks are a corpus as they are: their headers are taken off.
#include <cstdlib>
#include <cstring>
#include <vector>

#include "proto/base/crc32c.h"
#include "quant/block_header.h"
#include "quant/kernels.h"
#include "quant/lossless.h"

namespace {

using namespace ballast;
using ByteVector = std::vector<std::byte>;

struct Case {
  quant::DType source = quant::DType::kF32;
  size_t values = 1;
  ByteVector chunk;
  bool has_base = false;
};

// From the header of a block with one chunk if the input begins like one, else by chance.
Case case_of(std::span<const std::byte> input) {
  const uint32_t choice = crc32c(input);
  Case result{
      quant::dtype_from_number(1 + choice % 3).value(), 1 + (choice >> 4) % 9000, {}, false};
  result.has_base = (choice & 4) != 0;
  constexpr size_t kHeader = quant::kBlockHeaderBytes + sizeof(uint32_t);
  if (input.size() > kHeader && input[0] == std::byte{'B'} && input[5] == std::byte{9}) {
    const auto source = quant::dtype_from_number(std::to_integer<uint32_t>(input[6]) % 4);
    uint16_t values = 0;
    std::memcpy(&values, &input[16], sizeof values);
    if (source) result.source = *source;
    if (values > 0) result.values = values;
    input = input.subspan(kHeader);
  }
  result.chunk.assign(input.begin(), input.end());
  return result;
}

// Nothing if it was refused. Buffers of exact size let the address sanitizer see every overrun.
ByteVector decode(const Case& test, std::span<const std::byte> chunk, const ByteVector& base) {
  ByteVector out(test.values * quant::dtype_bytes(test.source));
  quant::ValueSink sink(test.source, test.source, out.data(), false);
  if (!quant::decode_lossless_chunk(chunk, test.source, test.values, base, sink)) out.clear();
  return out;
}

void decode_with_every_kernel(const Case& test, const ByteVector& base) {
  bool first = true;
  ByteVector expected;
  for (const std::string_view kernel : quant::available_kernels()) {
    if (!quant::select_kernel(kernel)) std::abort();
    const ByteVector out = decode(test, test.chunk, base);
    if (!first && out != expected) std::abort();
    expected = out;
    first = false;
  }
}

// The chunk's bytes as values, against themselves with some bits flipped.
void round_trip(Case test) {
  const size_t width = quant::dtype_bytes(test.source);
  test.values = test.chunk.size() / width;
  if (test.values == 0) return;
  const ByteVector values(test.chunk.begin(), test.chunk.begin() + test.values * width);
  ByteVector base;
  if (test.has_base) {
    base = values;
    for (size_t i = 0; i < base.size(); i += 7) base[i] ^= base[i / 2] & std::byte{7};
  }
  ByteVector expected;
  for (const std::string_view kernel : quant::available_kernels()) {
    if (!quant::select_kernel(kernel)) std::abort();
    const ByteVector chunk = quant::encode_lossless_chunk({test.source, values, base});
    if (!expected.empty() && chunk != expected) std::abort();
    if (decode(test, chunk, base) != values) std::abort();
    expected = chunk;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Case test = case_of(std::as_bytes(std::span(data, size)));
  ByteVector base;
  if (test.has_base) base.resize(test.values * quant::dtype_bytes(test.source), std::byte{0x3f});
  decode_with_every_kernel(test, base);
  round_trip(test);
  return 0;
}
