#include "quant/codec.h"

#include "proto/base/limits.h"
#include "tests/unit/quant/helpers.h"

namespace ballast::quant {
namespace {

TEST(Codec, names_are_parsed_and_written) {
  struct Case {
    std::string_view text;
    CodecSpec spec;
    std::string_view name;
  };
  for (const Case& c :
       {Case{"raw", {CodecId::kRaw, 0}, "raw"}, Case{"f32", {CodecId::kF32, 0}, "f32"},
        Case{"f16", {CodecId::kF16, 0}, "f16"}, Case{"bf16", {CodecId::kBF16, 0}, "bf16"},
        Case{"int4", {CodecId::kInt4, 32}, "int4"}, Case{"int8", {CodecId::kInt8, 32}, "int8"},
        Case{"lossless", {CodecId::kLossless, 0}, "lossless"},
        Case{"int4:group=16", {CodecId::kInt4, 16}, "int4:group=16"},
        Case{"int4:group=32", {CodecId::kInt4, 32}, "int4"},
        Case{"int4:group=64", {CodecId::kInt4, 64}, "int4:group=64"},
        Case{"ec4", {CodecId::kEc4}, "ec4"},
        Case{"ec4:group=512", {CodecId::kEc4, 512}, "ec4:group=512"},
        Case{"sparse4", {CodecId::kSparse4, 32}, "sparse4"},
        Case{"sparse4:group=64", {CodecId::kSparse4, 64}, "sparse4:group=64"}}) {
    const Result<CodecSpec> parsed = parse_codec(c.text);
    ASSERT_TRUE(parsed.has_value()) << c.text;
    EXPECT_EQ(*parsed, c.spec) << c.text;
    EXPECT_EQ(codec_name(*parsed), c.name);
    EXPECT_EQ(codec_from_numbers(static_cast<uint32_t>(parsed->id), parsed->group_size).value(),
              c.spec);
  }
  for (const std::string_view text : {"",
                                      "INT4",
                                      "int4:",
                                      "int4:group=8",
                                      "int4:group=16,",
                                      "int4:group",
                                      "int4:group=1e999",
                                      "int4:bits=4",
                                      "int8:group=16",
                                      "int8:bits=8",
                                      "lossless:group=32",
                                      "sparse4:group=8",
                                      "sparse4:db=20",
                                      "ec4:group=128",
                                      "ec4:group=0",
                                      "ec4t:group=512",
                                      "int4:size=16",
                                      "int5",
                                      "raw ",
                                      "bf16:group=16"}) {
    const Result<CodecSpec> parsed = parse_codec(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_EQ(parsed.error().code, Errc::kInvalidArgument);
    EXPECT_NE(parsed.error().message.find("int4 and sparse4 (:group=16, 32 or 64)"),
              std::string::npos);
  }
}

TEST(Codec, groups_and_targets_go_together) {
  const CodecSpec spec = parse_codec("ec4:group=512,bits=3.9").value();
  EXPECT_EQ(spec, (CodecSpec{CodecId::kEc4, 512, 3900}));
  EXPECT_EQ(codec_name(spec), "ec4:bits=3.9,group=512");
  EXPECT_EQ(parse_codec(codec_name(spec)).value(), spec);
  EXPECT_NE(parse_codec("ec4t:group=512").error().message.find("ec4 alone also :group="),
            std::string::npos);
}

TEST(Codec, numbers_are_checked) {
  for (const auto& [id, group] : std::vector<std::pair<uint32_t, uint32_t>>{{0, 0},
                                                                            {200, 0},
                                                                            {257, 0},
                                                                            {1, 32},
                                                                            {2, 16},
                                                                            {5, 0},
                                                                            {5, 8},
                                                                            {5, 128},
                                                                            {7, 128},
                                                                            {8, 512}}) {
    const Result<CodecSpec> spec = codec_from_numbers(id, group);
    ASSERT_FALSE(spec.has_value()) << id << " " << group;
    EXPECT_EQ(spec.error().code, Errc::kCorrupt);
  }
}

TEST(DTypes, names_numbers_and_sizes_agree) {
  const std::string_view names[] = {"F32", "F16",  "BF16", "F64", "I64", "I32",     "I16",    "I8",
                                    "U8",  "BOOL", "U64",  "U32", "U16", "F8_E4M3", "F8_E5M2"};
  const size_t sizes[] = {4, 2, 2, 8, 8, 4, 2, 1, 1, 1, 8, 4, 2, 1, 1};
  for (uint32_t number = 1; number <= 15; ++number) {
    const DType dtype = dtype_from_number(number).value();
    EXPECT_EQ(static_cast<uint32_t>(dtype), number);
    EXPECT_EQ(dtype_name(dtype), names[number - 1]);
    EXPECT_EQ(dtype_bytes(dtype), sizes[number - 1]);
    EXPECT_EQ(parse_dtype(names[number - 1]).value(), dtype);
    EXPECT_EQ(dtype_is_codable(dtype), number <= 3);
  }
  EXPECT_EQ(parse_dtype("bf16").value(), DType::kBF16);
  EXPECT_EQ(parse_dtype("f8_e4m3").value(), DType::kF8E4M3);
  EXPECT_EQ(parse_dtype("F31").error().code, Errc::kInvalidArgument);
  EXPECT_EQ(dtype_from_number(0).error().code, Errc::kCorrupt);
  EXPECT_EQ(dtype_from_number(16).error().code, Errc::kCorrupt);
}

TEST(Codec, blocks_are_whole_chunks_of_about_the_target) {
  for (uint32_t number = 1; number <= 15; ++number) {
    const DType source = dtype_from_number(number).value();
    for (const char* name :
         {"raw", "f32", "f16", "bf16", "int4:group=16", "int4", "int4:group=64", "int8"}) {
      const uint64_t values = values_per_block(codec(name), source);
      EXPECT_GT(values, 0U);
      EXPECT_EQ(values % limits::kChunkValues, 0U);
      if (codec(name).id != CodecId::kRaw && !dtype_is_codable(source)) continue;
      const uint64_t bytes =
          encode_bytes(codec(name), source, ByteVector(values * dtype_bytes(source))).size();
      EXPECT_LE(bytes, limits::kBlockBytesTarget + kBlockHeaderBytes);
      EXPECT_GT(bytes, limits::kBlockBytesTarget / 8);
    }
  }
}

TEST(Codec, exact_codecs_keep_the_dtype) {
  EXPECT_EQ(codec_name(exact_codec(DType::kF32)), "f32");
  EXPECT_EQ(codec_name(exact_codec(DType::kF16)), "f16");
  EXPECT_EQ(codec_name(exact_codec(DType::kBF16)), "bf16");
  EXPECT_EQ(codec_name(exact_codec(DType::kI64)), "raw");
}

TEST(Codec, samples_are_spread_without_overlap) {
  EXPECT_TRUE(sample_ranges(codec("bf16"), 1000).empty());
  EXPECT_TRUE(sample_ranges(codec("int4"), 0).empty());
  Random random(3);
  for (int i = 0; i < 200; ++i) {
    const uint64_t total = i == 0 ? UINT64_MAX / 2 : 1 + (random.bits() >> (10 + random.below(54)));
    const std::vector<ValueRange> ranges = sample_ranges(codec("int4"), total);
    ASSERT_FALSE(ranges.empty());
    ASSERT_LE(ranges.size(), 64U);
    uint64_t end = 0;
    uint64_t together = 0;
    for (const ValueRange& range : ranges) {
      EXPECT_GE(range.first, end) << total;
      EXPECT_EQ(range.count, ranges[0].count);
      end = range.first + range.count;
      together += range.count;
    }
    EXPECT_LE(end, total);
    EXPECT_LE(together, kSampleValuesMax);
    EXPECT_TRUE(together == total || end > total / 2) << total;
  }
}

TEST(Codec, lossy_codecs_refuse_what_they_can_not_encode) {
  for (const char* name : {"f32", "f16", "bf16", "int4", "int8", "lossless"}) {
    const auto encoder = TensorEncoder::create(codec(name), DType::kI32, {});
    ASSERT_FALSE(encoder.has_value());
    EXPECT_EQ(encoder.error().code, Errc::kInvalidArgument);
  }
  EXPECT_TRUE(TensorEncoder::create(codec("raw"), DType::kI32, {}).has_value());
}

TEST(Codec, kernels_are_named) {
  EXPECT_EQ(available_kernels().front(), "scalar");
  EXPECT_EQ(select_kernel("mmx").error().code, Errc::kInvalidArgument);
  const WithKernel scalar("scalar");
  EXPECT_EQ(selected_kernel(), "scalar");
}

// What is encoded so could not be read again: a reader refuses such a header.
TEST(Codec, specs_that_no_text_gives_encode_nothing) {
  for (const CodecSpec& spec :
       {CodecSpec{CodecId::kInt4}, CodecSpec{CodecId::kInt4, 48}, CodecSpec{CodecId::kInt8},
        CodecSpec{CodecId::kSparse4}, CodecSpec{CodecId::kLossless, 32},
        CodecSpec{CodecId::kInt4, 32, 4000}, CodecSpec{CodecId::kEc4, 0, 4000, 2000},
        CodecSpec{CodecId::kEc4t, 0, 900}, CodecSpec{CodecId{0}}, CodecSpec{CodecId{99}}}) {
    for (const DType source : {DType::kF32, DType::kI64}) {
      const Status status = check_codec(spec, source);
      ASSERT_FALSE(status.has_value()) << static_cast<int>(spec.id) << ' ' << spec.group_size;
      EXPECT_EQ(status.error().code, Errc::kInvalidArgument);
      EXPECT_FALSE(TensorEncoder::create(spec, source, {}).has_value());
    }
  }
}

}  // namespace
}  // namespace ballast::quant
