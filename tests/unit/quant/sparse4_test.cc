#include <algorithm>
#include <bit>
#include <cfloat>

#include "proto/base/limits.h"
#include "quant/ec4.h"
#include "quant/prune.h"
#include "tests/unit/quant/helpers.h"

namespace ballast::quant {
namespace {

constexpr std::array<const char*, 3> kPresets{"sparse4:group=16", "sparse4", "sparse4:group=64"};
constexpr std::array<DType, 3> kFloats{DType::kF32, DType::kF16, DType::kBF16};

std::vector<float> pruned(std::string_view prune, std::vector<float> values) {
  const uint64_t columns = 1024;
  const std::vector<uint64_t> shape{values.size() / columns, columns};
  const auto bytes = std::as_writable_bytes(std::span(values));
  auto planner = PrunePlanner::create(parse_prune(prune).value(), DType::kF32, shape).value();
  while (planner.wants_pass()) planner.add(bytes);
  std::move(planner).finish().apply(0, bytes);
  return values;
}

struct Quality {
  double ratio;  // to f32, everything counted
  double db;
};

Quality quality(std::string_view name, const std::vector<float>& values) {
  const EncodedBlock block = encode(codec(name), DType::kF32, bytes_of(values));
  const std::vector<float> decoded = decode_floats(encode_floats(name, values));
  double signal = 0;
  double noise = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    signal += double{values[i]} * values[i];
    noise += (double{values[i]} - decoded[i]) * (double{values[i]} - decoded[i]);
    EXPECT_FALSE(values[i] == 0 && (decoded[i] != 0 || std::signbit(decoded[i])));
  }
  const double db = 10 * std::log10(signal / noise);
  EXPECT_NEAR(error_report(block.error).sqnr_db, db, 0.001);
  return {
      static_cast<double>(values.size() * sizeof(float)) / static_cast<double>(block.bytes.size()),
      db};
}

TEST(Sparse4, size_and_quality_of_pruned_values) {
  const std::vector<float> values = normal_values(4 * limits::kChunkValues);
  struct Case {
    const char* prune;
    double ratio;
    double db;
  };
  for (const Case& c : {Case{"2:4", 10.2, 23.7}, Case{"magnitude:0.5", 10.2, 25.0},
                        Case{"magnitude:0.8", 22, 26}, Case{"magnitude:0.9", 38, 26.5}}) {
    const Quality got = quality("sparse4", pruned(c.prune, values));
    EXPECT_GE(got.ratio, c.ratio) << c.prune;
    EXPECT_GE(got.db, c.db) << c.prune;
  }
  EXPECT_GE(quality("sparse4:group=16", pruned("2:4", values)).ratio, 9.8);
}

TEST(Sparse4, quality_of_heavy_tails) {
  Random random(2);
  std::vector<float> values(2 * limits::kChunkValues);
  for (float& value : values) value = static_cast<float>(random.student4());
  EXPECT_GE(quality("sparse4", pruned("2:4", values)).db, 21.4);
  EXPECT_GE(quality("sparse4", pruned("magnitude:0.5", values)).db, 21.6);
  EXPECT_GE(quality("sparse4", pruned("magnitude:0.8", values)).db, 22.5);
  EXPECT_GE(quality("sparse4", pruned("magnitude:0.9", values)).db, 22.5);
  EXPECT_GE(quality("sparse4", pruned("magnitude:0.9", values)).ratio, 38);
}

// What the values but for the one at `place` lose.
double db_of_others(const std::vector<float>& values, size_t place) {
  std::vector<float> decoded = decode_floats(encode_floats("sparse4", values));
  decoded[place] = values[place];
  double signal = 0;
  double noise = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    signal += i == place ? 0 : double{values[i]} * values[i];
    noise += (double{values[i]} - decoded[i]) * (double{values[i]} - decoded[i]);
  }
  return 10 * std::log10(signal / noise);
}

// It raises the root mean square, but no step that suits it may cost the others.
TEST(Sparse4, a_huge_value_does_not_cost_the_others) {
  std::vector<float> values = sparse_values(limits::kChunkValues, 0.05, 1);
  for (const float huge : {50.0f, 500.0f, 1e4f, 1e10f, 1e25f, 1e38f}) {
    values[100] = huge;
    EXPECT_GE(db_of_others(values, 100), 18) << huge;
  }
}

// A second decoder, from docs/formats/sparse4.md alone.
class ByThePage {
 public:
  explicit ByThePage(const ByteVector& block) : block_(block) {}

  std::vector<float> decode() {
    const auto total = number<uint64_t>(16);
    const uint64_t chunks = (total + 131071) / 131072;
    size_t at = 64 + 4 * chunks;
    for (uint64_t chunk = 0; chunk < chunks; ++chunk) {
      decode_chunk(at, std::min<uint64_t>(131072, total - chunk * 131072));
      at += number<uint32_t>(64 + 4 * chunk);
    }
    EXPECT_EQ(at, block_.size());
    return values_;
  }

 private:
  template <class T>
  T number(size_t at) const {
    T value;
    std::memcpy(&value, &block_[at], sizeof value);
    return value;
  }
  uint32_t byte(size_t at) const { return std::to_integer<uint32_t>(block_[at]); }

  void decode_chunk(size_t at, size_t n) {
    if (number<uint32_t>(at) == 0) {
      values_.resize(values_.size() + n);
      return;
    }
    ASSERT_EQ(number<uint32_t>(at), 1U);
    const size_t group = byte(8);
    const size_t bitmap = at + 8;
    const size_t scales = bitmap + (n + 63) / 64 * 8;
    const size_t codes = scales + (number<uint32_t>(at + 4) + 63) / 64 * (64 / group);
    size_t kept = 0;
    for (size_t i = 0; i < n; ++i) {
      float value = 0;
      if ((byte(bitmap + i / 8) >> i % 8 & 1) != 0) {
        const uint32_t pair = byte(codes + kept / 64 * 32 + kept % 32);
        const uint32_t scale = byte(scales + kept / group);
        const auto k = static_cast<int>(scale % 128);
        const auto fraction = static_cast<float>(std::pow(2.0, -(k % 16) / 16.0));
        const float magnitude = k == 127 ? 0 : std::ldexp(number<float>(12) * fraction, -(k / 16));
        const int entry = static_cast<int8_t>(byte(24 + (kept % 64 < 32 ? pair & 15 : pair >> 4)));
        value = magnitude * static_cast<float>(scale >= 128 ? -entry : entry);
        ++kept;
      }
      values_.push_back(value);
    }
    EXPECT_EQ(kept, number<uint32_t>(at + 4));
  }

  const ByteVector& block_;
  std::vector<float> values_;
};

TEST(Sparse4, decodes_as_the_page_says) {
  for (const char* name : kPresets) {
    for (const size_t count : {1, 63, 65, 1000, 131'072 + 77}) {
      const ByteVector block = encode_floats(name, sparse_values(count, 0.4, count));
      EXPECT_EQ(decode_floats(block), ByThePage(block).decode()) << name << " " << count;
    }
  }
}

uint32_t mode_of_first_chunk(const ByteVector& block) {
  const uint64_t values = inspect_block(block).value().values;
  const uint64_t chunks = (values + limits::kChunkValues - 1) / limits::kChunkValues;
  return std::to_integer<uint32_t>(block[kBlockHeaderBytes + 4 * chunks]);
}

TEST(Sparse4, few_values_are_a_chunk_of_ec4) {
  const size_t count = 60'000;
  EXPECT_EQ(mode_of_first_chunk(encode_floats("sparse4", sparse_values(count, 0.3, 1))), 1U);
  const ByteVector block = encode_floats("sparse4", sparse_values(count, 0.15, 1));
  ASSERT_EQ(mode_of_first_chunk(block), 2U);
  Ec4Parameters parameters;
  std::memcpy(&parameters.step, &block[kBlockHeaderBytes + 8], sizeof parameters.step);
  std::vector<float> decoded(count);
  const Status status =
      decode_ec4_chunk(parameters, std::span(block).subspan(kBlockHeaderBytes + 12), count,
                       DType::kF32, std::as_writable_bytes(std::span(decoded)).data(), false);
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(decode_floats(block), decoded);
}

TEST(Sparse4, the_example_of_the_page) {
  const ByteVector block = encode_floats("sparse4", {0, 1, 0, -2, 0, 0, 3, 0});
  ASSERT_EQ(block.size(), 118U);
  const std::vector<uint8_t> payload{0x32, 0, 0, 0, 1, 0, 0, 0,    3,    0,    0,    0,    0x4a,
                                     0,    0, 0, 0, 0, 0, 0, 0x84, 0x7f, 0x84, 0x8e, 0x80, 0x88};
  EXPECT_TRUE(std::ranges::equal(std::as_bytes(std::span(payload)),
                                 std::span(block).subspan(kBlockHeaderBytes, payload.size())));
  EXPECT_EQ(decode_floats(block),
            (std::vector<float>{0, 0x1.2850a2p+0f, 0, -0x1.010204p+1f, 0, 0, 3, 0}));
}

TEST(Sparse4, blocks_have_the_values_that_the_page_says) {
  EXPECT_EQ(values_per_block(codec("sparse4:group=16"), DType::kF32), 2'490'368U);
  EXPECT_EQ(values_per_block(codec("sparse4"), DType::kF16), 2'621'440U);
  EXPECT_EQ(values_per_block(codec("sparse4:group=64"), DType::kF32), 2'621'440U);
}

TEST(Sparse4, slices_equal_the_whole) {
  const size_t count = 2 * limits::kChunkValues + 1234;
  Random random(7);
  for (const double density : {0.02, 0.5, 1.0}) {
    const ByteVector block = encode_floats("sparse4", sparse_values(count, density, 3));
    for (const DType as : kFloats) {
      const ByteVector whole = decode_bytes(block, as);
      for (int i = 0; i < 60; ++i) {
        const uint64_t first =
            i < 30 ? limits::kChunkValues - random.below(200) : random.below(count);
        const uint64_t length = random.below(std::min<uint64_t>(count - first, 70'000) + 1);
        const ByteVector part = decode_range(block, first, length, as);
        const auto* expected = whole.data() + first * dtype_bytes(as);
        ASSERT_TRUE(std::equal(part.begin(), part.end(), expected)) << first << " " << length;
      }
    }
  }
}

TEST(Sparse4, narrower_reads_round_the_f32_read) {
  for (const char* name : kPresets) {
    const ByteVector block = encode_floats(name, sparse_values(10'000, 0.5, 1));
    const ByteVector plain = encode_floats("f32", decode_floats(block));
    for (const DType as : kFloats) EXPECT_EQ(decode_bytes(block, as), decode_bytes(plain, as));
    ByteVector out(40'000);
    EXPECT_EQ(decode_block(block, 0, 10'000, DType::kI32, out).error().code,
              Errc::kInvalidArgument);
  }
}

TEST(Sparse4, sources_of_16_bits_are_encoded_as_their_f32) {
  for (const DType source : {DType::kF16, DType::kBF16}) {
    const ByteVector halves =
        decode_bytes(encode_floats("f32", sparse_values(10'000, 0.5, 1)), source);
    const std::vector<float> exact = decode_floats(encode_bytes(codec("raw"), source, halves));
    const ByteVector block = encode_bytes(codec("sparse4"), source, halves);
    EXPECT_EQ(inspect_block(block)->source, source);
    EXPECT_EQ(decode_floats(block), decode_floats(encode_floats("sparse4", exact)));
  }
}

TEST(Sparse4, needs_no_alignment) {
  const std::vector<float> values = sparse_values(1000, 0.5, 1);
  const ByteVector block = encode_floats("sparse4", values);
  for (const DType as : kFloats) {
    const ByteVector whole = decode_bytes(block, as);
    ByteVector shifted(whole.size() + 1);
    ASSERT_TRUE(decode_block(block, 0, 1000, as, std::span(shifted).subspan(1)).has_value());
    EXPECT_TRUE(std::equal(whole.begin(), whole.end(), shifted.begin() + 1));
  }
  ByteVector source(values.size() * sizeof(float) + 1);
  std::memcpy(source.data() + 1, values.data(), values.size() * sizeof(float));
  EXPECT_EQ(encode_bytes(codec("sparse4"), DType::kF32, std::span(source).subspan(1)), block);
}

TEST(Sparse4, zeros_cost_nothing) {
  EXPECT_EQ(encode_floats("sparse4", {}).size(), kBlockHeaderBytes);
  EXPECT_TRUE(decode_floats(encode_floats("sparse4", {})).empty());
  std::vector<float> zeros(limits::kChunkValues + 5, 0.0f);
  zeros[7] = -0.0f;
  const ByteVector block = encode_floats("sparse4", zeros);
  EXPECT_EQ(block.size(), kBlockHeaderBytes + 2 * (4 + 4));
  for (const float value : decode_floats(block)) ASSERT_FALSE(value != 0 || std::signbit(value));
  const ErrorSums error = encode(codec("sparse4"), DType::kF32, bytes_of(zeros)).error;
  EXPECT_EQ(error.signal_energy + error.decoded_energy + error.noise_energy, 0);
}

TEST(Sparse4, single_and_constant_values_are_nearly_exact) {
  for (const float value : {1.0f, -3.7f, 1e-20f, 1e30f, FLT_MAX, -FLT_MAX}) {
    for (const size_t count : {1, 333}) {
      const std::vector<float> values(count, value);
      for (const float decoded : decode_floats(encode_floats("sparse4", values))) {
        EXPECT_NEAR(decoded / value, 1, 0.02) << value;
      }
    }
  }
}

class Sparse4AtDensity : public testing::TestWithParam<double> {};

TEST_P(Sparse4AtDensity, special_values_do_not_spread) {
  std::vector<float> values = sparse_values(4096, GetParam(), 1);
  values[100] = NAN;
  values[200] = INFINITY;
  values[300] = -INFINITY;
  values[400] = FLT_TRUE_MIN;
  values[500] = -0.0f;
  const EncodedBlock block = encode(codec("sparse4"), DType::kF32, bytes_of(values));
  const std::vector<float> decoded = decode_floats(encode_floats("sparse4", values));
  EXPECT_EQ(decoded[100], 0);
  EXPECT_GT(decoded[200], 1);
  EXPECT_LT(decoded[300], -1);
  EXPECT_EQ(decoded[400], 0);
  EXPECT_FALSE(decoded[500] != 0 || std::signbit(decoded[500]));
  for (const float value : decoded) EXPECT_TRUE(std::isfinite(value));
  EXPECT_GE(error_report(block.error).sqnr_db, 21);
  const std::vector<float> useless(1000, NAN);
  for (const float value : decode_floats(encode_floats("sparse4", useless))) EXPECT_EQ(value, 0);
  const std::vector<float> infinite(1000, INFINITY);
  for (const float value : decode_floats(encode_floats("sparse4", infinite))) EXPECT_EQ(value, 0);
}

INSTANTIATE_TEST_SUITE_P(Densities, Sparse4AtDensity, testing::Values(0.1, 0.5, 1.0));

// --- blocks that nobody should trust ---

constexpr size_t kFirstChunk = kBlockHeaderBytes + 4;

Status decode_all(const ByteVector& block, size_t values) {
  std::vector<float> out(values);
  return decode_block(block, 0, values, DType::kF32, std::as_writable_bytes(std::span(out)));
}

TEST(Sparse4, damaged_chunks_are_corrupt) {
  const size_t count = 5000;
  const ByteVector good = encode_floats("sparse4", sparse_values(count, 0.5, 1));
  ASSERT_TRUE(decode_all(good, count).has_value());
  const auto expect_corrupt = [&](size_t at, std::byte byte) {
    ByteVector block = good;
    block[at] = byte;
    const Status status = decode_all(block, count);
    ASSERT_FALSE(status.has_value()) << at;
    EXPECT_EQ(status.error().code, Errc::kCorrupt);
  };
  expect_corrupt(kFirstChunk, std::byte{0});  // the mode of a chunk of zeros, which is shorter
  expect_corrupt(kFirstChunk, std::byte{9});
  expect_corrupt(kFirstChunk + 3, std::byte{1});
  expect_corrupt(kFirstChunk + 5, std::byte{0});  // the count of kept values
  expect_corrupt(kFirstChunk + 7, std::byte{0xff});
  expect_corrupt(kBlockHeaderBytes, std::byte{1});  // the chunk's length

  // A bitmap that keeps more than there is.
  ByteVector block = good;
  std::fill_n(block.begin() + kFirstChunk + 8, 400, std::byte{0xff});
  EXPECT_EQ(decode_all(block, count).error().code, Errc::kCorrupt);
  std::vector<float> out(10);
  EXPECT_EQ(decode_block(block, 4990, 10, DType::kF32, std::as_writable_bytes(std::span(out)))
                .error()
                .code,
            Errc::kCorrupt);
}

TEST(Sparse4, damaged_entropy_chunks_are_corrupt) {
  const size_t count = 5000;
  const ByteVector good = encode_floats("sparse4", sparse_values(count, 0.1, 1));
  ASSERT_EQ(mode_of_first_chunk(good), 2U);
  for (const float step : {0.0f, -1.0f, NAN, INFINITY, 0x1p-121f, FLT_MAX}) {
    ByteVector block = good;
    std::memcpy(&block[kFirstChunk + 4], &step, sizeof step);
    EXPECT_EQ(decode_all(block, count).error().code, Errc::kCorrupt) << step;
  }
  for (const size_t length : {4, 7, 8, 20}) {
    ByteVector block(good.begin(), good.begin() + kFirstChunk + length);
    block[kBlockHeaderBytes] = static_cast<std::byte>(length);
    block[kBlockHeaderBytes + 1] = {};
    EXPECT_EQ(decode_all(block, count).error().code, Errc::kCorrupt) << length;
  }
}

// As many values as a block never has would make a reader with little memory fail.
TEST(Sparse4, a_block_of_too_many_values_is_corrupt) {
  const uint64_t limit = values_per_block(codec("sparse4"), DType::kF32);
  const ByteVector block = encode_floats("sparse4", std::vector<float>(limit, 0.0f));
  EXPECT_EQ(inspect_block(block)->values, limit);
  const uint64_t chunks = limit / limits::kChunkValues;
  ByteVector larger(kBlockHeaderBytes + 8 * (chunks + 1));
  std::copy_n(block.begin(), kBlockHeaderBytes, larger.begin());
  for (size_t i = 0; i <= chunks; ++i) larger[kBlockHeaderBytes + 4 * i] = std::byte{4};
  const BlockHeader header = read_header(block).value();
  BlockHeader changed = header;
  changed.values = limit + 1;
  write_header(changed, std::span(larger).first<kBlockHeaderBytes>());
  const Result<BlockInfo> info = inspect_block(larger);
  ASSERT_FALSE(info.has_value());
  EXPECT_EQ(info.error().code, Errc::kCorrupt);
}

TEST(Sparse4, a_full_block_without_a_zero_fits) {
  const uint64_t limit = values_per_block(codec("sparse4:group=16"), DType::kF32);
  const std::vector<float> values(limit, 1.0f);
  EXPECT_LE(encode_floats("sparse4:group=16", values).size(), limits::kBlockBytesMax);
}

}  // namespace
}  // namespace ballast::quant
