// Every kernel gives the bytes of the scalar one.
#include "quant/kernels.h"

#include <functional>

#include "tests/unit/quant/helpers.h"

namespace ballast::quant {
namespace {

class EveryKernel : public testing::TestWithParam<std::string_view> {
 protected:
  // Both results, of the scalar kernel first.
  template <class Work>
  auto both(Work work) {
    const auto expected = [&] {
      const WithKernel scalar("scalar");
      return work();
    }();
    const WithKernel other(GetParam());
    return std::pair(expected, work());
  }
};

ByteVector source_values(DType source, size_t count, uint64_t seed) {
  if (seed % 3 == 0) return random_bytes(count * dtype_bytes(source), seed);
  std::vector<float> values = normal_values(count, seed);
  // Groups of very different magnitude, so that some scales reach their limits.
  if (seed % 3 == 1) {
    Random random(seed);
    for (float& value : values) {
      value *= std::ldexp(1.0f, -static_cast<int>(random.below(2) * 40));
    }
    for (size_t i = 0; i < count; ++i) values[i] *= std::ldexp(1.0f, static_cast<int>(i / 64 % 24));
  }
  return decode_bytes(encode_floats("f32", values), source);
}

TEST_P(EveryKernel, encodes_and_decodes_the_same_bytes) {
  Random random(1);
  for (const char* name : {"int4:group=16", "int4", "int4:group=64", "int8", "lossless", "sparse4",
                           "f32", "f16", "bf16"}) {
    for (const DType source : {DType::kF32, DType::kF16, DType::kBF16}) {
      for (uint64_t seed = 0; seed < 6; ++seed) {
        const ByteVector values = source_values(source, random.below(5000), seed);
        const auto [expected, block] =
            both([&] { return encode_bytes(codec(name), source, values); });
        ASSERT_EQ(expected, block) << name << " " << dtype_name(source) << " seed " << seed;
        for (const DType as : {DType::kF32, DType::kF16, DType::kBF16}) {
          const auto [wanted, got] = both([&] { return decode_bytes(expected, as); });
          ASSERT_EQ(wanted, got) << name << " " << dtype_name(as) << " seed " << seed;
        }
      }
    }
  }
}

TEST_P(EveryKernel, measures_the_same_error) {
  for (const char* name : {"int4", "int8", "lossless", "sparse4", "bf16"}) {
    for (uint64_t seed = 0; seed < 6; ++seed) {
      const ByteVector values = source_values(DType::kF32, 3333, seed);
      const auto [expected, got] =
          both([&] { return encode(codec(name), DType::kF32, values).error; });
      EXPECT_EQ(std::memcmp(&expected, &got, sizeof got), 0) << name << " " << seed;
    }
  }
}

TEST_P(EveryKernel, decodes_any_scale_and_code) {
  for (const char* name : {"int4:group=16", "int4", "int4:group=64", "int8"}) {
    ByteVector block = encode_floats(name, normal_values(100'000));
    const ByteVector noise = random_bytes(block.size() - kBlockHeaderBytes, 9);
    std::ranges::copy(noise, block.begin() + kBlockHeaderBytes);
    for (const DType as : {DType::kF32, DType::kF16, DType::kBF16}) {
      const auto [expected, got] = both([&] { return decode_bytes(block, as); });
      EXPECT_EQ(expected, got) << name << " " << dtype_name(as);
    }
  }
}

// Large outputs are written around the caches.
TEST_P(EveryKernel, decodes_large_outputs_the_same) {
  for (const char* name : {"int4:group=16", "int4", "int4:group=64", "int8"}) {
    const size_t count = std::min<size_t>(1'300'000, values_per_block(codec(name), DType::kF32));
    const ByteVector block = [&] {
      const std::vector<float> values = normal_values(count);
      return encode_floats(name, values);
    }();
    for (const DType as : {DType::kF32, DType::kF16, DType::kBF16}) {
      const auto aligned = [&] {
        MutableBytes out(count * dtype_bytes(as));
        EXPECT_TRUE(decode_block(block, 0, count, as, out.span()).has_value());
        return ByteVector(out.span().begin(), out.span().end());
      };
      const auto [expected, got] = both(aligned);
      EXPECT_TRUE(expected == got) << name << " " << dtype_name(as);
    }
  }
}

TEST_P(EveryKernel, encodes_sparse_values_the_same) {
  for (const char* name : {"sparse4:group=16", "sparse4", "sparse4:group=64"}) {
    for (const double density : {0.003, 0.1, 0.2, 0.24, 0.5}) {
      const std::vector<float> values = sparse_values(150'000, density, 4);
      const auto [expected, block] = both([&] { return encode_floats(name, values); });
      ASSERT_TRUE(expected == block) << name << " " << density;
    }
  }
}

// Whole units, parts of them, large outputs and unaligned ones.
TEST_P(EveryKernel, decodes_sparse_blocks_the_same) {
  const size_t count = 1'300'000;
  Random random(5);
  for (const char* name : {"sparse4:group=16", "sparse4", "sparse4:group=64"}) {
    for (const double density : {0.003, 0.2, 0.5, 0.97}) {
      const ByteVector block = encode_floats(name, sparse_values(count, density, 1));
      for (const DType as : {DType::kF32, DType::kF16, DType::kBF16}) {
        for (int i = 0; i < 8; ++i) {
          const uint64_t first = i == 0 ? 0 : random.below(count);
          const uint64_t length = i == 0 ? count : random.below(count - first);
          const size_t shift = i < 6 ? i * dtype_bytes(as) : 1;
          const auto decode = [&] {
            MutableBytes out(shift + length * dtype_bytes(as));
            const auto part = out.span().subspan(shift);
            EXPECT_TRUE(decode_block(block, first, length, as, part).has_value());
            return ByteVector(part.begin(), part.end());
          };
          const auto [expected, got] = both(decode);
          ASSERT_TRUE(expected == got) << name << " " << dtype_name(as) << " " << density;
        }
      }
    }
  }
}

TEST_P(EveryKernel, converts_any_f32_the_same) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const ByteVector values = random_bytes(65'536 * sizeof(float), seed);
    const ByteVector block = encode_bytes(codec("f32"), DType::kF32, values);
    for (const DType as : {DType::kF16, DType::kBF16}) {
      const auto [expected, got] = both([&] { return decode_bytes(block, as); });
      EXPECT_TRUE(expected == got) << dtype_name(as);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, EveryKernel, testing::ValuesIn(available_kernels()),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace ballast::quant
