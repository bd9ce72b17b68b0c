// Any bits as the values of a tensor, encoded by a codec with every kernel: the same bytes and the
// same report from all, and they can be decoded. The input's own checksum chooses codec, dtype and
// length; blocks of many values are the input over and over.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <vector>

#include "proto/base/crc32c.h"
#include "quant/codec.h"

namespace {

using namespace ballast;

constexpr std::string_view kCodecs[] = {
    "int4:group=16", "int4",    "int4:group=64", "int8",     "ec4", "ec4:bits=2.5", "ec4:db=26",
    "ec4t",          "sparse4", "ec4t:db=10",    "lossless", "f16", "bf16",
};
constexpr quant::DType kSources[] = {quant::DType::kF32, quant::DType::kF16, quant::DType::kBF16};
constexpr size_t kFewValues = 5000;
constexpr size_t kValuesMax = 3 << 16;  // more than one chunk

std::vector<std::byte> repeated(std::span<const std::byte> input, size_t bytes) {
  std::vector<std::byte> values(bytes);
  for (size_t at = 0; at < bytes; at += input.size()) {
    std::ranges::copy(input.first(std::min(input.size(), bytes - at)),
                      values.begin() + static_cast<std::ptrdiff_t>(at));
  }
  return values;
}

quant::EncodedBlock encode(quant::CodecSpec codec, quant::DType source,
                           std::span<const std::byte> values) {
  const auto sample = values.first(std::min<size_t>(values.size(), quant::kSampleValuesMax));
  const auto encoder = quant::TensorEncoder::create(codec, source, sample);
  if (!encoder) std::abort();
  auto block = (*encoder)->encode(values);
  if (!block) std::abort();
  return *std::move(block);
}

// An infinite error is one, too.
bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

bool same(quant::EncodedBlock& a, quant::EncodedBlock& b) {
  return std::ranges::equal(a.bytes.span(), b.bytes.span()) &&
         same(a.error.signal_energy, b.error.signal_energy) &&
         same(a.error.decoded_energy, b.error.decoded_energy) &&
         same(a.error.noise_energy, b.error.noise_energy) &&
         same(a.error.max_abs_error, b.error.max_abs_error);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  if (input.empty()) return 0;
  const uint32_t choice = crc32c(input);
  const quant::DType source = kSources[choice % std::size(kSources)];
  const auto codec = quant::parse_codec(kCodecs[(choice >> 8) % std::size(kCodecs)]);
  if (!codec) std::abort();
  const size_t width = quant::dtype_bytes(source);
  // Long blocks take long with the scalar kernel.
  const size_t most = (choice >> 16) % 64 == 0 ? kValuesMax : kFewValues;
  const size_t count = std::min(most, (input.size() << ((choice >> 24) % 8)) / width);
  const std::vector<std::byte> values = repeated(input, count * width);

  std::optional<quant::EncodedBlock> expected;
  for (const std::string_view kernel : quant::available_kernels()) {
    if (!quant::select_kernel(kernel)) std::abort();
    quant::EncodedBlock block = encode(*codec, source, values);
    if (!expected)
      expected = std::move(block);
    else if (!same(block, *expected))
      std::abort();
  }
  std::vector<std::byte> decoded(count * sizeof(float));
  const auto whole =
      quant::decode_block(expected->bytes.span(), 0, count, quant::DType::kF32, decoded);
  if (!whole) std::abort();
  return 0;
}
