// Blocks that an earlier release wrote, in tests/golden/block/: they must decode to the same values
// for ever, and the encoder must still write them. BALLAST_REWRITE_GOLDEN=1 writes them anew;
// commit only a difference that you understand.
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "proto/base/digest.h"
#include "tests/unit/quant/helpers.h"

namespace ballast::quant {
namespace {

// Triangular numbers between -1 and 1, exact in every dtype, with some special values among them.
std::vector<float> triangular(size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) {
    const auto a = static_cast<int>((i + 3) * 37 % 101);
    const auto b = static_cast<int>(i * 53 % 103);
    values[i] = static_cast<float>((a - b) / 2) / 64;
  }
  if (count > 200) {
    values[70] = INFINITY;
    values[130] = NAN;
    values[140] = -0.0f;
    std::fill(values.begin() + 160, values.begin() + 200, 0.0f);
  }
  return values;
}

// The same, some of them moved a little.
std::vector<float> moved(size_t count) {
  std::vector<float> values = triangular(count);
  for (size_t i = 0; i < count; i += 3) values[i] *= 1 + static_cast<float>(i % 8) / 256;
  return values;
}

// The same in rows of which each has half the size of the one before.
std::vector<float> falling(size_t count) {
  std::vector<float> values = triangular(count);
  for (size_t i = 0; i < count; ++i) values[i] = std::ldexp(values[i], -static_cast<int>(i / 400));
  return values;
}

// The same with long mantissas, and among them rare values of up to 40 octaves more.
std::vector<float> wide(size_t count) {
  std::vector<float> values = triangular(count);
  for (size_t i = 0; i < count; ++i) {
    values[i] *= 1 + static_cast<float>(i) * 0x1p-22f;
    if (i % 32 == 7) values[i] = std::ldexp(values[i], static_cast<int>(i / 32 % 41));
  }
  return values;
}

std::vector<float> zeros(size_t count) { return std::vector<float>(count); }

struct Golden {
  const char* codec;
  DType source;
  size_t values;
  std::vector<float> (*content)(size_t) = triangular;
  size_t every = 1;  // all values but every so many-th are 0
  // A difference to this; the golden block of the codec alone holds the same.
  std::vector<float> (*base)(size_t) = nullptr;
};

// 131,200 values are a chunk and a little more.
constexpr Golden kGolden[] = {
    {"raw", DType::kI32, 100},
    {"raw", DType::kBF16, 300},
    {"f32", DType::kF32, 100},
    {"f16", DType::kF32, 100},
    {"bf16", DType::kF32, 100},
    {"f32", DType::kBF16, 100},
    {"f32", DType::kF32, 300, wide},
    {"f16", DType::kF32, 300, wide},
    {"bf16", DType::kF32, 300, wide},
    {"int4:group=16", DType::kF32, 700},
    {"int4", DType::kF32, 700},
    {"int4", DType::kF16, 700},
    {"int4:group=64", DType::kBF16, 700},
    {"int4:group=64", DType::kF32, 131200, triangular, 997},
    {"int4", DType::kF32, 1},
    {"int4", DType::kF32, 0},
    {"int8", DType::kF32, 700},
    {"int8", DType::kF16, 700},
    {"int8", DType::kBF16, 33},
    {"lossless", DType::kF32, 700},
    {"lossless", DType::kF16, 700},
    {"lossless", DType::kBF16, 700},
    {"lossless", DType::kF32, 3000, wide},
    {"lossless", DType::kBF16, 3000, wide},
    {"lossless", DType::kF32, 1},
    {"lossless", DType::kF32, 0},
    {"lossless", DType::kBF16, 70000, zeros},
    {"lossless", DType::kF16, 131200, zeros},
    {"lossless", DType::kF32, 700, moved, 1, triangular},
    {"lossless", DType::kF16, 700, moved, 1, triangular},
    {"lossless", DType::kBF16, 700, moved, 1, triangular},
    {"lossless", DType::kBF16, 70000, triangular, 997, zeros},
    {"lossless", DType::kF16, 131200, triangular, 997, zeros},
    {"ec4", DType::kF32, 5000},
    {"ec4", DType::kF16, 5000},
    {"ec4", DType::kF32, 9000, wide},
    {"ec4", DType::kBF16, 70000, triangular, 16},
    {"ec4", DType::kF32, 131200, triangular, 997},
    {"ec4:group=512", DType::kF32, 5000, falling},
    {"ec4:group=256", DType::kBF16, 5300, triangular, 200},
    {"ec4t", DType::kBF16, 5000},
    {"ec4t", DType::kF16, 5000},
    {"ec4t", DType::kF32, 9000, wide},
    {"ec4t", DType::kBF16, 131200, triangular, 16},
    {"sparse4", DType::kF32, 700},
    {"sparse4:group=16", DType::kBF16, 700},
    {"sparse4:group=64", DType::kF16, 700},
    {"sparse4", DType::kF32, 1},
    {"sparse4", DType::kF32, 5},
    {"sparse4", DType::kF32, 0},
    {"sparse4", DType::kF32, 3000, triangular, 9},
    {"sparse4", DType::kBF16, 131200, triangular, 997},
};

ByteVector as_source(const std::vector<float>& values, DType source) {
  const auto bytes = bytes_of(values);
  if (!dtype_is_codable(source)) return {bytes.begin(), bytes.end()};
  return decode_bytes(encode_floats("f32", values), source);
}

ByteVector golden_values(const Golden& golden) {
  std::vector<float> values = golden.content(golden.values);
  for (size_t i = 0; i < values.size(); ++i) {
    if (i % golden.every != 0) values[i] = 0;
  }
  return as_source(values, golden.source);
}

ByteVector golden_base(const Golden& golden) {
  if (golden.base == nullptr) return {};
  return as_source(golden.base(golden.values), golden.source);
}

ByteVector golden_block(const Golden& golden) {
  const ByteVector values = golden_values(golden);
  if (golden.base == nullptr) return encode_bytes(codec(golden.codec), golden.source, values);
  const auto encoder = TensorEncoder::create(codec(golden.codec), golden.source, {}).value();
  EncodedBlock block = encoder->encode_delta(values, golden_base(golden)).value();
  return {block.bytes.span().begin(), block.bytes.span().end()};
}

std::string golden_name(const Golden& golden) {
  std::string name = golden.codec;
  std::ranges::replace(name, ':', '-');
  std::ranges::replace(name, '=', '-');
  if (golden.base != nullptr) name += "-delta";
  // Apart from the others, which are a corpus of the fuzzers: these would make them slow.
  const char* folder = golden.values > 10000 ? "long/" : "";
  return fmt::format("{}{}_{}_{}.block", folder, name, dtype_name(golden.source), golden.values);
}

ByteVector read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto bytes = as_byte_span(text);
  return {bytes.begin(), bytes.end()};
}

void write_file(const std::string& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary);
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  EXPECT_TRUE(file.good()) << path;
}

std::string decoded_digest(const ByteVector& block, const Golden& golden, DType as) {
  ByteVector out(golden.values * dtype_bytes(as));
  EXPECT_TRUE(decode_block(block, 0, golden.values, as, out, golden_base(golden)));
  return " " + sha256(out).brief();
}

// The digest of a block's values, in each dtype it can be read as.
std::string decoded_digests(const ByteVector& block, const Golden& golden) {
  if (!dtype_is_codable(golden.source)) return decoded_digest(block, golden, golden.source);
  std::string line;
  for (const DType as : {DType::kF32, DType::kF16, DType::kBF16}) {
    line += decoded_digest(block, golden, as);
  }
  return line;
}

TEST(Golden, blocks_are_written_and_read_as_ever) {
  const bool rewrite = std::getenv("BALLAST_REWRITE_GOLDEN") != nullptr;
  const std::string folder = std::string(BALLAST_GOLDEN_DIR) + "/";
  std::string digests;
  for (const Golden& golden : kGolden) {
    const ByteVector encoded = golden_block(golden);
    const std::string name = golden_name(golden);
    if (rewrite) write_file(folder + name, as_text(encoded));
    const ByteVector block = read_file(folder + name);
    EXPECT_EQ(encoded, block) << name;
    digests += name + decoded_digests(block, golden) + "\n";
  }
  if (rewrite) write_file(folder + "decoded.txt", digests);
  EXPECT_EQ(as_text(read_file(folder + "decoded.txt")), digests);
}

TEST(Golden, lossless_blocks_give_back_every_bit) {
  for (const Golden& golden : kGolden) {
    if (golden.codec != std::string_view("lossless")) continue;
    const ByteVector values = golden_values(golden);
    ByteVector decoded(values.size());
    ASSERT_TRUE(decode_block(golden_block(golden), 0, golden.values, golden.source, decoded,
                             golden_base(golden)));
    EXPECT_EQ(decoded, values) << golden_name(golden);
  }
}

}  // namespace
}  // namespace ballast::quant
