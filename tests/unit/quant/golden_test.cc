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

struct Golden {
  const char* codec;
  DType source;
  size_t values;
  size_t every = 1;  // all values but every so many-th are 0
};

constexpr Golden kGolden[] = {
    {"raw", DType::kI32, 100},
    {"f32", DType::kF32, 100},
    {"f16", DType::kF32, 100},
    {"bf16", DType::kF32, 100},
    {"f32", DType::kBF16, 100},
    {"int4:group=16", DType::kF32, 700},
    {"int4", DType::kF32, 700},
    {"int4", DType::kF16, 700},
    {"int4:group=64", DType::kBF16, 700},
    {"int4", DType::kF32, 1},
    {"int4", DType::kF32, 0},
    {"int8", DType::kF32, 700},
    {"int8", DType::kBF16, 33},
    {"lossless", DType::kF32, 700},
    {"lossless", DType::kF16, 700},
    {"lossless", DType::kBF16, 700},
    {"lossless", DType::kF32, 1},
    {"lossless", DType::kF32, 0},
    {"ec4", DType::kF32, 5000},
    {"ec4t", DType::kBF16, 5000},
    {"sparse4", DType::kF32, 700},
    {"sparse4:group=16", DType::kBF16, 700},
    {"sparse4:group=64", DType::kF16, 700},
    {"sparse4", DType::kF32, 1},
    {"sparse4", DType::kF32, 5},
    {"sparse4", DType::kF32, 0},
    {"sparse4", DType::kF32, 3000, 9},
};

// Triangular numbers between -1 and 1, exact in every dtype, with some special values among them.
std::vector<float> golden_floats(size_t count) {
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

ByteVector golden_values(const Golden& golden) {
  std::vector<float> values = golden_floats(golden.values);
  for (size_t i = 0; i < values.size(); ++i) {
    if (i % golden.every != 0) values[i] = 0;
  }
  const auto bytes = bytes_of(values);
  if (!dtype_is_codable(golden.source)) return {bytes.begin(), bytes.end()};
  return decode_bytes(encode_floats("f32", values), golden.source);
}

std::string golden_path(const Golden& golden) {
  std::string name = golden.codec;
  std::ranges::replace(name, ':', '-');
  std::ranges::replace(name, '=', '-');
  return fmt::format("{}/{}_{}_{}.block", BALLAST_GOLDEN_DIR, name, dtype_name(golden.source),
                     golden.values);
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

// The digest of a block's values, in each dtype it can be read as.
std::string decoded_digests(const ByteVector& block, DType source) {
  std::string line;
  for (const DType as : {DType::kF32, DType::kF16, DType::kBF16}) {
    if (dtype_is_codable(source)) line += " " + sha256(decode_bytes(block, as)).brief();
  }
  return dtype_is_codable(source) ? line : " " + sha256(decode_bytes(block, source)).brief();
}

// The values of the golden blocks, some of them moved a little.
ByteVector golden_child(const Golden& golden) {
  std::vector<float> values = golden_floats(golden.values);
  for (size_t i = 0; i < values.size(); i += 3) values[i] *= 1 + static_cast<float>(i % 8) / 256;
  return decode_bytes(encode_floats("f32", values), golden.source);
}

TEST(Golden, differences_are_written_and_read_as_ever) {
  for (const Golden& golden :
       {Golden{"lossless", DType::kF32, 700}, {"lossless", DType::kBF16, 700}}) {
    const ByteVector base = golden_values(golden);
    const ByteVector values = golden_child(golden);
    const auto encoder = TensorEncoder::create(codec(golden.codec), golden.source, {}).value();
    EncodedBlock encoded = encoder->encode_delta(values, base).value();
    const std::string path = fmt::format("{}/lossless-delta_{}_{}.block", BALLAST_GOLDEN_DIR,
                                         dtype_name(golden.source), golden.values);
    if (std::getenv("BALLAST_REWRITE_GOLDEN") != nullptr) {
      write_file(path, as_text(encoded.bytes.span()));
    }
    const ByteVector block = read_file(path);
    EXPECT_TRUE(std::ranges::equal(encoded.bytes.span(), block)) << path;
    ByteVector decoded(values.size());
    ASSERT_TRUE(decode_block(block, 0, golden.values, golden.source, decoded, base));
    EXPECT_EQ(decoded, values);
  }
}

TEST(Golden, blocks_are_written_and_read_as_ever) {
  const bool rewrite = std::getenv("BALLAST_REWRITE_GOLDEN") != nullptr;
  const std::string digests_path = std::string(BALLAST_GOLDEN_DIR) + "/decoded.txt";
  std::string digests;
  for (const Golden& golden : kGolden) {
    const ByteVector values = golden_values(golden);
    const ByteVector encoded = encode_bytes(codec(golden.codec), golden.source, values);
    const std::string path = golden_path(golden);
    if (rewrite) write_file(path, as_text(encoded));
    const ByteVector block = read_file(path);
    EXPECT_EQ(encoded, block) << path;
    digests += path.substr(path.rfind('/') + 1) + decoded_digests(block, golden.source) + "\n";
  }
  if (rewrite) write_file(digests_path, digests);
  EXPECT_EQ(as_text(read_file(digests_path)), digests);
}

}  // namespace
}  // namespace ballast::quant
