#include <cfloat>

#include "proto/base/limits.h"
#include "tests/unit/quant/helpers.h"

namespace ballast::quant {
namespace {

double sqnr_db(const std::vector<float>& values, const std::vector<float>& decoded) {
  double signal = 0;
  double noise = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double error = double{values[i]} - decoded[i];
    signal += double{values[i]} * values[i];
    noise += error * error;
  }
  return 10 * std::log10(signal / noise);
}

std::vector<float> round_trip(const std::vector<float>& values) {
  return decode_floats(encode_floats("int8", values));
}

TEST(Int8, quality) {
  const std::vector<float> normal = normal_values(200'000);
  Random random(2);
  std::vector<float> heavy(200'000);
  for (float& value : heavy) value = static_cast<float>(random.student4());
  EXPECT_GE(sqnr_db(normal, round_trip(normal)), 45);
  EXPECT_GE(sqnr_db(heavy, round_trip(heavy)), 42);
}

TEST(Int8, quality_does_not_depend_on_magnitude) {
  const std::vector<float> values = normal_values(20'000);
  const double reference = sqnr_db(values, round_trip(values));
  for (const float factor : {0x1p-100f, 0x1p-30f, 0x1p100f}) {
    std::vector<float> scaled = values;
    for (float& value : scaled) value *= factor;
    EXPECT_NEAR(sqnr_db(scaled, round_trip(scaled)), reference, 1e-6) << factor;
  }
}

TEST(Int8, the_measured_error_is_the_real_one) {
  for (const float factor : {1.0f, 0x1p-40f}) {
    std::vector<float> values = normal_values(200'001);
    for (float& value : values) value *= factor;
    const ErrorReport report =
        error_report(encode(codec("int8"), DType::kF32, bytes_of(values)).error);
    const std::vector<float> decoded = round_trip(values);
    double largest = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      largest = std::max(largest, std::abs(double{values[i]} - decoded[i]));
    }
    EXPECT_NEAR(report.sqnr_db, sqnr_db(values, decoded), 0.001);
    EXPECT_NEAR(report.max_abs / largest, 1, 1e-4);
    EXPECT_GT(report.cosine, 0.9999);
  }
}

TEST(Int8, costs_eight_and_a_quarter_bits) {
  const auto payload = [](uint64_t values) {
    return encode_floats("int8", std::vector<float>(values, 1)).size() - kBlockHeaderBytes;
  };
  EXPECT_EQ(payload(0), 0U);
  EXPECT_EQ(payload(1), 33U);
  EXPECT_EQ(payload(limits::kChunkValues), limits::kChunkValues * 33 / 32);
  EXPECT_EQ(payload(3 * limits::kChunkValues + 33), 3 * limits::kChunkValues * 33 / 32 + 66);
}

// A group that lies 15 octaves below the block's largest value still has codes of its own.
TEST(Int8, scales_reach_fifteen_octaves_down) {
  for (const float small : {1.0f, 0x1p-7f, 0x1p-15f}) {
    std::vector<float> values(64, small);
    values[0] = 1;
    for (size_t i = 32; i < 64; ++i) values[i] *= static_cast<float>(i) / 64;
    const std::vector<float> decoded = round_trip(values);
    for (size_t i = 32; i < 64; ++i) EXPECT_NEAR(decoded[i] / values[i], 1, 0.01) << small;
  }
}

// A second decoder, from docs/formats/int8.md alone.
std::vector<float> decode_by_the_page(const ByteVector& block) {
  const auto byte = [&](size_t at) { return std::to_integer<uint32_t>(block[at]); };
  uint64_t values = 0;
  float base = 0;
  std::memcpy(&values, &block[16], 8);
  std::memcpy(&base, &block[12], 4);
  std::vector<float> result;
  size_t chunk = 64;
  for (uint64_t start = 0; start < values; start += 131072) {
    const size_t n = std::min<uint64_t>(values - start, 131072);
    const size_t groups = (n + 31) / 32;
    for (size_t i = 0; i < n; ++i) {
      const auto k = static_cast<int>(byte(chunk + i / 32));
      const auto fraction = static_cast<float>(std::pow(2.0, -(k % 16) / 16.0));
      const float magnitude = k == 255 ? 0 : std::ldexp(base * fraction, -(k / 16));
      result.push_back(magnitude * static_cast<int8_t>(byte(chunk + groups + i)));
    }
    chunk += groups * 33;
  }
  return result;
}

TEST(Int8, decodes_as_the_page_says) {
  for (const size_t count : {1, 31, 33, 1000, 131'072 + 77}) {
    const ByteVector block = encode_floats("int8", normal_values(count, count));
    EXPECT_EQ(decode_floats(block), decode_by_the_page(block)) << count;
  }
}

TEST(Int8, the_example_of_the_page) {
  const ByteVector block = encode_floats("int8", {1, 2, 3, -4});
  ASSERT_EQ(block.size(), 97U);
  const std::vector<uint8_t> expected{0, 32, 64, 95, 0x81, 0};
  EXPECT_TRUE(std::ranges::equal(std::as_bytes(std::span(expected)),
                                 std::span(block).subspan(kBlockHeaderBytes, expected.size())));
  EXPECT_EQ(decode_floats(block),
            (std::vector<float>{0x1.020408p+0f, 0x1.020408p+1f, 0x1.7efdfcp+1f, -0x1p+2f}));
}

TEST(Int8, narrower_reads_round_the_f32_read) {
  const ByteVector block = encode_floats("int8", normal_values(10'000));
  const ByteVector plain = encode_floats("f32", decode_floats(block));
  for (const DType as : {DType::kF16, DType::kBF16}) {
    EXPECT_EQ(decode_bytes(block, as), decode_bytes(plain, as));
  }
  ByteVector out(40'000);
  EXPECT_EQ(decode_block(block, 0, 10'000, DType::kI32, out).error().code, Errc::kInvalidArgument);
}

TEST(Int8, sources_of_16_bits_are_encoded_as_their_f32) {
  const std::vector<float> values = normal_values(10'000);
  for (const DType source : {DType::kF16, DType::kBF16}) {
    const ByteVector halves = decode_bytes(encode_floats("f32", values), source);
    const std::vector<float> exact = decode_floats(encode_bytes(codec("raw"), source, halves));
    const ByteVector block = encode_bytes(codec("int8"), source, halves);
    EXPECT_EQ(inspect_block(block)->source, source);
    EXPECT_EQ(decode_floats(block), round_trip(exact));
  }
}

TEST(Int8, slices_equal_the_whole_at_any_alignment) {
  const size_t count = 2 * limits::kChunkValues + 1234;
  const ByteVector block = encode_floats("int8", normal_values(count));
  Random random(7);
  for (const DType as : {DType::kF32, DType::kF16, DType::kBF16}) {
    const ByteVector whole = decode_bytes(block, as);
    for (int i = 0; i < 100; ++i) {
      const uint64_t first =
          i < 50 ? limits::kChunkValues - random.below(200) : random.below(count);
      const uint64_t length = random.below(std::min<uint64_t>(count - first, 70'000) + 1);
      ByteVector part(length * dtype_bytes(as) + 1);
      ASSERT_TRUE(decode_block(block, first, length, as, std::span(part).subspan(1)).has_value());
      const auto* expected = whole.data() + first * dtype_bytes(as);
      EXPECT_TRUE(std::equal(part.begin() + 1, part.end(), expected)) << first << " " << length;
    }
  }
}

TEST(Int8, zeros_stay_zeros_without_a_sign) {
  std::vector<float> values = normal_values(5000);
  for (size_t i = 0; i < values.size(); ++i) {
    if (i % 7 == 0 || (i > 1000 && i < 1200)) values[i] = i % 2 == 0 ? 0.0f : -0.0f;
  }
  for (const std::string_view kernel : available_kernels()) {
    const WithKernel with(kernel);
    const std::vector<float> decoded = round_trip(values);
    for (size_t i = 0; i < values.size(); ++i) {
      if (values[i] != 0) continue;
      ASSERT_EQ(decoded[i], 0);
      ASSERT_FALSE(std::signbit(decoded[i]));
    }
  }
  const EncodedBlock zeros =
      encode(codec("int8"), DType::kF32, bytes_of(std::vector<float>(5000, 0.0f)));
  EXPECT_EQ(zeros.error.noise_energy, 0);
  EXPECT_EQ(zeros.error.decoded_energy, 0);
}

TEST(Int8, special_values_do_not_spread) {
  std::vector<float> values = normal_values(2048);
  const std::vector<float> before = round_trip(values);
  values[100] = NAN;
  values[200] = INFINITY;
  values[300] = -INFINITY;
  for (size_t i = 1024; i < 1056; ++i) values[i] = i % 2 == 0 ? INFINITY : NAN;
  const EncodedBlock block = encode(codec("int8"), DType::kF32, bytes_of(values));
  const std::vector<float> decoded = round_trip(values);
  EXPECT_EQ(decoded[100], 0);
  EXPECT_EQ(decoded[101], before[101]);
  const auto largest_near = [&](size_t at) {
    float largest = 0;
    for (size_t i = at / 32 * 32; i < at / 32 * 32 + 32; ++i) {
      if (std::isfinite(values[i])) largest = std::max(largest, std::abs(values[i]));
    }
    return largest;
  };
  EXPECT_NEAR(decoded[200] / largest_near(200), 1, 0.01);
  EXPECT_NEAR(decoded[300] / largest_near(300), -1, 0.01);
  for (size_t i = 1024; i < 1056; ++i) EXPECT_EQ(decoded[i], 0);
  EXPECT_GE(error_report(block.error).sqnr_db, 42);
}

TEST(Int8, denormals_and_extremes_are_finite) {
  std::vector<float> values;
  for (int i = 0; i < 500; ++i) values.push_back(std::ldexp(1.0f, i % 277 - 149));
  for (const float value : round_trip(values)) EXPECT_TRUE(std::isfinite(value));
  const std::vector<float> largest = round_trip({FLT_MAX, -FLT_MAX, FLT_MAX / 2});
  EXPECT_NEAR(largest[0] / FLT_MAX, 1, 0.01);
  EXPECT_NEAR(largest[1] / FLT_MAX, -1, 0.01);
  EXPECT_NEAR(largest[2] / FLT_MAX, 0.5, 0.01);
  for (const float value : round_trip(std::vector<float>(100, FLT_TRUE_MIN))) EXPECT_EQ(value, 0);
}

}  // namespace
}  // namespace ballast::quant
