#include "client/formats/safetensors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include "tests/unit/client/temporary_folder.h"

namespace ballast::formats {
namespace {

using quant::DType;

std::string length_prefix(uint64_t length) {
  std::string text(8, '\0');
  for (size_t i = 0; i < 8; ++i) text[i] = static_cast<char>(length >> (8 * i) & 0xFF);
  return text;
}

std::string one(std::string_view fields) { return "{\"a\":{" + std::string(fields) + "}}"; }

struct BadHeader {
  std::string what;
  std::string text;
  uint64_t data_bytes;
  std::string message;
};

std::vector<BadHeader> bad_syntax() {
  return {
      {"empty", "", 0, "does not begin with '{'"},
      {"space_first", " {}", 0, "does not begin with '{'"},
      {"array", "[]", 0, "does not begin with '{'"},
      {"unfinished", "{\"a\":", 0, "not valid JSON at byte 6"},
      {"second_value", "{}{}", 0, "not valid JSON"},
      {"comment", "{/* */}", 0, "not valid JSON"},
      {"not_utf8", "{\"\xff\":1}", 0, "not UTF-8"},
      {"nul_in_string", std::string("{\"a\0b\":1}", 9), 0, "not valid JSON"},
      {"nested", "{\"a\":" + std::string(1'000'000, '['), 0, "tensor 'a': it is an array"},
      {"nested_objects", R"({"a":{"shape":[{)", 0, "its shape holds an object"},
      {"tensor_is_null", R"({"a":null})", 0, "tensor 'a': it is null, not an object"},
      {"tensor_is_number", R"({"a":1})", 0, "tensor 'a': it is a number, not an object"},
      {"metadata_is_string", R"({"__metadata__":"x"})", 0, "__metadata__ is a string"},
      {"metadata_of_number", R"({"__metadata__":{"epoch":1}})", 0,
       "the value of 'epoch' is a number; only strings"},
      {"metadata_of_object", R"({"__metadata__":{"epoch":{}}})", 0, "is an object"},
      {"metadata_twice", R"({"__metadata__":{},"__metadata__":{}})", 0,
       "__metadata__ stands in the header twice"},
      {"metadata_key_twice", R"({"__metadata__":{"k":"1","k":"2"}})", 0, "'k' stands in it twice"},
      {"control_character_in_name", R"({"a\u000ab":1})", 0, "tensor 'a\\x0ab': it is a number"},
  };
}

std::vector<BadHeader> bad_tensors() {
  const std::string f32 = R"("dtype":"F32",)";
  const std::string shape1 = R"("shape":[1],)";
  const std::string at4 = R"("data_offsets":[0,4])";
  return {
      {"no_dtype", one(shape1 + at4), 4, "tensor 'a': it has no dtype"},
      {"no_shape", one(f32 + at4), 4, "it has no shape"},
      {"no_offsets", one(f32 + R"("shape":[1])"), 4, "it has no data_offsets"},
      {"field_twice", one(f32 + shape1 + R"("shape":[1],)" + at4), 4, "two fields 'shape'"},
      {"dtype_twice", one(f32 + f32 + shape1 + at4), 4, "two fields 'dtype'"},
      {"unknown_field", one(f32 + shape1 + at4 + R"(,"strides":[1])"), 4,
       "an unknown field 'strides'"},
      {"unknown_dtype", one(R"("dtype":"F4",)" + shape1 + at4), 4, "its dtype 'F4' is unknown"},
      {"lower_case_dtype", one(R"("dtype":"f32",)" + shape1 + at4), 4, "'f32' is unknown"},
      {"dtype_number", one(R"("dtype":4,)"), 4, "its dtype is a number, not a string"},
      {"dtype_array", one(R"("dtype":[],)"), 4, "its dtype is an array, not a string"},
      {"shape_string", one(R"("shape":"1")"), 4, "its shape is a string, not an array"},
      {"negative", one(R"("shape":[-1])"), 4, "its shape holds a negative number"},
      {"fraction", one(R"("shape":[1.5])"), 4, "a number that is no integer or too large"},
      {"huge", one(R"("shape":[99999999999999999999])"), 4, "no integer or too large"},
      {"overflow", one(f32 + R"("shape":[4294967296,4294967296],)" + at4), 4, "overflows"},
      {"overflow_behind_zero", one(f32 + R"("shape":[0,4294967296,4294967296],)" + at4), 4,
       "overflows"},
      {"rank_17", one(R"("shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1])"), 4,
       "more than 16 dimensions"},
      {"nested_shape", one(R"("shape":[[1]])"), 4, "its shape holds an array"},
      {"one_offset", one(f32 + shape1 + R"("data_offsets":[0])"), 4, "not two numbers"},
      {"three_offsets", one(f32 + shape1 + R"("data_offsets":[0,4,8])"), 4, "more than two"},
      {"negative_offset", one(f32 + shape1 + R"("data_offsets":[-4,0])"), 4, "negative"},
      {"offsets_descend", one(f32 + shape1 + R"("data_offsets":[4,0])"), 4, "4 and 0 descend"},
      {"beyond_the_file", one(f32 + shape1 + at4), 3,
       "ends at byte 4, but the file holds 3; it was cut short"},
      {"wrong_length", one(f32 + R"("shape":[2,1],)" + at4), 4,
       "it has 4 bytes of data, but F32 [2,1] needs 8"},
      {"name_twice", "{\"a\":{" + f32 + shape1 + at4 + "},\"a\":{" + f32 + shape1 + at4 + "}}", 4,
       "tensor 'a' stands in the header twice"},
      {"overlap",
       R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
       R"("b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
       6, "tensor 'b' begins at data byte 2, inside tensor 'a'"},
      {"same_bytes",
       R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
       R"("b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
       4, "tensor 'b' begins at data byte 0, inside tensor 'a'"},
      {"hole", one(R"("dtype":"U8","shape":[1],"data_offsets":[3,4])"), 4,
       "3 bytes before tensor 'a' belong to no tensor; write the file again"},
      {"rest", one(R"("dtype":"U8","shape":[1],"data_offsets":[0,1])"), 4,
       "the last 3 bytes belong to no tensor"},
  };
}

void expect_refused(const BadHeader& bad) {
  SCOPED_TRACE(bad.what);
  const auto header = parse_safetensors_header(bad.text, bad.data_bytes);
  ASSERT_FALSE(header.has_value());
  EXPECT_EQ(header.error().code, Errc::kCorrupt);
  EXPECT_NE(header.error().message.find(bad.message), std::string::npos) << header.error().message;
  EXPECT_EQ(header.error().message.find('\n'), std::string::npos);
}

TEST(SafetensorsHeader, bad_syntax_is_refused) {
  for (const BadHeader& bad : bad_syntax()) expect_refused(bad);
}

TEST(SafetensorsHeader, bad_tensors_are_refused) {
  for (const BadHeader& bad : bad_tensors()) expect_refused(bad);
}

TEST(SafetensorsHeader, tensors_come_in_the_order_of_their_data) {
  const auto header =
      parse_safetensors_header(R"({"b":{"dtype":"F16","shape":[2],"data_offsets":[4,8]},)"
                               R"("none":{"dtype":"I64","shape":[0,3],"data_offsets":[4,4]},)"
                               R"("__metadata__":{"format":"pt","":"empty key"},)"
                               R"("a":{"data_offsets":[0,4],"shape":[],"dtype":"F32"}}  )",
                               8);
  ASSERT_TRUE(header.has_value()) << header.error().message;
  ASSERT_EQ(header->tensors.size(), 3u);
  EXPECT_EQ(header->tensors[0].name, "a");
  EXPECT_TRUE(header->tensors[0].shape.empty());
  EXPECT_EQ(header->tensors[1].name, "none");
  EXPECT_EQ(header->tensors[1].bytes, 0u);
  EXPECT_EQ(header->tensors[2].name, "b");
  EXPECT_EQ(header->tensors[2].dtype, DType::kF16);
  EXPECT_EQ(header->tensors[2].offset, 4u);
  EXPECT_EQ(header->metadata.at("format"), "pt");
}

TEST(SafetensorsHeader, empty_object_is_a_file_without_tensors) {
  const auto header = parse_safetensors_header("{}", 0);
  ASSERT_TRUE(header.has_value());
  EXPECT_TRUE(header->tensors.empty());
}

struct BadFile {
  std::string bytes;
  std::string message;
};

TEST(SafetensorsFile, bad_files_are_refused_by_name) {
  const TemporaryFolder folder;
  const std::string path = folder.file("bad.safetensors");
  const std::vector<BadFile> table = {
      {"", "it has 0 bytes; a safetensors file has at least 8"},
      {"1234567", "it has 7 bytes"},
      {length_prefix(100) + "{}", "its header should have 100 bytes, but only 2 are left"},
      {length_prefix(~uint64_t{0}) + "{}", "only 2 are left"},
      {length_prefix(2) + "[]", "does not begin with '{'"},
      {length_prefix(2) + "{}1234", "the last 4 bytes belong to no tensor"},
  };
  for (const BadFile& bad : table) {
    std::ofstream(path, std::ios::binary) << bad.bytes;
    const auto file = SafetensorsFile::open(path);
    ASSERT_FALSE(file.has_value()) << bad.message;
    EXPECT_EQ(file.error().code, Errc::kCorrupt);
    EXPECT_NE(file.error().message.find(bad.message), std::string::npos) << file.error().message;
    EXPECT_NE(file.error().message.find(path), std::string::npos) << file.error().message;
  }
}

TEST(SafetensorsFile, header_over_the_limit_is_refused_without_reading_it) {
  const TemporaryFolder folder;
  const std::string path = folder.file("sparse.safetensors");
  std::ofstream(path, std::ios::binary) << length_prefix(kSafetensorsHeaderBytesMax + 1);
  std::filesystem::resize_file(path, kSafetensorsHeaderBytesMax + 4096);
  const auto file = SafetensorsFile::open(path);
  ASSERT_FALSE(file.has_value());
  EXPECT_NE(file.error().message.find("the limit is 100000000"), std::string::npos);
}

TEST(SafetensorsFile, missing_files_and_folders_are_errors) {
  const TemporaryFolder folder;
  const auto missing = SafetensorsFile::open(folder.file("missing"));
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, Errc::kIo);
  EXPECT_NE(missing.error().message.find("check that the path exists"), std::string::npos);
  const auto directory = SafetensorsFile::open(folder.path());
  ASSERT_FALSE(directory.has_value());
  EXPECT_NE(directory.error().message.find("not a regular file"), std::string::npos);
}

TEST(SafetensorsWriter, round_trip_in_pieces) {
  const TemporaryFolder folder;
  const std::string path = folder.file("m.safetensors");
  const std::vector<SafetensorsEntry> entries = {
      {.name = "z \"quoted\" \xc3\xa9", .dtype = DType::kF32, .shape = {2, 3}},
      {.name = "scalar", .dtype = DType::kBF16, .shape = {}},
      {.name = "empty", .dtype = DType::kI64, .shape = {0}},
      {.name = "a", .dtype = DType::kU8, .shape = {5}},
  };
  const SafetensorsMetadata metadata = {{"format", "pt"}, {"note", "line\nline"}};
  std::vector<std::byte> data(24 + 2 + 5);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 7);

  auto writer = SafetensorsWriter::create(path, entries, metadata);
  ASSERT_TRUE(writer.has_value()) << writer.error().message;
  EXPECT_EQ(writer->data_bytes(), data.size());
  for (const std::byte& byte : data) ASSERT_TRUE(writer->append({&byte, 1}).has_value());
  EXPECT_FALSE(std::filesystem::exists(path)) << "nobody sees half a file";
  ASSERT_TRUE(writer->commit().has_value());

  const auto file = SafetensorsFile::open(path);
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_EQ(file->metadata(), metadata);
  EXPECT_EQ((std::filesystem::file_size(path) - data.size()) % 8, 0u);
  ASSERT_EQ(file->tensors().size(), entries.size());
  size_t at = 0;
  for (const SafetensorsTensor& tensor : file->tensors()) {
    const auto entry = std::ranges::find(entries, tensor.name, &SafetensorsEntry::name);
    ASSERT_NE(entry, entries.end()) << tensor.name;
    EXPECT_EQ(tensor.dtype, entry->dtype);
    EXPECT_EQ(tensor.shape, entry->shape);
    std::vector<std::byte> bytes(tensor.bytes);
    ASSERT_TRUE(file->read(tensor, 0, bytes).has_value());
    EXPECT_TRUE(std::ranges::equal(bytes, std::span(data).subspan(at, bytes.size())));
    at += bytes.size();
  }
  EXPECT_EQ(at, data.size());
}

TEST(SafetensorsWriter, abandoned_file_is_removed) {
  const TemporaryFolder folder;
  const std::string path = folder.file("m.safetensors");
  {
    const std::vector<SafetensorsEntry> entries = {{.name = "a", .shape = {4}}};
    auto writer = SafetensorsWriter::create(path, entries, {});
    ASSERT_TRUE(writer.has_value());
    EXPECT_TRUE(std::filesystem::exists(path + ".partial-" + std::to_string(::getpid())));
    const Status early = writer->commit();
    ASSERT_FALSE(early.has_value()) << "16 bytes are missing";
    EXPECT_EQ(early.error().code, Errc::kInternal);
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(SafetensorsWriter, old_file_stays_until_the_new_one_is_whole) {
  const TemporaryFolder folder;
  const std::string path = folder.file("m.safetensors");
  std::ofstream(path) << "old";
  {
    auto writer = SafetensorsWriter::create(path, {}, {});
    ASSERT_TRUE(writer.has_value());
  }
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  EXPECT_EQ(text.str(), "old");
}

TEST(SafetensorsWriter, bad_entries_are_refused) {
  struct Row {
    std::vector<SafetensorsEntry> entries;
    SafetensorsMetadata metadata;
    std::string message;
  };
  const std::vector<Row> table = {
      {{{.name = "a"}, {.name = "b"}, {.name = "a"}}, {}, "two tensors are named 'a'"},
      {{{.name = "__metadata__"}}, {}, "can't hold a tensor named '__metadata__'"},
      {{{.name = "\xff"}}, {}, "is not UTF-8"},
      {{{.name = "a", .shape = {~uint64_t{0}}}}, {}, "overflows"},
      {{}, {{"k", "\xff"}}, "the metadata 'k' is not UTF-8"},
  };
  for (const Row& row : table) {
    const auto header = safetensors_header(row.entries, row.metadata);
    ASSERT_FALSE(header.has_value()) << row.message;
    EXPECT_NE(header.error().message.find(row.message), std::string::npos)
        << header.error().message;
  }
}

TEST(SafetensorsWriter, bad_paths_are_errors) {
  const auto nowhere = SafetensorsWriter::create("/nowhere/m.safetensors", {}, {});
  ASSERT_FALSE(nowhere.has_value());
  EXPECT_EQ(nowhere.error().code, Errc::kIo);
  EXPECT_NE(nowhere.error().message.find("/nowhere/m.safetensors"), std::string::npos);
  const auto device = SafetensorsWriter::create("/dev/null", {}, {});
  ASSERT_FALSE(device.has_value());
  EXPECT_NE(device.error().message.find("not a regular file"), std::string::npos);
}

TEST(SafetensorsFile, real_file) {
  const auto file = SafetensorsFile::open(BALLAST_TEST_DATA "/silero_vad_16k.safetensors");
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_EQ(file->tensors().size(), 177u);
  EXPECT_EQ(file->metadata().at("license"), "MIT");
  EXPECT_EQ(file->data_bytes(), 1'260'392u - 8 - 20'552);
  EXPECT_EQ(file->tensors().front().name, "onnx::Unsqueeze_18");
  EXPECT_EQ(file->tensors().front().dtype, DType::kI64);

  // Several threads read at once, as they do while a model is published.
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (const SafetensorsTensor& tensor : file->tensors()) {
        std::vector<std::byte> bytes(tensor.bytes);
        EXPECT_TRUE(file->read(tensor, 0, bytes).has_value());
      }
    });
}

}  // namespace
}  // namespace ballast::formats
