#include "quant/lossless.h"

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "proto/base/limits.h"
#include "quant/chunk_table.h"
#include "tests/unit/quant/helpers.h"

namespace ballast::quant {
namespace {

constexpr std::array<DType, 3> kFloats{DType::kF32, DType::kF16, DType::kBF16};

ByteVector as_dtype(const std::vector<float>& values, DType dtype) {
  return decode_bytes(encode_floats("f32", values), dtype);
}

ByteVector lossless(DType source, std::span<const std::byte> values) {
  return encode_bytes(codec("lossless"), source, values);
}

ByteVector delta(DType source, std::span<const std::byte> values, std::span<const std::byte> base) {
  const auto encoder = TensorEncoder::create(codec("lossless"), source, {}).value();
  EncodedBlock block = encoder->encode_delta(values, base).value();
  return {block.bytes.span().begin(), block.bytes.span().end()};
}

Result<ByteVector> decode_delta(std::span<const std::byte> block, std::span<const std::byte> base) {
  BALLAST_TRY(const BlockInfo info, inspect_block(block));
  ByteVector out(info.values * dtype_bytes(info.source));
  BALLAST_TRY_STATUS(decode_block(block, 0, info.values, info.source, out, base));
  return out;
}

// What the encoding is smaller than the values by, of at most as many values as a block takes.
double ratio(const ByteVector& block, std::span<const std::byte> values) {
  return static_cast<double>(block.size()) / static_cast<double>(values.size());
}

ChunkMode mode_of(const ByteVector& block) {
  return static_cast<ChunkMode>(block[kBlockHeaderBytes + 4]);
}

// Exponents of every frequency: some without a symbol of their own.
std::vector<float> wide_values(size_t count) {
  Random random(count);
  std::vector<float> values(count);
  for (float& value : values) {
    const auto octave = static_cast<int>(random.normal() * 12);
    value = std::ldexp(static_cast<float>(1 + random.uniform()), octave);
  }
  return values;
}

constexpr size_t kCounts[] = {0, 1, 2, 63, 255, 257, 4095, 4097, 70'001, 131'072, 131'073, 200'000};

TEST(Lossless, keeps_every_bit) {
  for (const DType source : kFloats) {
    for (const size_t count : kCounts) {
      for (const ByteVector& values :
           {as_dtype(normal_values(count), source), as_dtype(wide_values(count), source),
            random_bytes(count * dtype_bytes(source), count), ByteVector(count * 4)}) {
        const ByteVector whole(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(
                                                                    count * dtype_bytes(source)));
        ASSERT_EQ(decode_bytes(lossless(source, whole), source), whole)
            << dtype_name(source) << " " << count;
      }
    }
  }
}

// Every f16 and bf16 that there is, the NaNs among them.
TEST(Lossless, keeps_every_value_of_16_bits) {
  std::vector<uint16_t> all(65'536);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i * 12'345);
  for (const DType source : {DType::kF16, DType::kBF16}) {
    EXPECT_EQ(vector_of<uint16_t>(decode_bytes(lossless(source, bytes_of(all)), source)), all);
  }
}

TEST(Lossless, size_of_normal_values) {
  const std::vector<float> values = normal_values(200'000);
  const auto of = [&](DType source) {
    const ByteVector bytes = as_dtype(values, source);
    return ratio(lossless(source, bytes), bytes);
  };
  EXPECT_LE(of(DType::kBF16), 0.665);
  EXPECT_LE(of(DType::kF32), 0.835);
  EXPECT_LE(of(DType::kF16), 0.850);
}

// The f32 tensors of the real file that have at least two dimensions, one after the other.
std::vector<float> real_weights() {
  std::ifstream file(BALLAST_TEST_DATA_DIR "/silero_vad_16k.safetensors", std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  uint64_t length = 0;
  EXPECT_GT(text.size(), sizeof length);
  std::memcpy(&length, text.data(), sizeof length);
  std::vector<float> weights;
  for (const auto& [name, tensor] :
       nlohmann::json::parse(text.substr(sizeof length, length)).items()) {
    if (name == "__metadata__" || tensor["shape"].size() < 2) continue;
    const size_t begin = tensor["data_offsets"][0];
    const size_t end = tensor["data_offsets"][1];
    std::vector<float> values((end - begin) / sizeof(float));
    std::memcpy(values.data(), text.data() + sizeof length + length + begin, end - begin);
    weights.insert(weights.end(), values.begin(), values.end());
  }
  weights.resize(std::min<size_t>(weights.size(), 2 * limits::kChunkValues));
  return weights;
}

TEST(Lossless, size_of_real_weights) {
  const std::vector<float> weights = real_weights();
  ASSERT_GT(weights.size(), limits::kChunkValues);
  for (const auto& [source, most] :
       {std::pair(DType::kBF16, 0.70), {DType::kF32, 0.86}, {DType::kF16, 0.88}}) {
    const ByteVector bytes = as_dtype(weights, source);
    const ByteVector block = lossless(source, bytes);
    EXPECT_LE(ratio(block, bytes), most) << dtype_name(source);
    EXPECT_EQ(decode_bytes(block, source), bytes);
  }
}

TEST(Lossless, f32_that_was_bf16_costs_no_more_than_bf16) {
  const ByteVector halves = as_dtype(normal_values(200'000), DType::kBF16);
  const std::vector<float> widened =
      decode_floats(encode_bytes(codec("raw"), DType::kBF16, halves));
  const ByteVector block = lossless(DType::kF32, bytes_of(widened));
  EXPECT_LE(block.size(), lossless(DType::kBF16, halves).size());
  EXPECT_EQ(decode_floats(block), widened);
}

TEST(Lossless, one_value_over_and_over_takes_its_own_bytes) {
  for (const float value : {0.0f, -0.0f, 1.5f, static_cast<float>(NAN)}) {
    const std::vector<float> values(200'000, value);
    const ByteVector block = lossless(DType::kF32, bytes_of(values));
    EXPECT_EQ(block.size(), kBlockHeaderBytes + 2 * (4 + 1 + 4));
    EXPECT_EQ(decode_bytes(block, DType::kF32),
              ByteVector(bytes_of(values).begin(), bytes_of(values).end()));
  }
}

TEST(Lossless, noise_is_stored_as_it_is) {
  for (const DType source : kFloats) {
    const uint64_t values = values_per_block(codec("lossless"), source);
    const ByteVector noise = random_bytes(values * dtype_bytes(source), 3);
    const ByteVector block = lossless(source, noise);
    EXPECT_LE(block.size(), kBlockHeaderBytes + noise.size() + 5 * chunks_for(values));
    EXPECT_LE(block.size(), limits::kBlockBytesMax);
  }
}

TEST(Lossless, other_dtypes_are_conversions_of_the_values) {
  for (const DType source : kFloats) {
    for (const ByteVector& values :
         {as_dtype(wide_values(10'000), source), random_bytes(10'000 * dtype_bytes(source), 4)}) {
      const ByteVector block = lossless(source, values);
      const ByteVector plain = encode_bytes(codec("raw"), source, values);
      for (const DType as : kFloats) EXPECT_EQ(decode_bytes(block, as), decode_bytes(plain, as));
      ByteVector out(80'000);
      EXPECT_EQ(decode_block(block, 0, 10'000, DType::kI64, out).error().code,
                Errc::kInvalidArgument);
    }
  }
}

TEST(Lossless, slices_equal_the_whole_at_any_alignment) {
  const size_t count = 2 * limits::kChunkValues - 77;
  for (const DType source : kFloats) {
    const ByteVector values = as_dtype(wide_values(count), source);
    const ByteVector block = lossless(source, values);
    Random random(7);
    for (int i = 0; i < 20; ++i) {
      const uint64_t first =
          i < 10 ? limits::kChunkValues - random.below(200) : random.below(count);
      const uint64_t length = random.below(count - first + 1);
      ByteVector part(length * dtype_bytes(source) + 1);
      ASSERT_TRUE(decode_block(block, first, length, source, std::span(part).subspan(1)));
      EXPECT_TRUE(
          std::equal(part.begin() + 1, part.end(),
                     values.begin() + static_cast<std::ptrdiff_t>(first * dtype_bytes(source))));
    }
  }
}

TEST(Lossless, the_error_report_says_that_nothing_was_lost) {
  const std::vector<float> values{3, -4, NAN, 0};
  const ErrorSums sums = encode(codec("lossless"), DType::kF32, bytes_of(values)).error;
  EXPECT_EQ(sums.signal_energy, 25);
  EXPECT_EQ(sums.decoded_energy, 25);
  EXPECT_EQ(sums.noise_energy, 0);
  EXPECT_EQ(sums.max_abs_error, 0);
  EXPECT_TRUE(codec_is_exact(codec("lossless"), DType::kBF16));
}

// The page shows these bytes.
TEST(Lossless, the_example_of_the_page) {
  std::vector<float> values(256, 1);
  for (size_t i = 0; i < values.size(); i += 4) values[i] = 2;
  const ByteVector block = lossless(DType::kBF16, as_dtype(values, DType::kBF16));
  EXPECT_EQ(block.size(), 417U);
  EXPECT_EQ(sha256(block).brief(), "42b52ce0c150");
  EXPECT_EQ(decode_floats(block), values);
}

// --- differences ---

std::vector<float> moved(std::vector<float> values, double share, double noise) {
  Random random(17);
  for (float& value : values) {
    if (random.uniform() < share) value += static_cast<float>(random.normal() * noise);
  }
  return values;
}

TEST(LosslessDelta, keeps_every_bit) {
  for (const DType source : kFloats) {
    for (const size_t count : kCounts) {
      const size_t bytes = count * dtype_bytes(source);
      const ByteVector base = as_dtype(normal_values(count), source);
      for (const ByteVector& values :
           {base, as_dtype(moved(normal_values(count), 1, 1e-3), source),
            as_dtype(moved(normal_values(count), 0.01, 1), source), random_bytes(bytes, 1)}) {
        const ByteVector block = delta(source, values, base);
        ASSERT_EQ(decode_delta(block, base).value(), values) << dtype_name(source) << " " << count;
      }
    }
    const ByteVector any = random_bytes(5000 * dtype_bytes(source), 2);
    ByteVector near = any;
    for (size_t i = 0; i < near.size(); i += dtype_bytes(source)) near[i] ^= std::byte{3};
    EXPECT_EQ(decode_delta(delta(source, near, any), any).value(), near);
  }
}

// Neighbours in the order of the numbers are one apart, whatever their signs and exponents.
TEST(LosslessDelta, the_next_float_is_a_small_difference) {
  std::vector<float> base = wide_values(10'000);
  for (size_t i = 0; i < base.size(); i += 2) base[i] = -base[i];
  base[10] = 0;
  std::vector<float> values = base;
  Random random(1);
  for (float& value : values) value = std::nextafter(value, random.below(2) == 0 ? -9e9f : 9e9f);
  const ByteVector block = delta(DType::kF32, bytes_of(values), bytes_of(base));
  EXPECT_LE(ratio(block, bytes_of(values)), 0.04);
  EXPECT_EQ(vector_of<float>(decode_delta(block, bytes_of(base)).value()), values);
}

TEST(LosslessDelta, size) {
  const std::vector<float> base = normal_values(2 * limits::kChunkValues);
  const auto of = [&](DType source, double share, double noise) {
    const ByteVector before = as_dtype(base, source);
    const ByteVector after = as_dtype(moved(base, share, noise), source);
    return ratio(delta(source, after, before), after);
  };
  EXPECT_LE(of(DType::kBF16, 1, 1e-3), 0.15);
  EXPECT_LE(of(DType::kBF16, 0.01, 1e-3), 0.01);
  EXPECT_LE(of(DType::kF32, 0.01, 1e-3), 0.015);
  EXPECT_LE(of(DType::kF32, 0.01, 1), 0.02);
  EXPECT_LE(of(DType::kF16, 1, 1e-3), 0.30);
}

TEST(LosslessDelta, what_did_not_change_takes_a_byte_for_a_chunk) {
  const ByteVector values = as_dtype(normal_values(200'000), DType::kBF16);
  EXPECT_EQ(delta(DType::kBF16, values, values).size(), kBlockHeaderBytes + 2 * 5);
}

TEST(LosslessDelta, an_unrelated_base_costs_nothing) {
  const ByteVector values = as_dtype(normal_values(100'000, 1), DType::kBF16);
  const ByteVector base = as_dtype(normal_values(100'000, 2), DType::kBF16);
  const ByteVector block = delta(DType::kBF16, values, base);
  EXPECT_EQ(mode_of(block), ChunkMode::kExponents);
  EXPECT_EQ(block.size(), lossless(DType::kBF16, values).size());
  EXPECT_EQ(decode_delta(block, base).value(), values);
}

TEST(LosslessDelta, slices_and_other_dtypes_need_the_whole_base) {
  const size_t count = limits::kChunkValues + 1000;
  const ByteVector base = as_dtype(normal_values(count), DType::kBF16);
  const ByteVector values = as_dtype(moved(normal_values(count), 1, 1e-2), DType::kBF16);
  const ByteVector block = delta(DType::kBF16, values, base);
  const ByteVector plain = encode_bytes(codec("raw"), DType::kBF16, values);
  for (const DType as : kFloats) {
    ByteVector out(2000 * dtype_bytes(as));
    ASSERT_TRUE(decode_block(block, limits::kChunkValues - 1500, 2000, as, out, base));
    EXPECT_EQ(out, decode_range(plain, limits::kChunkValues - 1500, 2000, as));
  }
}

TEST(LosslessDelta, the_example_of_the_page) {
  const std::vector<uint16_t> base(256, 0x3f80);
  std::vector<uint16_t> values = base;
  for (size_t i = 0; i < values.size(); i += 4) {
    values[i] = static_cast<uint16_t>(0x3f80 + (i % 8 != 0 ? 1 : i % 64 != 0 ? -1 : -5));
  }
  const ByteVector block = delta(DType::kBF16, bytes_of(values), bytes_of(base));
  EXPECT_EQ(block.size(), 189U);
  EXPECT_EQ(sha256(block).brief(), "dd6aac722a25");
  EXPECT_EQ(vector_of<uint16_t>(decode_delta(block, bytes_of(base)).value()), values);
}

TEST(LosslessDelta, the_header_names_the_base) {
  const ByteVector base = as_dtype(normal_values(100), DType::kF32);
  EXPECT_EQ(inspect_block(delta(DType::kF32, base, base))->base, sha256(base));
  EXPECT_EQ(inspect_block(lossless(DType::kF32, base))->base, std::nullopt);
  EXPECT_EQ(inspect_block(delta(DType::kF32, {}, {}))->base, sha256({}));
}

TEST(LosslessDelta, another_base_is_refused) {
  const ByteVector base = as_dtype(normal_values(1000), DType::kF32);
  const ByteVector block = delta(DType::kF32, as_dtype(normal_values(1000, 5), DType::kF32), base);
  ByteVector other = base;
  other.back() ^= std::byte{1};
  for (const auto& [given, part] : std::vector<std::pair<std::span<const std::byte>, std::string>>{
           {other, sha256(other).brief()},
           {{}, "0 were given"},
           {std::span(base).first(3996), "3996 were given"}}) {
    const auto refused = decode_delta(block, given);
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, Errc::kInvalidArgument);
    EXPECT_NE(refused.error().message.find(part), std::string::npos) << refused.error().message;
    EXPECT_NE(refused.error().message.find(sha256(base).brief()), std::string::npos);
  }
  const auto encoder = TensorEncoder::create(codec("lossless"), DType::kF32, {}).value();
  EXPECT_EQ(encoder->encode_delta(base, std::span(base).first(3996)).error().code,
            Errc::kInvalidArgument);
  const auto int8 = TensorEncoder::create(codec("int8"), DType::kF32, {}).value();
  EXPECT_EQ(int8->encode_delta(base, base).error().code, Errc::kInvalidArgument);
}

// --- damage ---

// A block of one chunk of `values` values, written by whoever.
ByteVector block_of(DType source, uint64_t values, const ByteVector& chunk, bool with_base) {
  BlockHeader header{.codec = codec("lossless"), .source = source, .values = values};
  if (with_base) {
    std::ranges::copy(sha256(ByteVector(values * dtype_bytes(source))).bytes,
                      header.parameters.begin());
    header.parameters[Digest::kSize] = std::byte{1};
  }
  const MutableBytes block = write_chunks(header, std::span(&chunk, 1));
  const auto* bytes = const_cast<MutableBytes&>(block).data();
  return {bytes, bytes + block.size()};
}

// A chunk's bytes, as a block of it holds them.
ByteVector chunk_of(const ByteVector& block) {
  return {block.begin() + kBlockHeaderBytes + 4, block.end()};
}

void expect_corrupt(DType source, uint64_t values, const ByteVector& chunk, bool with_base,
                    std::string_view what) {
  const ByteVector block = block_of(source, values, chunk, with_base);
  const ByteVector base(values * dtype_bytes(source));
  const auto decoded = decode_delta(block, base);
  ASSERT_FALSE(decoded.has_value()) << what;
  EXPECT_EQ(decoded.error().code, Errc::kCorrupt) << what;
}

TEST(LosslessDamage, every_cut_and_every_addition_is_corrupt) {
  for (const DType source : kFloats) {
    const size_t count = 3000;
    const ByteVector zeros(count * dtype_bytes(source));
    const ByteVector values = as_dtype(wide_values(count), source);
    const ByteVector near = as_dtype(moved(std::vector<float>(count), 0.1, 1), source);
    for (const ByteVector& good :
         {chunk_of(lossless(source, values)), chunk_of(lossless(source, zeros)),
          chunk_of(delta(source, near, zeros)), chunk_of(delta(source, zeros, zeros)),
          chunk_of(lossless(source, random_bytes(count * dtype_bytes(source), 1)))}) {
      EXPECT_TRUE(decode_delta(block_of(source, count, good, true), zeros).has_value());
      for (size_t length = 0; length < good.size(); length += 1 + length / 50) {
        const ByteVector cut(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(length));
        expect_corrupt(source, count, cut, true, fmt::format("{} of {}", length, good.size()));
      }
      ByteVector longer = good;
      longer.push_back({});
      expect_corrupt(source, count, longer, true, "longer");
    }
  }
}

TEST(LosslessDamage, every_rule_of_a_chunk_holds) {
  const size_t count = 3000;
  const auto change = [&](ByteVector chunk, size_t at, int to) {
    chunk[at] = static_cast<std::byte>(to);
    return chunk;
  };
  const ByteVector f32 = chunk_of(lossless(DType::kF32, as_dtype(wide_values(count), DType::kF32)));
  ASSERT_EQ(f32[2], std::byte{31});
  expect_corrupt(DType::kF32, count, change(f32, 0, 5), false, "mode");
  expect_corrupt(DType::kF32, count, change(f32, 1, 2), false, "flags");
  expect_corrupt(DType::kF32, count, change(f32, 2, 32), false, "ranks");
  ByteVector fewer = f32;  // one exponent without symbol less than the symbols announce
  uint32_t escapes = 0;
  std::memcpy(&escapes, &fewer[34], sizeof escapes);
  ASSERT_GT(escapes, 0U);
  --escapes;
  std::memcpy(&fewer[34], &escapes, sizeof escapes);
  fewer.erase(fewer.begin() + 38 + 3 * count);
  expect_corrupt(DType::kF32, count, fewer, false, "escapes");
  const ByteVector bf16 =
      chunk_of(lossless(DType::kBF16, as_dtype(wide_values(count), DType::kBF16)));
  expect_corrupt(DType::kBF16, count, change(bf16, 1, 1), false, "flags");

  const ByteVector zeros(count * 2);
  const ByteVector near = as_dtype(moved(std::vector<float>(count), 0.1, 1), DType::kBF16);
  const ByteVector differences = chunk_of(delta(DType::kBF16, near, zeros));
  ASSERT_EQ(differences[0], std::byte{4});
  expect_corrupt(DType::kBF16, count, differences, false, "no base");
  expect_corrupt(DType::kBF16, count, ByteVector{std::byte{3}}, false, "no base");
  expect_corrupt(DType::kBF16, count, change(differences, 1, 0), true, "no class");
  expect_corrupt(DType::kBF16, count, change(differences, 1, 33), true, "33 classes");
  expect_corrupt(DType::kBF16, count, change(differences, 2, 17), true, "17 extra bits");
  expect_corrupt(DType::kBF16, count, change(differences, 2, 1), true, "bits that are not there");
}

TEST(LosslessDamage, any_flipped_bit_is_an_error_or_gives_values) {
  for (const DType source : kFloats) {
    const size_t count = 2000;
    const ByteVector zeros(count * dtype_bytes(source));
    const ByteVector near = as_dtype(moved(std::vector<float>(count), 0.5, 1), source);
    Random random(5);
    for (const ByteVector& good : {lossless(source, near), delta(source, near, zeros)}) {
      for (int i = 0; i < 2000; ++i) {
        ByteVector damaged = good;
        const size_t at = kBlockHeaderBytes + random.below(good.size() - kBlockHeaderBytes);
        damaged[at] ^= static_cast<std::byte>(1 << random.below(8));
        const auto decoded = decode_delta(damaged, zeros);
        if (!decoded) EXPECT_EQ(decoded.error().code, Errc::kCorrupt);
      }
    }
  }
}

}  // namespace
}  // namespace ballast::quant
