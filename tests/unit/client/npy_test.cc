#include "client/formats/npy.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/unit/client/temporary_folder.h"

namespace ballast::formats {
namespace {

using quant::DType;

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::string npy(std::string_view dict, char major = 1) {
  std::string text = "\x93NUMPY";
  text += major;
  text += '\0';
  text += static_cast<char>(dict.size() & 0xFF);
  text += static_cast<char>(dict.size() >> 8);
  if (major > 1) text += std::string(2, '\0');
  return text + std::string(dict);
}

std::string dict(std::string_view descr, std::string_view shape, std::string_view order = "False") {
  return fmt::format("{{'descr': '{}', 'fortran_order': {}, 'shape': {}, }}\n", descr, order,
                     shape);
}

struct Bad {
  std::string what;
  std::string file;
  Errc code;
  std::string message;
};

std::vector<Bad> bad_headers() {
  const std::string data(16, '\0');
  constexpr Errc kCorrupt = Errc::kCorrupt;
  return {
      {"empty", "", kCorrupt, "not an .npy file"},
      {"zip", "PK\x03\x04 an npz archive", kCorrupt, "save one with numpy.save()"},
      {"magic_alone", "\x93NUMPY", kCorrupt, "cut short"},
      {"no_length", std::string("\x93NUMPY\x01\x00", 8), kCorrupt, "cut short"},
      {"version_4", npy("{}", 4), kCorrupt, "version 4.0 is unknown"},
      {"version_0", npy("{}", 0), kCorrupt, "version 0.0 is unknown"},
      {"length_beyond_file", std::string("\x93NUMPY\x01\x00\x10\x00{}", 12), kCorrupt, "cut short"},
      {"length_over_limit", std::string("\x93NUMPY\x02\x00\xff\xff\xff\xff{}", 14), kCorrupt,
       "its header has 4294967295 bytes; the limit is"},
      {"no_dict", npy("[]"), kCorrupt, "damaged at character 0: '{' should stand there"},
      {"not_closed", npy("{'descr': '<f4'"), kCorrupt, "'}' should stand there"},
      {"text_behind", npy(dict("<f4", "(4,)") + "x") + data, kCorrupt, "the end should stand"},
      {"no_descr", npy("{'fortran_order': False, 'shape': (4,)}"), kCorrupt, "no 'descr'"},
      {"no_order", npy("{'descr': '<f4', 'shape': (4,)}"), kCorrupt, "no 'fortran_order'"},
      {"no_shape", npy("{'descr': '<f4', 'fortran_order': False}"), kCorrupt, "no 'shape'"},
      {"key_twice", npy("{'shape': (), 'shape': ()}"), kCorrupt, "two 'shape'"},
      {"unknown_key", npy("{'strides': ()}"), kCorrupt, "unknown key 'strides'"},
      {"escape", npy("{'d\\x65scr': '<f4'}"), kCorrupt, "a string without escapes"},
      {"open_string", npy("{'descr"), kCorrupt, "a string with an end"},
      {"order_number", npy("{'fortran_order': 0}"), kCorrupt, "True or False should stand"},
  };
}

std::vector<Bad> bad_arrays() {
  const std::string data(16, '\0');
  constexpr Errc kCorrupt = Errc::kCorrupt;
  constexpr Errc kUnusable = Errc::kInvalidArgument;
  const auto shape = [&](std::string_view text) { return npy(dict("<f4", text)) + data; };
  const auto dtype = [&](std::string_view text) { return npy(dict(text, "(4,)")) + data; };
  return {
      {"number_as_shape", shape("4"), kCorrupt, "'(' should stand there"},
      {"one_without_comma", shape("(4)"), kCorrupt, "',' after a single dimension"},
      {"negative", shape("(-4,)"), kCorrupt, "a number from 0 on"},
      {"fraction", shape("(4.0,)"), kCorrupt, "',' or ')'"},
      {"leading_zero", shape("(04,)"), kCorrupt, "without leading zeros"},
      {"double_comma", shape("(4,,)"), kCorrupt, "a number from 0 on"},
      {"huge", shape("(99999999999999999999,)"), kCorrupt, "a dimension overflows"},
      {"overflow", shape("(4294967296, 4294967296)"), kCorrupt, "the product overflows"},
      {"rank_17", shape("(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,4)"), kCorrupt,
       "more than 16 dimensions"},
      {"short", shape("(5,)"), kCorrupt, "needs 20 bytes, but the file holds 16; it was cut short"},
      {"long", shape("(3,)"), kCorrupt, "4 bytes follow the array"},
      {"fortran", npy(dict("<f4", "(2, 2)", "True")) + data, kUnusable,
       "save numpy.ascontiguousarray(array)"},
      {"big_endian", dtype(">f4"), kUnusable, "big-endian; save array.astype('<f4')"},
      {"bfloat16", dtype("<V2"), kUnusable, "save array.astype('<f4')"},
      {"text", dtype("<U4"), kUnusable, "its dtype '<U4' can't be stored"},
      {"object", dtype("|O"), kUnusable, "can't be stored"},
      {"complex", dtype("<c8"), kUnusable, "can't be stored"},
      {"no_dtype", dtype(""), kUnusable, "its dtype '' can't be stored"},
      {"no_byte_order", dtype("|f4"), kCorrupt, "has no byte order"},
      {"structured", npy("{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': ()}"),
       kUnusable, "structured array"},
  };
}

void expect_refused(const Bad& bad) {
  SCOPED_TRACE(bad.what);
  const auto header = parse_npy_header(bytes_of(bad.file), bad.file.size());
  ASSERT_FALSE(header.has_value());
  EXPECT_EQ(header.error().code, bad.code);
  EXPECT_NE(header.error().message.find(bad.message), std::string::npos) << header.error().message;
}

TEST(NpyHeader, bad_headers_are_refused) {
  for (const Bad& bad : bad_headers()) expect_refused(bad);
}

TEST(NpyHeader, bad_arrays_are_refused) {
  for (const Bad& bad : bad_arrays()) expect_refused(bad);
}

TEST(NpyHeader, every_version_and_spelling_is_read) {
  const std::string data(16, '\0');
  const std::vector<std::string> table = {
      npy(dict("<f4", "(4,)")) + data,
      npy(dict("<f4", "(4,)"), 2) + data,
      npy(dict("<f4", "(4,)"), 3) + data,
      npy(dict("<f4", "(4,)", "True")) + data,  // one dimension has one order
      npy("{\"shape\":(4,),\"descr\":\"<f4\",\"fortran_order\":False}") + data,
  };
  for (const std::string& file : table) {
    const auto header = parse_npy_header(bytes_of(file), file.size());
    ASSERT_TRUE(header.has_value()) << header.error().message;
    EXPECT_EQ(header->dtype, DType::kF32);
    EXPECT_EQ(header->shape, std::vector<uint64_t>{4});
    EXPECT_EQ(header->data_begin, file.size() - 16);
    EXPECT_EQ(header->bytes, 16u);
  }
}

// The bytes that numpy 1.26 writes for numpy.zeros((2, 3), '<f2').
TEST(NpyHeader, is_what_numpy_writes) {
  const auto header = npy_header(DType::kF16, std::vector<uint64_t>{2, 3});
  ASSERT_TRUE(header.has_value());
  std::string expected("\x93NUMPY\x01\x00\x76\x00", 10);
  expected += "{'descr': '<f2', 'fortran_order': False, 'shape': (2, 3), }";
  expected += std::string(128 - 1 - expected.size(), ' ') + "\n";
  EXPECT_EQ(*header, expected);
}

TEST(NpyHeader, dtypes_that_numpy_lacks_are_refused) {
  const auto bf16 = npy_header(DType::kBF16, {});
  ASSERT_FALSE(bf16.has_value());
  EXPECT_EQ(bf16.error().code, Errc::kInvalidArgument);
  EXPECT_EQ(bf16.error().message, "numpy has no BF16; use --as f32");
  EXPECT_FALSE(npy_header(DType::kF8E4M3, {}).has_value());
}

TEST(NpyFile, round_trip_of_every_dtype_and_shape) {
  const TemporaryFolder folder;
  const std::string path = folder.file("a.npy");
  const std::vector<std::vector<uint64_t>> shapes = {
      {}, {0}, {7}, {3, 5}, {2, 0, 4}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2}};
  for (const DType dtype :
       {DType::kF32, DType::kF16, DType::kF64, DType::kI64, DType::kI32, DType::kI16, DType::kI8,
        DType::kU64, DType::kU32, DType::kU16, DType::kU8, DType::kBool})
    for (const auto& shape : shapes) {
      uint64_t values = 1;
      for (const uint64_t dimension : shape) values *= dimension;
      std::vector<std::byte> data(values * quant::dtype_bytes(dtype));
      for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i);
      auto writer = NpyWriter::create(path, dtype, shape);
      ASSERT_TRUE(writer.has_value()) << writer.error().message;
      ASSERT_TRUE(writer->append(std::span(data).first(data.size() / 2)).has_value());
      ASSERT_TRUE(writer->append(std::span(data).subspan(data.size() / 2)).has_value());
      ASSERT_TRUE(writer->commit().has_value());
      const auto array = read_npy(path);
      ASSERT_TRUE(array.has_value()) << array.error().message;
      EXPECT_EQ(array->dtype, dtype);
      EXPECT_EQ(array->shape, shape);
      EXPECT_EQ(array->data, data);
    }
}

TEST(NpyFile, abandoned_and_unfinished_files_leave_nothing) {
  const TemporaryFolder folder;
  {
    auto writer = NpyWriter::create(folder.file("a.npy"), DType::kF32, std::vector<uint64_t>{2});
    ASSERT_TRUE(writer.has_value());
    EXPECT_FALSE(writer->commit().has_value());
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(NpyFile, errors_name_the_file) {
  const TemporaryFolder folder;
  const std::string path = folder.file("bad.npy");
  std::ofstream(path) << "text";
  const auto array = read_npy(path);
  ASSERT_FALSE(array.has_value());
  EXPECT_EQ(array.error().message,
            "cannot read '" + path + "': it is not an .npy file; save one with numpy.save()");
}

}  // namespace
}  // namespace ballast::formats
