#include <bit>
#include <cstring>

#include "tests/unit/quant/helpers.h"

namespace ballast::quant {
namespace {

std::vector<uint16_t> all_halves() {
  std::vector<uint16_t> halves(65536);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  return halves;
}

// By arithmetic in double instead of by bits.
double half_value(uint16_t half) {
  const int exponent = (half >> 10) & 31;
  const int fraction = half & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

class FloatCodecs : public testing::TestWithParam<std::string_view> {
 protected:
  WithKernel kernel_{GetParam()};
};

TEST_P(FloatCodecs, same_dtype_keeps_every_bit) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const size_t count : {0, 1, 15, 1023, 4097}) {
      const ByteVector values = random_bytes(count * dtype_bytes(dtype), count);
      for (const CodecSpec spec : {exact_codec(dtype), codec("raw")}) {
        const ByteVector block = encode_bytes(spec, dtype, values);
        EXPECT_EQ(block.size(), kBlockHeaderBytes + values.size());
        EXPECT_EQ(decode_bytes(block, dtype), values);
        EXPECT_EQ(encode(spec, dtype, values).error.noise_energy, 0);
      }
    }
  }
}

TEST_P(FloatCodecs, all_halves_keep_every_bit) {
  const std::vector<uint16_t> halves = all_halves();
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    const ByteVector block = encode_bytes(exact_codec(dtype), dtype, bytes_of(halves));
    EXPECT_EQ(vector_of<uint16_t>(decode_bytes(block, dtype)), halves);
  }
}

TEST_P(FloatCodecs, every_f16_becomes_its_f32_and_returns) {
  const std::vector<uint16_t> halves = all_halves();
  const ByteVector block = encode_bytes(codec("f32"), DType::kF16, bytes_of(halves));
  const std::vector<float> floats = decode_floats(block);
  const auto back = vector_of<uint16_t>(decode_bytes(block, DType::kF16));
  for (size_t i = 0; i < halves.size(); ++i) {
    const bool special = (halves[i] & 0x7c00) == 0x7c00;
    const bool nan = special && (halves[i] & 0x3ff) != 0;
    EXPECT_EQ(std::isnan(floats[i]), nan);
    EXPECT_EQ(std::isinf(floats[i]), special && !nan);
    EXPECT_EQ(std::signbit(floats[i]), (halves[i] & 0x8000) != 0);
    if (!special) EXPECT_EQ(floats[i], half_value(halves[i]));
    EXPECT_EQ(back[i], nan ? halves[i] | 0x200 : halves[i]);
  }
}

TEST_P(FloatCodecs, every_bf16_becomes_its_f32_and_returns) {
  const std::vector<uint16_t> halves = all_halves();
  const ByteVector block = encode_bytes(codec("f32"), DType::kBF16, bytes_of(halves));
  const auto floats = vector_of<uint32_t>(decode_bytes(block, DType::kF32));
  const auto back = vector_of<uint16_t>(decode_bytes(block, DType::kBF16));
  for (size_t i = 0; i < halves.size(); ++i) {
    const bool nan = (halves[i] & 0x7fff) > 0x7f80;
    EXPECT_EQ(floats[i], uint32_t{halves[i]} << 16);
    EXPECT_EQ(back[i], nan ? halves[i] | 0x40 : halves[i]);
  }
}

// Between neighbours a < b: just below, at and just above the middle of each pair.
TEST_P(FloatCodecs, f16_rounds_to_nearest_even) {
  std::vector<float> values;
  std::vector<uint16_t> expected;
  for (uint16_t half = 0; half < 0x7c00; ++half) {
    const double next = half == 0x7bff ? 65536 : half_value(static_cast<uint16_t>(half + 1));
    const auto middle = static_cast<float>((half_value(half) + next) / 2);
    const auto upper = static_cast<uint16_t>(half + 1);
    for (const int sign : {0, 0x8000}) {
      const float signed_middle = sign != 0 ? -middle : middle;
      values.insert(values.end(), {std::nextafter(signed_middle, 0.0f), signed_middle,
                                   std::nextafter(signed_middle, signed_middle * 2)});
      const uint16_t even = half % 2 == 0 ? half : upper;
      for (const uint16_t bits : {half, even, upper}) {
        expected.push_back(static_cast<uint16_t>(bits | sign));
      }
    }
  }
  const ByteVector block = encode_floats("f16", values);
  EXPECT_EQ(vector_of<uint16_t>(decode_bytes(block, DType::kF16)), expected);
  EXPECT_EQ(decode_bytes(encode_floats("f32", values), DType::kF16),
            decode_bytes(block, DType::kF16));
}

TEST_P(FloatCodecs, bf16_rounds_to_nearest_even) {
  std::vector<float> values;
  std::vector<uint16_t> expected;
  for (uint32_t upper = 0; upper < 0x7f80; upper += 7) {
    for (const uint32_t lower : {0x0000U, 0x7fffU, 0x8000U, 0x8001U, 0xffffU}) {
      values.push_back(std::bit_cast<float>(upper << 16 | lower));
      const bool up = lower > 0x8000 || (lower == 0x8000 && upper % 2 == 1);
      expected.push_back(static_cast<uint16_t>(upper + (up ? 1 : 0)));
    }
  }
  const ByteVector block = encode_floats("bf16", values);
  EXPECT_EQ(vector_of<uint16_t>(decode_bytes(block, DType::kBF16)), expected);
}

TEST_P(FloatCodecs, nan_stays_nan_and_keeps_its_sign) {
  const std::vector<uint32_t> patterns{0x7f800001, 0xff800001, 0x7fffffff, 0xffc12345, 0x7fa00000};
  for (const DType as : {DType::kF16, DType::kBF16}) {
    const ByteVector block = encode_bytes(exact_codec(as), DType::kF32, bytes_of(patterns));
    const std::vector<float> values = decode_floats(block);
    for (size_t i = 0; i < patterns.size(); ++i) {
      EXPECT_TRUE(std::isnan(values[i]));
      EXPECT_EQ(std::signbit(values[i]), patterns[i] >> 31 == 1);
    }
  }
}

TEST_P(FloatCodecs, error_counts_what_conversion_loses) {
  const std::vector<float> values = normal_values(5000);
  const EncodedBlock block = encode(codec("bf16"), DType::kF32, bytes_of(values));
  const ByteVector bytes = encode_floats("bf16", values);
  const std::vector<float> decoded = decode_floats(bytes);
  ErrorSums expected;
  for (size_t i = 0; i < values.size(); ++i) {
    const double error = std::abs(double{values[i]} - decoded[i]);
    expected +=
        {double{values[i]} * values[i], double{decoded[i]} * decoded[i], error * error, error};
  }
  EXPECT_NEAR(block.error.signal_energy, expected.signal_energy, expected.signal_energy * 1e-12);
  EXPECT_NEAR(block.error.decoded_energy, expected.decoded_energy, expected.decoded_energy * 1e-12);
  EXPECT_NEAR(block.error.noise_energy, expected.noise_energy, expected.noise_energy * 1e-12);
  EXPECT_EQ(block.error.max_abs_error, expected.max_abs_error);
}

TEST_P(FloatCodecs, error_leaves_out_what_was_not_finite) {
  const std::vector<float> values{1, NAN, INFINITY, -INFINITY, 2};
  for (const char* name : {"raw", "f32", "f16", "bf16"}) {
    const EncodedBlock block = encode(codec(name), DType::kF32, bytes_of(values));
    EXPECT_EQ(block.error.signal_energy, 5) << name;
    EXPECT_EQ(block.error.decoded_energy, 5) << name;
    EXPECT_EQ(block.error.noise_energy, 0) << name;
  }
  const std::vector<float> large{70000};
  EXPECT_EQ(encode(codec("f16"), DType::kF32, bytes_of(large)).error.noise_energy, INFINITY);
}

TEST(RawCodec, keeps_dtypes_that_no_codec_knows) {
  for (const DType dtype : {DType::kF64, DType::kI64, DType::kI16, DType::kBool, DType::kF8E4M3}) {
    const ByteVector values = random_bytes(100 * dtype_bytes(dtype), 5);
    const ByteVector block = encode_bytes(codec("raw"), dtype, values);
    EXPECT_EQ(decode_bytes(block, dtype), values);
    ByteVector out(100 * sizeof(float));
    EXPECT_EQ(decode_block(block, 0, 100, DType::kF32, out).error().code, Errc::kInvalidArgument);
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, FloatCodecs, testing::ValuesIn(available_kernels()),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace ballast::quant
