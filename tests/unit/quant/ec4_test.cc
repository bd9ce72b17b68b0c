// ec4 and ec4t: size and error as promised, the same bytes from every kernel, any input.
#include "quant/ec4.h"

#include <fmt/format.h>

#include <limits>

#include "proto/base/limits.h"
#include "quant/trellis.h"
#include "tests/unit/quant/helpers.h"

namespace ballast::quant {
namespace {

constexpr const char* kNames[] = {"ec4", "ec4t", "ec4:group=512"};
constexpr const char* kGroupNames[] = {"ec4:group=256", "ec4:group=512", "ec4:group=1024"};

std::string with_target(std::string_view name, std::string_view target, double value) {
  return fmt::format("{}{}{}={}", name, name.contains(':') ? ',' : ':', target, value);
}

std::vector<float> student_values(size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(0.05 * random.student4());
  return values;
}

// Rows of 2,048 values, of which the sizes fall to a thousandth and then begin again.
std::vector<float> values_in_rows(size_t count) {
  std::vector<float> values = normal_values(count, 8);
  for (size_t i = 0; i < count; ++i) {
    values[i] *= static_cast<float>(std::pow(1000, -static_cast<double>(i / 2048 % 16) / 15));
  }
  return values;
}

double sqnr_db(std::span<const float> values, std::span<const float> decoded) {
  double signal = 0;
  double noise = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    signal += double{values[i]} * values[i];
    noise += std::pow(double{values[i]} - decoded[i], 2);
  }
  return 10 * std::log10(signal / noise);
}

struct Outcome {
  double bits;
  double db;
};
Outcome outcome(std::string_view name, const std::vector<float>& values) {
  const EncodedBlock block = encode(codec(name), DType::kF32, bytes_of(values));
  const ByteVector bytes(const_cast<MutableBytes&>(block.bytes).span().begin(),
                         const_cast<MutableBytes&>(block.bytes).span().end());
  const double db = sqnr_db(values, decode_floats(bytes));
  const double reported = error_report(block.error).sqnr_db;
  if (reported != db) EXPECT_NEAR(reported, db, 0.01) << name;  // infinite ones have no distance
  return {8.0 * static_cast<double>(bytes.size()) / static_cast<double>(values.size()), db};
}

TEST(Ec4, keeps_its_target_in_bits) {
  for (const auto& values : {normal_values(200'000), student_values(200'000, 3)}) {
    for (const double bits : {2.0, 3.0, 3.9, 4.5}) {
      for (const char* name : kNames) {
        const Outcome found = outcome(with_target(name, "bits", bits), values);
        EXPECT_LE(found.bits, bits) << name;
        // With fine steps outliers decide, which a sample of the values can't tell exactly.
        EXPECT_GT(found.bits, bits - (bits > 4 ? 0.4 : 0.06)) << name;
      }
    }
  }
}

TEST(Ec4, keeps_its_target_in_decibels) {
  for (const auto& values : {normal_values(100'000), student_values(100'000, 4)}) {
    for (const double db : {10.0, 18.5, 24.0}) {
      for (const char* name : kNames) {
        const Outcome found = outcome(with_target(name, "db", db), values);
        EXPECT_GE(found.db, db) << name;
        EXPECT_LT(found.db, db + 0.6) << name;
      }
    }
  }
}

TEST(Ec4, one_huge_value_does_not_cost_all_others) {
  for (const char* name : {"ec4", "ec4t", "ec4:db=20", "ec4t:db=20"}) {
    for (const size_t count : {4096, 200'000}) {
      for (const float huge : {1e4f, 1e10f, 3e38f}) {
        std::vector<float> values = normal_values(count);
        values[100] = huge;
        std::vector<float> decoded = decode_floats(encode_floats(name, values));
        EXPECT_NEAR(decoded[100] / huge, 1, 0.1) << name;
        values[100] = decoded[100] = 0;
        // Where the huge one counts, it may count for as much as all others: 3 dB.
        EXPECT_GT(sqnr_db(values, decoded), 16.9) << name << " " << count << " " << huge;
      }
    }
  }
}

TEST(Ec4, a_sample_that_is_unlike_the_rest_does_not_matter) {
  constexpr size_t kCount = 16 << 17;
  std::vector<float> mostly_zeros(kCount, 0.0f);
  const std::vector<float> some = normal_values(90'000);
  std::ranges::copy(some, mostly_zeros.begin() + 3000);
  std::vector<float> far_apart = normal_values(kCount);
  for (size_t i = 0; i < kCount; ++i) far_apart[i] *= i / 1024 % 128 == 0 ? 1e-20f : 1e20f;
  for (const auto& values : {mostly_zeros, far_apart}) {
    for (const char* name : {"ec4:db=20", "ec4t:db=20"}) {
      EXPECT_GE(outcome(name, values).db, 20) << name;
    }
    EXPECT_LE(outcome("ec4", values).bits, 4) << "ec4";
  }
}

TEST(Ec4, keeps_its_target_where_rounding_leaps) {
  for (const char* name : {"ec4:db=5", "ec4:db=20", "ec4t:db=5", "ec4t:db=20"}) {
    std::vector<float> lone(100'000, 0.0f);
    lone[77'777] = -7e-4f;
    std::vector<float> nearly_constant(100'000, 0.5f);
    nearly_constant[5] = 1;
    Random random(3);
    std::vector<float> signs(100'000);
    for (float& value : signs) value = random.below(2) == 0 ? -1.0f : 1.0f;
    for (const auto& values : {lone, nearly_constant, signs, std::vector<float>(5000, 0.3f)}) {
      EXPECT_GE(outcome(name, values).db, parse_codec(name)->centidb / 100.0) << name;
    }
  }
}

TEST(Ec4, keeps_its_target_with_groups_of_any_size) {
  const std::vector<float> values = values_in_rows(200'000);
  for (const char* name : kGroupNames) {
    for (const double bits : {2.0, 3.0, 3.9}) {
      const Outcome found = outcome(with_target(name, "bits", bits), values);
      EXPECT_LE(found.bits, bits) << name;
      EXPECT_GT(found.bits, bits - 0.06) << name;
    }
    for (const double db : {10.0, 18.5, 24.0}) {
      const Outcome found = outcome(with_target(name, "db", db), values);
      EXPECT_GE(found.db, db) << name;
      EXPECT_LT(found.db, db + 0.6) << name;
    }
  }
}

// 4-bit blocks of 32 with a 16-bit scale reach 21.32 dB and 18.75 dB on such values.
TEST(Ec4, four_bits_lose_less_than_fixed_four_and_a_half) {
  const std::vector<float> normal = normal_values(1 << 19);
  const std::vector<float> student = student_values(1 << 19, 5);
  EXPECT_LE(outcome("ec4", normal).bits, 4.0);
  EXPECT_GE(outcome("ec4", normal).db, 22.1);
  EXPECT_GE(outcome("ec4", student).db, 21.9);
  EXPECT_LE(outcome("ec4t", normal).bits, 3.8);
  EXPECT_GE(outcome("ec4t", normal).db, 21.9);
  EXPECT_GE(outcome("ec4t", student).db, 21.9);
}

TEST(Ec4, the_trellis_gains_almost_a_decibel) {
  const std::vector<float> values = normal_values(1 << 18);
  EXPECT_GT(outcome("ec4t:bits=3.9", values).db, outcome("ec4:bits=3.9", values).db + 0.8);
}

double worst_group(const std::vector<float>& values, const std::vector<float>& decoded,
                   size_t group) {
  double worst = std::numeric_limits<double>::infinity();
  for (size_t at = 0; at < values.size(); at += group) {
    const size_t count = std::min(group, values.size() - at);
    worst = std::min(worst, sqnr_db(std::span(values).subspan(at, count),
                                    std::span(decoded).subspan(at, count)));
  }
  return worst;
}

TEST(Ec4, groups_of_small_values_lose_no_more_than_others) {
  const std::vector<float> values = values_in_rows(1 << 18);
  EXPECT_LT(worst_group(values, decode_floats(encode_floats("ec4", values)), 512), 1);
  EXPECT_GT(worst_group(values, decode_floats(encode_floats("ec4:group=256", values)), 256), 18);
  EXPECT_GT(worst_group(values, decode_floats(encode_floats("ec4:group=512", values)), 512), 18);
  EXPECT_GT(worst_group(values, decode_floats(encode_floats("ec4:group=1024", values)), 1024), 18);
}

TEST(Ec4, groups_cost_little_where_all_values_are_alike) {
  const std::vector<float> values = normal_values(1 << 19);
  EXPECT_GT(outcome("ec4:group=512", values).db, outcome("ec4", values).db - 0.15);
}

TEST(Ec4, every_kernel_gives_the_same_bytes_and_values) {
  for (const char* name : {"ec4", "ec4t", "ec4:group=256", "ec4:group=512", "ec4:group=1024"}) {
    for (const size_t count : {1, 15, 16, 4095, 4097, 40'000, 70'001, 131'072, 200'000}) {
      for (const DType source : {DType::kF32, DType::kF16, DType::kBF16}) {
        std::vector<float> floats = student_values(count, count);
        floats[count / 2] *= 1000;
        ByteVector values(count * dtype_bytes(source));
        for (size_t at = 0; at < count; at += 1024) {
          store_f32(source, &floats[at], std::min<size_t>(1024, count - at),
                    &values[at * dtype_bytes(source)]);
        }
        ByteVector reference;
        std::vector<ByteVector> decoded;
        for (const std::string_view kernel_name : available_kernels()) {
          const WithKernel with(kernel_name);
          const ByteVector block = encode_bytes(codec(name), source, values);
          if (reference.empty()) reference = block;
          ASSERT_EQ(block, reference) << name << " " << kernel_name << " " << count;
          std::vector<ByteVector> found;
          for (const DType as : {DType::kF32, DType::kF16, DType::kBF16}) {
            found.push_back(decode_bytes(block, as));
          }
          if (decoded.empty()) decoded = found;
          EXPECT_EQ(found, decoded) << name << " " << kernel_name << " " << count;
        }
      }
    }
  }
}

TEST(Ec4, large_outputs_are_the_same_as_small_ones) {
  std::vector<float> values = normal_values(1 << 20);
  for (size_t i = 0; i < values.size(); i += 10'007) values[i] = 40;
  for (const char* name : kNames) {
    const ByteVector block = encode_floats(name, values);
    for (const std::string_view kernel_name : available_kernels()) {
      const WithKernel with(kernel_name);
      for (const DType as : {DType::kF32, DType::kF16, DType::kBF16}) {
        const ByteVector whole = decode_bytes(block, as);
        const size_t width = dtype_bytes(as);
        for (uint64_t first = 0; first < values.size(); first += 100'000) {
          const uint64_t count = std::min<uint64_t>(100'000, values.size() - first);
          EXPECT_TRUE(std::ranges::equal(decode_range(block, first, count, as),
                                         std::span(whole).subspan(first * width, count * width)));
        }
      }
    }
  }
}

TEST(Ec4, outliers_are_kept_bit_for_bit) {
  std::vector<float> values = normal_values(50'000);
  const std::vector<size_t> places{0, 4095, 4096, 12'345, 49'999};
  for (const size_t place : places) values[place] = 1234.567f + static_cast<float>(place);
  for (const char* name : kNames) {
    const std::vector<float> decoded = decode_floats(encode_floats(name, values));
    for (const size_t place : places) EXPECT_EQ(decoded[place], values[place]) << name;
  }
}

TEST(Ec4, special_values_have_defined_results) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> values = normal_values(10'000);
  values[10] = kNan;
  values[11] = kInf;
  values[12] = -kInf;
  values[13] = 0;
  values[14] = -0.0f;
  values[15] = 1e-40f;
  values[16] = 7;  // the largest finite magnitude
  for (const char* name : kNames) {
    const std::vector<float> decoded = decode_floats(encode_floats(name, values));
    EXPECT_EQ(decoded[10], 0) << name;
    EXPECT_NEAR(decoded[11], 7, 0.5) << name;
    EXPECT_NEAR(decoded[12], -7, 0.5) << name;
    EXPECT_EQ(std::bit_cast<uint32_t>(decoded[13]) & 0x7fffffff, 0U) << name;
  }
}

TEST(Ec4, an_infinity_in_a_group_is_as_large_as_the_group) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const char* name : kGroupNames) {
    std::vector<float> values = normal_values(10'000);
    const size_t group = codec(name).group_size;
    for (size_t i = group; i < 2 * group; ++i) values[i] *= 0.01f;
    values[group + 1] = -kInf;
    values[group + 2] = 0.05f;
    // In two groups there is nothing else but NaN.
    for (size_t i = 2 * group; i < 4 * group; ++i) values[i] = std::nanf("");
    values[2 * group] = kInf;
    const std::vector<float> decoded = decode_floats(encode_floats(name, values));
    EXPECT_NEAR(decoded[group + 1], -0.05, 0.004) << name;
    for (size_t i = 2 * group; i < 4 * group; ++i) ASSERT_EQ(decoded[i], 0) << name;
  }
}

TEST(Ec4, groups_of_zeros_stay_zeros_and_are_no_bound_for_others) {
  for (const char* name : kGroupNames) {
    std::vector<float> values = normal_values(140'001);
    const size_t group = codec(name).group_size;
    for (size_t i = 0; i < values.size(); ++i) {
      if (i / group % 3 != 1) values[i] = 0;
    }
    EXPECT_GT(outcome(name, values).db, 20) << name;
    const std::vector<float> decoded = decode_floats(encode_floats(name, values));
    for (size_t i = 0; i < values.size(); ++i) {
      if (values[i] == 0) ASSERT_EQ(decoded[i], 0) << name << " " << i;
    }
  }
}

// No scale may make a value infinite, nor a group vanish that is as small as scales reach.
TEST(Ec4, groups_at_the_ends_of_the_floats) {
  for (const char* name : kGroupNames) {
    const size_t group = codec(name).group_size;
    std::vector<float> values = normal_values(8 * group);
    for (size_t i = 0; i < group; ++i) values[i] = i % 2 == 0 ? 3.4e38f : -3.4e38f;
    values[group] = 3.4e38f;
    const std::vector<float> decoded = decode_floats(encode_floats(name, values));
    for (const size_t i : {size_t{1}, group}) {
      EXPECT_NEAR(decoded[i] / values[i], 1, 0.3) << name << " " << i;
    }
    values = normal_values(8 * group);
    for (size_t i = 0; i < group; ++i) values[i] *= 50'000;
    EXPECT_GT(worst_group(values, decode_floats(encode_floats(name, values)), group), 18);
  }
}

TEST(Ec4, zeros_constants_and_extremes) {
  for (const char* name : kNames) {
    for (const float value : {0.0f, 1.0f, -3e38f, 1e-38f, 1e-45f}) {
      for (const size_t count : {1, 1000, 131'073}) {
        const std::vector<float> values(count, value);
        const std::vector<float> decoded = decode_floats(encode_floats(name, values));
        ASSERT_EQ(decoded.size(), count);
        if (std::abs(value) < 1e-30f) continue;
        for (const size_t i : {size_t{0}, count - 1}) {
          EXPECT_NEAR(decoded[i] / value, 1, 0.3) << name << " " << value << " " << count;
        }
      }
    }
    EXPECT_LT(encode_floats(name, std::vector<float>(131'072, 0.0f)).size(),
              100 + ec4_scale_bytes(codec(name).group_size, 131'072));
    EXPECT_EQ(decode_floats(encode_floats(name, {})).size(), 0U);
  }
}

TEST(Ec4, values_without_any_scale_fit_a_block) {
  // Half of them thousands of times as large as the rest, at random: no step suits both.
  Random random(7);
  std::vector<float> values(values_per_block(codec("ec4"), DType::kF32));
  for (float& value : values) {
    value = static_cast<float>(random.normal() * std::exp2(static_cast<double>(random.below(60))));
  }
  for (const char* name : {"ec4:bits=4.9", "ec4:db=27", "ec4t:db=27", "ec4:group=256,db=27"}) {
    EXPECT_LE(encode_floats(name, values).size(), limits::kBlockBytesMax) << name;
  }
  const ByteVector noise = random_bytes(values.size() * 4, 6);
  for (const char* name : kNames) {
    EXPECT_LE(encode_bytes(codec(name), DType::kF32, noise).size(), limits::kBlockBytesMax) << name;
  }
}

TEST(Ec4, damage_is_an_error_or_other_values) {
  Random random(11);
  for (const char* name : kNames) {
    std::vector<float> values = student_values(30'000, 1);
    values[77] = 1e6f;
    const ByteVector block = encode_floats(name, values);
    for (const std::string_view kernel_name : available_kernels()) {
      const WithKernel with(kernel_name);
      for (int i = 0; i < 300; ++i) {
        ByteVector damaged = block;
        const size_t at = kBlockHeaderBytes + random.below(i < 150 ? 80 : block.size() - 64);
        damaged[std::min(at, block.size() - 1)] ^= static_cast<std::byte>(1 + random.below(255));
        std::vector<std::byte> out(values.size() * 4);
        const Status status = decode_block(damaged, 0, values.size(), DType::kF32, out);
        if (!status) EXPECT_EQ(status.error().code, Errc::kCorrupt);
      }
    }
  }
}

TEST(Ec4, a_chunk_without_room_for_its_scales_is_corrupt) {
  const std::array<std::byte, 8> chunk{};  // a head that says that all indexes are 0, and scales
  std::array<float, 1025> out;
  const Ec4Parameters parameters{.group = 256};
  for (size_t length = 0; length <= chunk.size(); ++length) {
    for (const size_t values : {1, 512, 513, 1024, 1025}) {
      const bool fits = length == sizeof(Ec4ChunkHead) + ec4_scale_bytes(256, values);
      const Status status =
          decode_ec4_chunk(parameters, std::span(chunk).first(length), values, DType::kF32,
                           std::as_writable_bytes(std::span(out)).data(), false);
      ASSERT_EQ(status.has_value(), fits) << length << " " << values;
      if (!fits) EXPECT_EQ(status.error().code, Errc::kCorrupt);
    }
  }
}

TEST(Trellis, each_state_has_two_ways_in_and_out) {
  for (uint32_t next = 0; next < kTrellisStates; ++next) {
    const uint32_t before = trellis_before(next);
    const uint32_t parity = next >> 1 & 1;
    EXPECT_LT(before, 4U);
    EXPECT_EQ(trellis_next(before, parity), next);
    EXPECT_EQ(trellis_next(before + 4, 1 - parity), next);
  }
}

}  // namespace
}  // namespace ballast::quant
