// Values and short ways to call the codecs, for the tests of quant/.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numbers>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quant/block_header.h"
#include "quant/codec.h"
#include "quant/float_convert.h"
#include "quant/kernels.h"

namespace ballast::quant {

using ByteVector = std::vector<std::byte>;

// splitmix64: the same numbers everywhere, unlike the distributions of the standard library.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t bits() {
    state_ += 0x9e3779b97f4a7c15;
    uint64_t mixed = (state_ ^ (state_ >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    return mixed ^ (mixed >> 31);
  }
  uint64_t below(uint64_t end) { return bits() % end; }
  // In (0, 1)
  double uniform() { return (static_cast<double>(bits() >> 12) + 0.5) * 0x1p-52; }
  double normal() {
    const double radius = std::sqrt(-2 * std::log(uniform()));
    return radius * std::cos(2 * std::numbers::pi * uniform());
  }
  // Student's t with 4 degrees of freedom.
  double student4() {
    const double chi_squared = -2 * std::log(uniform() * uniform());
    return normal() / std::sqrt(chi_squared / 4);
  }

 private:
  uint64_t state_;
};

inline std::vector<float> normal_values(size_t count, uint64_t seed = 1) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.normal());
  return values;
}

// Each value with this probability, else 0.
inline std::vector<float> sparse_values(size_t count, double density, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) {
    if (random.uniform() < density) value = static_cast<float>(random.normal());
  }
  return values;
}

// Any bits: NaN, infinite, denormal and huge values among them.
inline ByteVector random_bytes(size_t count, uint64_t seed) {
  Random random(seed);
  ByteVector bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.bits() & 255);
  return bytes;
}

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

inline CodecSpec codec(std::string_view name) { return parse_codec(name).value(); }

inline EncodedBlock encode(CodecSpec spec, DType source, std::span<const std::byte> values) {
  return TensorEncoder::create(spec, source, values).value()->encode(values).value();
}
inline ByteVector encode_bytes(CodecSpec spec, DType source, std::span<const std::byte> values) {
  EncodedBlock block = encode(spec, source, values);
  return {block.bytes.span().begin(), block.bytes.span().end()};
}
inline ByteVector encode_floats(std::string_view name, const std::vector<float>& values) {
  return encode_bytes(codec(name), DType::kF32, bytes_of(values));
}

inline ByteVector decode_range(std::span<const std::byte> block, uint64_t first, uint64_t count,
                               DType as) {
  ByteVector out(count * dtype_bytes(as));
  const Status status = decode_block(block, first, count, as, out);
  EXPECT_TRUE(status.has_value()) << status.error().to_string();
  return out;
}
inline ByteVector decode_bytes(std::span<const std::byte> block, DType as) {
  return decode_range(block, 0, inspect_block(block).value().values, as);
}
template <class T>
std::vector<T> vector_of(const ByteVector& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::ranges::copy(bytes, std::as_writable_bytes(std::span(values)).begin());
  return values;
}
inline std::vector<float> decode_floats(std::span<const std::byte> block) {
  return vector_of<float>(decode_bytes(block, DType::kF32));
}

// Runs the rest of a scope with one kernel.
class WithKernel {
 public:
  explicit WithKernel(std::string_view name) : before_(selected_kernel()) {
    EXPECT_TRUE(select_kernel(name).has_value());
  }
  ~WithKernel() { EXPECT_TRUE(select_kernel(before_).has_value()); }
  WithKernel(const WithKernel&) = delete;
  WithKernel& operator=(const WithKernel&) = delete;

 private:
  std::string_view before_;
};

}  // namespace ballast::quant
