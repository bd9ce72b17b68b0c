// What comes back of what the codecs stored: whole, in parts, and as it is stored.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "proto/base/limits.h"
#include "tests/drills/running_cluster.h"

namespace ballast::testing {
namespace {

using client::Client;
using client::DType;
using client::ReadLevel;

Client::Sink appending_to(std::vector<std::byte>& data) {
  return [&data](std::span<const std::byte> piece) -> Status {
    data.insert(data.end(), piece.begin(), piece.end());
    return {};
  };
}

TEST(Codecs, a_part_of_a_tensor_is_the_part_of_the_whole) {
  RunningCluster cluster;
  Client client = cluster.connect();
  const std::vector<float> values = make_values(300 * 7000, 1);
  client::TensorView view = view_of(values);
  view.shape = {300, 7000};
  const auto put = client.put("w", view, {.codec = *quant::parse_codec("int4")});
  ASSERT_TRUE(put) << put.error().message;
  ASSERT_GT(put->tensor.blocks.size(), 1u) << "a part should span blocks";
  const auto whole = client.get("w", {.as = DType::kF32});
  ASSERT_TRUE(whole) << whole.error().message;
  const uint64_t per_block = put->tensor.values_per_block;
  for (const client::ValueRange range : std::initializer_list<client::ValueRange>{
           {0, 1}, {per_block - 3, 7}, {limits::kChunkValues - 1, 2}, {2'099'999, 1}, {5, 0}}) {
    std::vector<std::byte> part;
    const auto read =
        client.read_range(put->tensor, range, {.as = DType::kF32}, appending_to(part));
    ASSERT_TRUE(read) << read.error().message;
    ASSERT_EQ(part.size(), range.count * 4);
    EXPECT_TRUE(
        std::ranges::equal(part, std::span(whole->data).subspan(range.first * 4, range.count * 4)))
        << range.first;
  }
  const auto rows = client.read_rows(put->tensor, 149, 151, {.as = DType::kF32});
  ASSERT_TRUE(rows) << rows.error().message;
  EXPECT_EQ(rows->shape, (std::vector<uint64_t>{2, 7000}));
  EXPECT_TRUE(
      std::ranges::equal(rows->data, std::span(whole->data).subspan(149 * 28'000, 2 * 28'000)));
  std::vector<std::byte> nothing;
  for (const client::ValueRange range :
       std::initializer_list<client::ValueRange>{{2'100'000, 1}, {2'100'001, 0}, {1, ~uint64_t{0}}})
    EXPECT_EQ(client.read_range(put->tensor, range, {}, appending_to(nothing)).error().code,
              Errc::kInvalidArgument);
  EXPECT_EQ(client.read_rows(put->tensor, 299, 301, {}).error().code, Errc::kInvalidArgument);
  EXPECT_TRUE(nothing.empty());
}

// Deleted and reclaimed blocks can't be fetched: what is read all the same was not asked for.
TEST(Codecs, a_part_asks_for_no_block_but_its_own) {
  RunningCluster cluster;
  Client client = cluster.connect();
  const std::vector<float> values = make_values(3'000'000, 2);
  const auto put = client.put("w", view_of(values), {});
  ASSERT_TRUE(put) << put.error().message;
  client::StoredTensor tensor = put->tensor;
  ASSERT_EQ(tensor.blocks.size(), 12u);
  // References to blocks that are nowhere.
  for (size_t i = 0; i < tensor.blocks.size(); ++i)
    if (i != 5) tensor.blocks[i].digest = sha256(as_byte_span("nowhere"));
  std::vector<std::byte> part;
  const uint64_t first = 5 * tensor.values_per_block;
  const auto read =
      client.read_range(tensor, {first, tensor.values_per_block}, {}, appending_to(part));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(std::memcmp(part.data(), values.data() + first, part.size()), 0);
  EXPECT_FALSE(client.read_range(tensor, {first - 1, 2}, {}, appending_to(part)));
}

// As a program may fill it in: int4 without a group.
TEST(Codecs, a_codec_that_there_is_not_is_refused) {
  RunningCluster cluster;
  Client client = cluster.connect();
  const std::vector<float> values = make_values(1000, 3);
  for (const auto id : {quant::CodecId::kInt4, quant::CodecId::kInt8, quant::CodecId::kSparse4}) {
    const auto put = client.put("w", view_of(values), {.codec = quant::CodecSpec{id}});
    ASSERT_FALSE(put);
    EXPECT_EQ(put.error().code, Errc::kInvalidArgument);
  }
}

TEST(Codecs, blocks_come_as_they_are_stored_in_order) {
  RunningCluster cluster;
  Client client = cluster.connect();
  // Enough blocks that their references need a block of their own; few of them differ, so that
  // little is stored.
  std::vector<float> values((limits::kInlineBlocksMax + 1) * limits::kBlockBytesTarget / 4 - 9);
  for (size_t i = 0; i < values.size(); i += limits::kBlockBytesTarget / 4)
    values[i] = static_cast<float>(i % 5);
  const auto put = client.put("w", view_of(values), {});
  ASSERT_TRUE(put) << put.error().message;
  ASSERT_TRUE(put->tensor.block_list);
  const auto tensor = client.with_blocks(put->tensor);
  ASSERT_TRUE(tensor) << tensor.error().message;
  EXPECT_FALSE(tensor->block_list);
  size_t block = 0;
  ASSERT_TRUE(client.read_blocks(*tensor, [&](std::span<const std::byte> bytes) -> Status {
    EXPECT_EQ(sha256(bytes), tensor->blocks.at(block).digest);
    const auto info = quant::inspect_block(bytes);
    EXPECT_TRUE(info && info->values ==
                            std::min<uint64_t>(tensor->values_per_block,
                                               values.size() - block * tensor->values_per_block));
    ++block;
    return {};
  }));
  EXPECT_EQ(block, tensor->blocks.size());
}

std::vector<float> floats_of(std::span<const std::byte> bytes) {
  std::vector<float> floats(bytes.size() / sizeof(float));
  std::memcpy(floats.data(), bytes.data(), bytes.size());
  return floats;
}

std::vector<float> values_of(Client& client, const client::StoredTensor& tensor,
                             const client::ReadOptions& options) {
  std::vector<std::byte> bytes;
  const auto read = client.read(tensor, options, appending_to(bytes));
  EXPECT_TRUE(read) << read.error().message;
  return floats_of(bytes);
}

TEST(Pruning, two_of_four_values_are_gone_and_counted) {
  RunningCluster cluster;
  Client client = cluster.connect();
  constexpr size_t kRows = 300, kColumns = 7003;
  const std::vector<float> values = make_values(kRows * kColumns, 4);
  client::TensorView view = view_of(values);
  view.shape = {kRows, kColumns};
  const auto put = client.put("w", view, {.prune = *quant::parse_prune("2:4")});
  ASSERT_TRUE(put) << put.error().message;
  const auto stored = client.stat("w", {});
  ASSERT_TRUE(stored) << stored.error().message;
  const std::vector<float> pruned = values_of(client, stored->tensor, {});
  ASSERT_EQ(pruned.size(), values.size());
  uint64_t removed = 0;
  double energy = 0;
  for (size_t row = 0; row < kRows; ++row) {
    for (size_t group = 0; group < kColumns; group += 4) {
      const size_t end = std::min(kColumns, group + 4);
      size_t zeros = 0;
      for (size_t i = row * kColumns + group; i < row * kColumns + end; ++i) {
        if (pruned[i] == values[i]) continue;
        ASSERT_EQ(pruned[i], 0) << i;
        ++zeros;
        energy += static_cast<double>(values[i]) * static_cast<double>(values[i]);
      }
      ASSERT_EQ(zeros, end - group > 2 ? end - group - 2 : 0) << row << ", " << group;
      removed += zeros;
    }
  }
  const auto& pruning = stored->tensor.pruning;
  ASSERT_TRUE(pruning);
  EXPECT_EQ(quant::prune_name(pruning->spec), "2:4");
  EXPECT_EQ(pruning->removed, removed);
  EXPECT_NEAR(pruning->removed_energy, energy, 1e-9 * energy);
  ASSERT_TRUE(stored->tensor.error);
  EXPECT_EQ(stored->tensor.error->noise_energy, 0) << "the rest is exact";
  EXPECT_NEAR(stored->tensor.error_with_pruning().noise_energy, energy, 1e-9 * energy);
  // A part of it, over the ends of blocks, is pruned the same.
  std::vector<std::byte> part;
  const client::ValueRange range{stored->tensor.values_per_block - 5, 11};
  ASSERT_TRUE(client.read_range(stored->tensor, range, {}, appending_to(part)));
  EXPECT_TRUE(
      std::ranges::equal(floats_of(part), std::span(pruned).subspan(range.first, range.count)));
}

TEST(Pruning, a_share_of_the_smallest_values_is_gone) {
  RunningCluster cluster;
  Client client = cluster.connect();
  const std::vector<float> values = make_values(1'000'003, 5);
  const auto put =
      client.put("w", view_of(values), {.prune = *quant::parse_prune("magnitude:0.3")});
  ASSERT_TRUE(put) << put.error().message;
  const std::vector<float> pruned = values_of(client, put->tensor, {});
  ASSERT_EQ(pruned.size(), values.size());
  float largest_gone = 0, smallest_kept = std::numeric_limits<float>::infinity();
  uint64_t gone = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (pruned[i] == 0) {
      ++gone;
      largest_gone = std::max(largest_gone, std::abs(values[i]));
    } else {
      ASSERT_EQ(pruned[i], values[i]);
      smallest_kept = std::min(smallest_kept, std::abs(values[i]));
    }
  }
  EXPECT_EQ(gone, 300'000u);
  EXPECT_EQ(put->tensor.pruning->removed, 300'000u);
  EXPECT_LE(largest_gone, smallest_kept);
}

class WholeSlices : public ::testing::TestWithParam<const char*> {};

TEST_P(WholeSlices, are_gone_from_the_small_tensor_and_zeros_in_the_whole) {
  RunningCluster cluster;
  Client client = cluster.connect();
  const std::vector<uint64_t> shape{64, 97, 211};
  const std::vector<float> values = make_values(64 * 97 * 211, 6);
  client::TensorView view = view_of(values);
  view.shape = shape;
  const auto put = client.put("w", view, {.prune = *quant::parse_prune(GetParam())});
  ASSERT_TRUE(put) << put.error().message;
  const auto stored = client.stat("w", {});
  ASSERT_TRUE(stored) << stored.error().message;
  const client::StoredTensor& tensor = stored->tensor;
  EXPECT_EQ(tensor.shape, shape);
  ASSERT_TRUE(tensor.pruning && tensor.pruning->kept);
  const size_t axis = *quant::prune_axis(tensor.pruning->spec, 3);
  const std::vector<uint64_t> kept = tensor.pruning->kept_indices();
  std::vector<uint64_t> small_shape = shape;
  small_shape[axis] = kept.size();
  EXPECT_LT(kept.size(), shape[axis]);
  EXPECT_EQ(tensor.small_shape(), small_shape);

  std::vector<float> expected(values.size()), expected_small;
  double energy = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const std::array<uint64_t, 3> at{i / (97 * 211), i / 211 % 97, i % 211};
    if (std::ranges::binary_search(kept, at[axis])) {
      expected[i] = values[i];
      expected_small.push_back(values[i]);
    } else {
      energy += static_cast<double>(values[i]) * static_cast<double>(values[i]);
    }
  }
  EXPECT_EQ(tensor.pruning->removed, values.size() - expected_small.size());
  EXPECT_NEAR(tensor.pruning->removed_energy, energy, 1e-9 * energy);
  EXPECT_EQ(values_of(client, tensor, {}), expected);
  EXPECT_EQ(values_of(client, tensor, {.small = true}), expected_small);
  for (const uint64_t row : {uint64_t{0}, uint64_t{31}, uint64_t{63}}) {
    const auto rows = client.read_rows(tensor, row, row + 1, {});
    ASSERT_TRUE(rows) << rows.error().message;
    EXPECT_TRUE(std::ranges::equal(floats_of(rows->data),
                                   std::span(expected).subspan(row * 97 * 211, 97 * 211)));
  }
  const auto small = client.read_rows(tensor, 2, 4, {.small = true});
  ASSERT_TRUE(small) << small.error().message;
  const size_t row_values = small_shape[1] * small_shape[2];
  EXPECT_TRUE(std::ranges::equal(
      floats_of(small->data), std::span(expected_small).subspan(2 * row_values, 2 * row_values)));
  EXPECT_FALSE(client.read_rows(tensor, 0, small_shape[0] + 1, {.small = true}));
}
INSTANTIATE_TEST_SUITE_P(Axes, WholeSlices,
                         ::testing::Values("rows:0.4", "columns:0.4", "channels:0.9"));

// Nobody should wait for the upload of many tensors to learn that the version can't be stored.
TEST(Publish, says_what_it_can_not_store_before_it_reads_any_tensor) {
  RunningCluster cluster;
  Client client = cluster.connect();
  std::atomic<int> reads = 0;
  const auto source = [&](std::string name, DType dtype, std::vector<uint64_t> shape) {
    return client::TensorSource{.name = std::move(name),
                                .dtype = dtype,
                                .shape = std::move(shape),
                                .read = [&](uint64_t, std::span<std::byte> out) -> Status {
                                  ++reads;
                                  std::ranges::fill(out, std::byte{});
                                  return {};
                                }};
  };
  const std::vector<client::TensorSource> tensors = {source("a", DType::kF32, {64, 64}),
                                                     source("embedding", DType::kF32, {262'145, 1}),
                                                     source("steps", DType::kI64, {3, 3})};
  const auto publish = [&](const client::Encoding& encoding) {
    return client.publish("m", tensors, {.policy = [&](const client::TensorSource& tensor) {
                            return tensor.name == "a" ? client::Encoding{} : encoding;
                          }});
  };
  const quant::CodecSpec f32 = quant::exact_codec(DType::kF32);
  const auto too_long = publish({f32, *quant::parse_prune("rows:0.25")});
  ASSERT_FALSE(too_long);
  EXPECT_EQ(too_long.error().code, Errc::kInvalidArgument);
  EXPECT_EQ(too_long.error().message,
            "tensor 'embedding': pruning rows:0.25 takes slices out of an axis of at most 262144, "
            "not 262145; prune it along another axis, or not at all");
  const auto no_float = publish({f32, {}});
  ASSERT_FALSE(no_float);
  EXPECT_EQ(
      no_float.error().message,
      "tensor 'steps': codec f32 encodes F32, F16 and BF16, not I64; use raw for this tensor");
  const auto metadata = client.publish(
      "m", tensors, {.metadata = {{"k", std::string(limits::kMetadataBytesMax, 'v')}}});
  ASSERT_FALSE(metadata);
  EXPECT_EQ(metadata.error().message, "1048577 bytes of metadata; the limit is 1048576");
  EXPECT_EQ(reads, 0);
  EXPECT_TRUE(publish({}));
  EXPECT_GT(reads, 0) << "or this test can't fail";
}

// What a step of training changes: some values, and of those the last bits.
std::vector<float> trained(std::vector<float> values, uint64_t seed) {
  for (size_t i = seed % 7; i < values.size(); i += 7)
    values[i] = std::bit_cast<float>(std::bit_cast<uint32_t>(values[i]) ^
                                     static_cast<uint32_t>((seed * 31 + i) % 16));
  return values;
}

client::TensorSource source_of(std::string name, const std::vector<float>& values) {
  return {.name = std::move(name),
          .shape = {values.size()},
          .read = [&values](uint64_t offset, std::span<std::byte> out) -> Status {
            std::memcpy(out.data(), std::as_bytes(std::span(values)).data() + offset, out.size());
            return {};
          }};
}

const client::EncodingPolicy kLossless = client::uniform_policy({.id = quant::CodecId::kLossless});

TEST(Differences, outlive_the_version_that_they_are_differences_to) {
  RunningCluster cluster;
  Client client = cluster.connect();
  const std::vector<float> first = make_values(2'500'000, 10);
  const std::vector<float> second = trained(first, 3);
  const std::vector<float> other = make_values(1000, 11);
  ASSERT_TRUE(client.publish("m", {source_of("w", first)}, {}));
  const auto base = client.version(*parse_reference("m@1"), ReadLevel::kLinearizable);
  ASSERT_TRUE(base) << base.error().message;
  const auto published = client.publish("m", {source_of("new", other), source_of("w", second)},
                                        {.policy = kLossless, .base = *base});
  ASSERT_TRUE(published) << published.error().message;
  const auto plain = client.publish("plain", {source_of("w", second)}, {.policy = kLossless});
  ASSERT_TRUE(plain) << plain.error().message;
  const auto version = client.version(*parse_reference("m@2"), ReadLevel::kLinearizable);
  ASSERT_TRUE(version) << version.error().message;
  ASSERT_EQ(version->tensors.size(), 2u);
  EXPECT_FALSE(version->tensors[0].base) << "it has no counterpart";
  const client::StoredTensor& tensor = version->tensors[1];
  ASSERT_TRUE(tensor.base);
  EXPECT_EQ(tensor.base_depth(), 1u);
  EXPECT_LT(tensor.encoded_bytes * 2, plain->version.tensors[0].encoded_bytes);
  ASSERT_TRUE(client.remove_version("m", 1));
  EXPECT_EQ(values_of(client, tensor, {}), second);
  for (const client::ValueRange range : std::initializer_list<client::ValueRange>{
           {tensor.values_per_block - 2, 5}, {2'499'999, 1}}) {
    std::vector<std::byte> part;
    const auto read = client.read_range(tensor, range, {}, appending_to(part));
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_TRUE(
        std::ranges::equal(floats_of(part), std::span(second).subspan(range.first, range.count)));
  }
}

TEST(Differences, are_bounded_in_depth) {
  RunningCluster cluster;
  Client client = cluster.connect();
  std::vector<float> values = make_values(1'200'000, 12);
  std::optional<client::StoredTensor> base;
  for (size_t step = 0; step <= limits::kBaseDepthMax + 1; ++step) {
    values = trained(std::move(values), step);
    const auto put =
        client.put("w", view_of(values), {.codec = *quant::parse_codec("lossless"), .base = base});
    ASSERT_TRUE(put) << put.error().message;
    const auto stored = client.stat("w", {});
    ASSERT_TRUE(stored) << stored.error().message;
    EXPECT_EQ(stored->tensor.base_depth(), step <= limits::kBaseDepthMax ? step : 0u);
    EXPECT_EQ(values_of(client, stored->tensor, {}), values) << step;
    base = stored->tensor;
  }
}

// The base's blocks end at 100,000 and 200,000, those of the difference at 262,144, which no writer
// of this version does: the blocks of three keys make such a base.
TEST(Differences, are_read_over_the_ends_of_a_base_that_is_cut_differently) {
  RunningCluster cluster;
  Client client = cluster.connect();
  constexpr size_t kPart = 100'000, kValues = 300'000;
  const std::vector<float> values = make_values(kValues, 16);
  const std::vector<float> next = trained(values, 2);
  client::StoredTensor base{.dtype = DType::kF32,
                            .shape = {kValues},
                            .codec = quant::exact_codec(DType::kF32),
                            .values_per_block = kPart};
  for (size_t part = 0; part < 3; ++part) {
    const auto first = values.begin() + static_cast<ptrdiff_t>(part * kPart);
    const auto put = client.put("part" + std::to_string(part),
                                view_of(std::vector<float>(first, first + kPart)), {});
    ASSERT_TRUE(put) << put.error().message;
    ASSERT_EQ(put->tensor.blocks.size(), 1u);
    base.blocks.push_back(put->tensor.blocks.front());
    base.encoded_bytes += put->tensor.encoded_bytes;
  }
  const auto put = client.put("w", view_of(next),
                              {.codec = *quant::parse_codec("lossless"), .base = std::move(base)});
  ASSERT_TRUE(put) << put.error().message;
  const auto stored = client.stat("w", {});
  ASSERT_TRUE(stored) << stored.error().message;
  const client::StoredTensor& tensor = stored->tensor;
  ASSERT_TRUE(tensor.base);
  ASSERT_EQ(tensor.base->values_per_block, kPart);
  ASSERT_NE(tensor.values_per_block % kPart, 0u);
  EXPECT_LT(tensor.encoded_bytes * 2, kValues * sizeof(float));
  EXPECT_EQ(values_of(client, tensor, {}), next);
  for (const client::ValueRange range : std::initializer_list<client::ValueRange>{
           {kPart - 1, 2}, {tensor.values_per_block - 1, 2}, {kValues - 1, 1}}) {
    std::vector<std::byte> part;
    const auto read = client.read_range(tensor, range, {}, appending_to(part));
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_TRUE(
        std::ranges::equal(floats_of(part), std::span(next).subspan(range.first, range.count)))
        << range.first;
  }
}

TEST(Differences, are_stored_only_to_what_suits_and_where_they_are_smaller) {
  RunningCluster cluster;
  Client client = cluster.connect();
  const std::vector<float> values = make_values(300'000, 13);
  const std::vector<float> stranger = make_values(300'000, 14);
  const quant::CodecSpec lossless = *quant::parse_codec("lossless");
  const auto lossy = client.put("lossy", view_of(values), {.codec = *quant::parse_codec("int8")});
  const std::vector<float> part(values.begin(), values.end() - 1);
  const auto shorter = client.put("shorter", view_of(part), {});
  const auto far = client.put("far", view_of(stranger), {});
  const auto exact = client.put("exact", view_of(values), {});
  ASSERT_TRUE(lossy && shorter && far && exact);
  for (const auto* put : {&lossy, &shorter, &far}) {
    const auto result =
        client.put("w", view_of(values), {.codec = lossless, .base = (*put)->tensor});
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_FALSE(result->tensor.base);
    EXPECT_EQ(values_of(client, result->tensor, {}), values);
  }
  EXPECT_FALSE(client.put("w", view_of(values), {.base = exact->tensor})->tensor.base)
      << "only lossless stores differences";
  EXPECT_TRUE(
      client.put("w", view_of(values), {.codec = lossless, .base = exact->tensor})->tensor.base);
}

// One dtype's bytes of made up values, and how close to them a codec has to come.
struct Case {
  const char* codec;
  double sqnr_db;  // at least; 0: every bit
};

class EveryCodec : public ::testing::TestWithParam<Case> {};

TEST_P(EveryCodec, gives_back_what_it_reports_in_each_dtype) {
  RunningCluster cluster;
  Client client = cluster.connect();
  const std::vector<float> values = make_values(700 * 1500, 15);
  const quant::CodecSpec codec = *quant::parse_codec(GetParam().codec);
  ASSERT_TRUE(client.put(
      "f32", {.dtype = DType::kF32, .shape = {700, 1500}, .data = std::as_bytes(std::span(values))},
      {}));
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const auto given = client.get("f32", {.as = dtype});
    ASSERT_TRUE(given) << given.error().message;
    const auto put = client.put("w", {.dtype = dtype, .shape = {700, 1500}, .data = given->data},
                                {.codec = codec});
    ASSERT_TRUE(put) << put.error().message;
    const auto back = client.get("w", {});
    ASSERT_TRUE(back) << back.error().message;
    const auto rows = client.read_rows(put->tensor, 350, 353, {});
    ASSERT_TRUE(rows) << rows.error().message;
    const size_t row = 1500 * quant::dtype_bytes(dtype);
    EXPECT_TRUE(std::ranges::equal(rows->data, std::span(back->data).subspan(350 * row, 3 * row)));
    uint64_t raw = 0;
    ASSERT_TRUE(client.read_blocks(put->tensor, [&](std::span<const std::byte> block) -> Status {
      raw += block.size();
      return {};
    }));
    EXPECT_EQ(raw, put->tensor.encoded_bytes);
    if (GetParam().sqnr_db == 0) {
      EXPECT_EQ(back->data, given->data);
      EXPECT_FALSE(put->tensor.error);
      continue;
    }
    ASSERT_TRUE(put->tensor.error);
    EXPECT_GT(quant::error_report(*put->tensor.error).sqnr_db, GetParam().sqnr_db);
    const auto as_f32 = client.get("w", {.as = DType::kF32});
    ASSERT_TRUE(as_f32) << as_f32.error().message;
    ASSERT_TRUE(
        client.put("given", {.dtype = dtype, .shape = {700, 1500}, .data = given->data}, {}));
    const auto exact = client.get("given", {.as = DType::kF32});
    ASSERT_TRUE(exact) << exact.error().message;
    const std::vector<float> x = floats_of(exact->data), y = floats_of(as_f32->data);
    double noise = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double error = static_cast<double>(x[i]) - static_cast<double>(y[i]);
      noise += error * error;
    }
    EXPECT_NEAR(noise, put->tensor.error->noise_energy, 1e-5 * noise);
  }
}
INSTANTIATE_TEST_SUITE_P(Codecs, EveryCodec,
                         ::testing::Values(Case{"lossless", 0}, Case{"int8", 40}, Case{"int4", 19},
                                           Case{"sparse4", 19}, Case{"ec4:bits=4", 18},
                                           Case{"ec4t:db=20", 19.5}),
                         [](const auto& test) {
                           const std::string_view codec = test.param.codec;
                           return std::string(codec.substr(0, codec.find(':')));
                         });

}  // namespace
}  // namespace ballast::testing
