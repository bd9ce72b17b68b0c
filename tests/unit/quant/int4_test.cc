#include "quant/int4.h"

#include <algorithm>
#include <cfloat>

#include "proto/base/limits.h"
#include "tests/unit/quant/helpers.h"

namespace ballast::quant {
namespace {

constexpr std::array<const char*, 3> kPresets{"int4:group=16", "int4", "int4:group=64"};

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

double sqnr_db(std::string_view name, const std::vector<float>& values) {
  const EncodedBlock block = encode(codec(name), DType::kF32, bytes_of(values));
  const double real = sqnr_db(values, decode_floats(encode_floats(name, values)));
  EXPECT_NEAR(error_report(block.error).sqnr_db, real, 0.001);
  return real;
}

TEST(Int4, quality_of_normal_values) {
  const std::vector<float> values = normal_values(200'000);
  EXPECT_GE(sqnr_db("int4:group=16", values), 23.6);
  EXPECT_GE(sqnr_db("int4", values), 22.5);
  EXPECT_GE(sqnr_db("int4:group=64", values), 21.7);
}

TEST(Int4, quality_of_heavy_tails) {
  Random random(2);
  std::vector<float> values(200'000);
  for (float& value : values) value = static_cast<float>(random.student4());
  EXPECT_GE(sqnr_db("int4:group=16", values), 22.7);
  EXPECT_GE(sqnr_db("int4", values), 21.2);
  EXPECT_GE(sqnr_db("int4:group=64", values), 19.8);
}

TEST(Int4, quality_does_not_depend_on_magnitude) {
  const std::vector<float> values = normal_values(20'000);
  const double reference = sqnr_db("int4", values);
  for (const float factor : {0x1p-100f, 0x1p-30f, 0x1p100f}) {
    std::vector<float> scaled = values;
    for (float& value : scaled) value *= factor;
    // A power of two changes nothing but exponents.
    EXPECT_NEAR(sqnr_db("int4", scaled), reference, 1e-6) << factor;
  }
}

TEST(Int4, costs_four_and_a_quarter_bits) {
  const uint64_t chunk = limits::kChunkValues;
  const auto payload = [](const char* name, uint64_t values) {
    return encode_floats(name, std::vector<float>(values, 1)).size() - kBlockHeaderBytes;
  };
  EXPECT_EQ(payload("int4", chunk), chunk * 17 / 32);
  EXPECT_EQ(payload("int4:group=16", chunk), chunk * 18 / 32);
  EXPECT_EQ(payload("int4:group=64", 3 * chunk + 1), 3 * chunk * 33 / 64 + 33);
}

// A second decoder, from docs/formats/block.md alone.
std::vector<float> decode_by_the_page(const ByteVector& block) {
  const auto byte = [&](size_t at) { return std::to_integer<uint32_t>(block[at]); };
  uint64_t values = 0;
  float base = 0;
  std::memcpy(&values, &block[16], 8);
  std::memcpy(&base, &block[12], 4);
  const size_t group = byte(8);
  std::vector<float> result;
  size_t chunk = 64;
  for (uint64_t start = 0; start < values; start += 131072) {
    const size_t n = std::min<uint64_t>(values - start, 131072);
    const size_t units = (n + 63) / 64;
    const size_t codes = chunk + units * (64 / group);
    for (size_t i = 0; i < n; ++i) {
      const uint32_t pair = byte(codes + i / 64 * 32 + i % 32);
      const uint32_t code = i % 64 < 32 ? pair & 15 : pair >> 4;
      const uint32_t scale = byte(chunk + i / group);
      const auto k = static_cast<int>(scale % 128);
      const auto fraction = static_cast<float>(std::pow(2.0, -(k % 16) / 16.0));
      const float magnitude = k == 127 ? 0 : std::ldexp(base * fraction, -(k / 16));
      int entry = static_cast<int8_t>(byte(24 + code));
      if (scale >= 128) entry = -entry;
      result.push_back(magnitude * static_cast<float>(entry));
    }
    chunk = codes + units * 32;
  }
  return result;
}

TEST(Int4, decodes_as_the_page_says) {
  for (const char* name : kPresets) {
    for (const size_t count : {1, 63, 65, 1000, 131'072 + 77}) {
      const ByteVector block = encode_floats(name, normal_values(count, count));
      EXPECT_EQ(decode_floats(block), decode_by_the_page(block)) << name << " " << count;
    }
  }
}

TEST(Int4, narrower_reads_round_the_f32_read) {
  const std::vector<float> values = normal_values(10'000);
  for (const char* name : kPresets) {
    const ByteVector block = encode_floats(name, values);
    const ByteVector plain = encode_floats("f32", decode_floats(block));
    for (const DType as : {DType::kF16, DType::kBF16}) {
      EXPECT_EQ(decode_bytes(block, as), decode_bytes(plain, as));
    }
  }
}

TEST(Int4, sources_of_16_bits_are_encoded_as_their_f32) {
  const std::vector<float> values = normal_values(10'000);
  for (const DType source : {DType::kF16, DType::kBF16}) {
    const ByteVector halves = decode_bytes(encode_floats("f32", values), source);
    const std::vector<float> exact = decode_floats(encode_bytes(codec("raw"), source, halves));
    const ByteVector block = encode_bytes(codec("int4"), source, halves);
    EXPECT_EQ(inspect_block(block)->source, source);
    EXPECT_EQ(decode_floats(block), decode_floats(encode_floats("int4", exact)));
    ByteVector raw(halves.size() * 2);
    EXPECT_EQ(decode_block(block, 0, 10'000, DType::kI32, raw).error().code,
              Errc::kInvalidArgument);
  }
}

TEST(Int4, slices_equal_the_whole) {
  const size_t count = 2 * limits::kChunkValues + 1234;
  const ByteVector block = encode_floats("int4", normal_values(count));
  Random random(7);
  for (const DType as : {DType::kF32, DType::kF16, DType::kBF16}) {
    const ByteVector whole = decode_bytes(block, as);
    for (int i = 0; i < 100; ++i) {
      const uint64_t first =
          i < 50 ? limits::kChunkValues - random.below(200) : random.below(count);
      const uint64_t length = random.below(std::min<uint64_t>(count - first, 70'000) + 1);
      const ByteVector part = decode_range(block, first, length, as);
      const auto* expected = whole.data() + first * dtype_bytes(as);
      EXPECT_TRUE(std::equal(part.begin(), part.end(), expected)) << first << " " << length;
    }
  }
}

TEST(Int4, output_needs_no_alignment) {
  const std::vector<float> values = normal_values(1000);
  const ByteVector block = encode_floats("int4", values);
  for (const DType as : {DType::kF32, DType::kF16}) {
    const ByteVector whole = decode_bytes(block, as);
    ByteVector shifted(whole.size() + 1);
    ASSERT_TRUE(decode_block(block, 0, 1000, as, std::span(shifted).subspan(1)).has_value());
    EXPECT_TRUE(std::equal(whole.begin(), whole.end(), shifted.begin() + 1));
  }
  ByteVector source(values.size() * sizeof(float) + 1);
  std::memcpy(source.data() + 1, values.data(), values.size() * sizeof(float));
  EXPECT_EQ(encode_bytes(codec("int4"), DType::kF32, std::span(source).subspan(1)), block);
}

TEST(Int4, empty_tensor) {
  const ByteVector block = encode_floats("int4", {});
  EXPECT_EQ(block.size(), kBlockHeaderBytes);
  EXPECT_EQ(inspect_block(block)->values, 0U);
  EXPECT_TRUE(decode_floats(block).empty());
}

TEST(Int4, a_single_value_is_nearly_exact) {
  for (const float value : {1.0f, -3.7f, 1e-20f, 1e30f, FLT_MAX, -FLT_MAX}) {
    const std::vector<float> decoded = decode_floats(encode_floats("int4", {value}));
    ASSERT_EQ(decoded.size(), 1U);
    EXPECT_NEAR(decoded[0] / value, 1, 0.02) << value;
  }
}

TEST(Int4, zeros_stay_positive_zeros) {
  std::vector<float> values = normal_values(4096);
  std::fill(values.begin() + 1000, values.begin() + 2000, 0.0f);
  for (size_t i = 0; i < values.size(); i += 3) values[i] = i % 2 == 0 ? 0.0f : -0.0f;
  for (const char* name : kPresets) {
    for (const std::string_view kernel : available_kernels()) {
      const WithKernel with(kernel);
      const std::vector<float> decoded = decode_floats(encode_floats(name, values));
      for (size_t i = 0; i < values.size(); ++i) {
        if (values[i] != 0) continue;
        ASSERT_EQ(decoded[i], 0);
        ASSERT_FALSE(std::signbit(decoded[i]));
      }
    }
  }
  const EncodedBlock zeros =
      encode(codec("int4"), DType::kF32, bytes_of(std::vector<float>(5000, 0.0f)));
  EXPECT_EQ(zeros.error.noise_energy, 0);
  EXPECT_EQ(zeros.error.decoded_energy, 0);
}

TEST(Int4, special_values_do_not_spread) {
  std::vector<float> values = normal_values(2048);
  const std::vector<float> before = decode_floats(encode_floats("int4", values));
  values[100] = NAN;
  values[200] = INFINITY;
  values[300] = -INFINITY;
  for (size_t i = 1024; i < 1056; ++i) values[i] = i % 2 == 0 ? INFINITY : NAN;
  const EncodedBlock block = encode(codec("int4"), DType::kF32, bytes_of(values));
  const std::vector<float> decoded = decode_floats(encode_floats("int4", values));
  EXPECT_EQ(decoded[100], 0);
  const auto largest_near = [&](size_t at) {
    float largest = 0;
    for (size_t i = at / 32 * 32; i < at / 32 * 32 + 32; ++i) {
      if (std::isfinite(values[i])) largest = std::max(largest, std::abs(values[i]));
    }
    return largest;
  };
  EXPECT_NEAR(decoded[200] / largest_near(200), 1, 0.2);
  EXPECT_NEAR(decoded[300] / largest_near(300), -1, 0.2);
  for (size_t i = 1024; i < 1056; ++i) EXPECT_EQ(decoded[i], 0);
  for (const float value : decoded) EXPECT_TRUE(std::isfinite(value));
  EXPECT_TRUE(std::isfinite(block.error.noise_energy));
  EXPECT_GE(error_report(block.error).sqnr_db, 21);
}

TEST(Int4, denormals_and_extremes_are_finite) {
  std::vector<float> values;
  for (int i = 0; i < 500; ++i) values.push_back(std::ldexp(1.0f, i % 277 - 149));
  for (const char* name : kPresets) {
    for (const float value : decode_floats(encode_floats(name, values))) {
      EXPECT_TRUE(std::isfinite(value));
    }
  }
  const std::vector<float> denormal(100, FLT_TRUE_MIN);
  for (const float value : decode_floats(encode_floats("int4", denormal))) EXPECT_EQ(value, 0);
}

TEST(Int4, codebook_is_ascending_with_a_zero) {
  Random random(11);
  for (int i = 0; i < 40; ++i) {
    std::vector<float> values(256 + random.below(3000));
    // From nearly normal to nearly two values, some of one sign alone.
    for (float& value : values) {
      value = static_cast<float>(std::pow(std::abs(random.normal()), i % 13));
      if (i % 3 == 0 && random.below(2) == 0) value = -value;
    }
    const Codebook codebook = learn_codebook(bytes_of(values), DType::kF32, 32);
    EXPECT_TRUE(std::ranges::is_sorted(codebook, std::ranges::less_equal{}) ||
                std::ranges::adjacent_find(codebook, std::ranges::greater_equal{}) ==
                    codebook.end());
    EXPECT_NE(std::ranges::find(codebook, 0), codebook.end());
    EXPECT_EQ(std::ranges::find(codebook, -128), codebook.end());
  }
}

TEST(Int4, too_little_to_learn_from_gives_the_normal_codebook) {
  EXPECT_EQ(learn_codebook({}, DType::kF32, 32), kNormalCodebook);
  const std::vector<float> few(255, 1.0f);
  EXPECT_EQ(learn_codebook(bytes_of(few), DType::kF32, 32), kNormalCodebook);
  for (const float value : {0.0f, NAN, INFINITY}) {
    const std::vector<float> useless(1000, value);
    EXPECT_EQ(learn_codebook(bytes_of(useless), DType::kF32, 32), kNormalCodebook);
  }
}

}  // namespace
}  // namespace ballast::quant
