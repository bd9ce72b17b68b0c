#include "quant/prune.h"

#include <numeric>
#include <ranges>
#include <thread>

#include "proto/base/limits.h"
#include "tests/unit/quant/helpers.h"

namespace ballast::quant {
namespace {

using Shape = std::vector<uint64_t>;

PruneSpec prune(std::string_view text) { return parse_prune(text).value(); }

uint64_t count_of(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), uint64_t{1}, std::multiplies<>());
}

// Feeds the tensor pass after pass, in pieces of random length. `passes` counts them.
PrunePlan plan_of(PruneSpec spec, DType dtype, const Shape& shape, const ByteVector& values,
                  uint64_t seed, int* passes = nullptr) {
  PrunePlanner planner = PrunePlanner::create(spec, dtype, shape).value();
  Random random(seed);
  const size_t width = dtype_bytes(dtype);
  while (planner.wants_pass()) {
    if (passes != nullptr) ++*passes;
    for (size_t at = 0; at < values.size();) {
      const size_t piece = std::min(values.size() - at, random.below(3000) * width);
      planner.add(std::span(values).subspan(at, piece));
      at += piece;
    }
  }
  return std::move(planner).finish();
}

// Prunes all values, range by range, in an order that has nothing to do with theirs.
ByteVector apply_by_ranges(const PrunePlan& plan, DType dtype, const ByteVector& values,
                           uint64_t seed, PruneCounts* counts = nullptr) {
  const size_t width = dtype_bytes(dtype);
  const uint64_t total = values.size() / width;
  Random random(seed);
  std::vector<ValueRange> ranges;
  for (uint64_t at = 0; at < total; at += ranges.back().count) {
    ranges.push_back({at, std::min(total - at, 1 + random.below(700))});
  }
  std::ranges::reverse(ranges);
  ByteVector pruned(values.size());
  for (const ValueRange range : ranges) {
    const ValueRange window = plan.window(range.first, range.count);
    ByteVector part(values.begin() + window.first * width,
                    values.begin() + (window.first + window.count) * width);
    const PruneCounts found = plan.apply(window.first, part);
    if (counts != nullptr) *counts += found;
    std::copy_n(part.begin() + (range.first - window.first) * width, range.count * width,
                pruned.begin() + range.first * width);
  }
  return pruned;
}

// What counts: the magnitude, infinity above every number, and NaN above infinity.
double magnitude(float value) {
  if (std::isnan(value)) return HUGE_VAL;
  return std::isinf(value) ? 1e300 : std::abs(double{value});
}

// The positions in the order in which they go out.
std::vector<size_t> smallest_first(std::span<const float> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::sort(order, {}, [&](size_t i) { return std::pair(magnitude(values[i]), i); });
  return order;
}

// A second implementation, which sorts everything.
std::vector<float> prune_by_sorting(PruneSpec spec, const Shape& shape, std::vector<float> values) {
  const auto clear = [](std::span<float> part, size_t count) {
    const std::vector<size_t> order = smallest_first(part);
    for (size_t i = 0; i < count; ++i) part[order[i]] = 0;
  };
  if (spec.kind == PruneKind::kMagnitude) {
    clear(values, values.size() * spec.millionths / 1'000'000);
    return values;
  }
  const size_t row = shape.size() < 2 ? values.size() : values.size() / shape[0];
  for (size_t start = 0; start < values.size(); start += row) {
    for (size_t at = start; at < start + row; at += spec.m) {
      const size_t size = std::min<size_t>(spec.m, start + row - at);
      clear(std::span(values).subspan(at, size), size - std::min<size_t>(size, spec.n));
    }
  }
  return values;
}

// Values with many ties, zeros of both signs, denormals, NaN and infinities.
std::vector<float> awkward_values(size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) {
    const uint64_t kind = random.below(100);
    value = kind < 60   ? static_cast<float>(random.normal())
            : kind < 85 ? static_cast<float>(random.below(5)) / 4
            : kind < 90 ? -0.0f
            : kind < 95 ? 1e-42f * static_cast<float>(random.below(3))
            : kind < 97 ? std::copysign(NAN, random.below(2) == 0 ? 1.0f : -1.0f)
                        : std::copysign(INFINITY, random.below(2) == 0 ? 1.0f : -1.0f);
  }
  return values;
}

ByteVector narrowed(const std::vector<float>& values, DType dtype) {
  return decode_bytes(encode_floats("f32", values), dtype);
}
std::vector<float> widened(const ByteVector& values, DType dtype) {
  return decode_floats(encode_bytes(codec("raw"), dtype, values));
}

TEST(Prune, specs_are_parsed_and_written) {
  for (const auto& [text, spec] : std::vector<std::pair<std::string, PruneSpec>>{
           {"magnitude:0.5", {PruneKind::kMagnitude, 500'000}},
           {"magnitude:0.000001", {PruneKind::kMagnitude, 1}},
           {"magnitude:0.999999", {PruneKind::kMagnitude, 999'999}},
           {"2:4", {PruneKind::kNOfM, 0, 2, 4}},
           {"63:64", {PruneKind::kNOfM, 0, 63, 64}},
           {"rows:0.25", {PruneKind::kRows, 250'000}},
           {"columns:0.125", {PruneKind::kColumns, 125'000}},
           {"channels:0.1", {PruneKind::kChannels, 100'000}}}) {
    ASSERT_TRUE(parse_prune(text).has_value()) << text;
    EXPECT_EQ(*parse_prune(text), spec);
    EXPECT_EQ(prune_name(spec), text);
    EXPECT_EQ(prune_from_numbers(static_cast<uint32_t>(spec.kind), spec.millionths, spec.n, spec.m)
                  .value(),
              spec);
  }
  EXPECT_EQ(prune("rows:0.2500"), prune("rows:0.25"));
  for (const char* text : {"",
                           "magnitude",
                           "magnitude:",
                           "magnitude:0",
                           "magnitude:0.",
                           "magnitude:0.0",
                           "magnitude:1",
                           "magnitude:1.0",
                           "magnitude:.5",
                           "magnitude:0.5 ",
                           "magnitude:0.0000001",
                           "magnitude:-0.5",
                           "magnitude:0.+5",
                           "magnitude:50%",
                           "MAGNITUDE:0.5",
                           "2:2",
                           "0:4",
                           "4:2",
                           "2:65",
                           "2:",
                           ":4",
                           "2:4:8",
                           "2",
                           "-2:4",
                           "2:4 ",
                           "rows:2:4",
                           "planes:0.5"}) {
    const Result<PruneSpec> parsed = parse_prune(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_EQ(parsed.error().code, Errc::kInvalidArgument);
    EXPECT_NE(parsed.error().message.find("known are magnitude:0.5"), std::string::npos);
  }
}

TEST(Prune, numbers_are_checked) {
  const uint32_t bad[][4] = {{0, 500'000, 0, 0}, {1, 0, 0, 0},        {1, 1'000'000, 0, 0},
                             {1, 500'000, 2, 4}, {2, 0, 0, 4},        {2, 0, 4, 4},
                             {2, 1, 2, 4},       {2, 0, 2, 65},       {3, 0, 0, 0},
                             {6, 500'000, 0, 0}, {257, 500'000, 0, 0}};
  for (const auto& [kind, millionths, n, m] : bad) {
    const Result<PruneSpec> spec = prune_from_numbers(kind, millionths, n, m);
    ASSERT_FALSE(spec.has_value()) << kind << " " << millionths << " " << n << " " << m;
    EXPECT_EQ(spec.error().code, Errc::kCorrupt);
  }
}

TEST(Prune, values_are_pruned_as_by_sorting) {
  const Shape shapes[] = {{},      {0},      {1},          {7},       {5000},        {40, 125},
                          {1, 9},  {333, 3}, {70, 11, 13}, {5, 0, 3}, {2, 3, 5, 71}, {17, 1},
                          {64, 64}};
  uint64_t seed = 0;
  for (const char* text : {"magnitude:0.5", "magnitude:0.9", "magnitude:0.999999",
                           "magnitude:0.123457", "2:4", "1:4", "3:7", "4:8", "1:64"}) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      for (const Shape& shape : shapes) {
        const ByteVector values = narrowed(awkward_values(count_of(shape), ++seed), dtype);
        const auto expected = prune_by_sorting(prune(text), shape, widened(values, dtype));
        const PrunePlan plan = plan_of(prune(text), dtype, shape, values, seed);
        EXPECT_TRUE(std::ranges::equal(plan.shape(), shape));
        ASSERT_EQ(plan.kept(), nullptr);
        const ByteVector pruned = apply_by_ranges(plan, dtype, values, seed + 1);
        // As bytes, because NaN is not equal to itself, and -0 is not to stay where 0 is meant.
        ASSERT_EQ(pruned, narrowed(expected, dtype)) << text << " " << seed;
      }
    }
  }
}

TEST(Prune, the_share_is_exact_in_a_constant_tensor) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const ByteVector values = narrowed(std::vector<float>(9999, -0.75f), dtype);
    const PrunePlan plan = plan_of(prune("magnitude:0.3"), dtype, {9999}, values, 1);
    PruneCounts counts;
    const auto pruned = widened(apply_by_ranges(plan, dtype, values, 2, &counts), dtype);
    EXPECT_EQ(counts.removed, 2999U);
    EXPECT_TRUE(std::all_of(pruned.begin(), pruned.begin() + 2999, [](float v) { return v == 0; }));
    EXPECT_EQ(std::ranges::count(pruned, -0.75f), 7000);
  }
}

TEST(Prune, passes_are_few) {
  const auto passes = [](const char* text, DType dtype, const std::vector<float>& values) {
    int passes = 0;
    plan_of(prune(text), dtype, {values.size()}, narrowed(values, dtype), 3, &passes);
    return passes;
  };
  const std::vector<float> normal = normal_values(20'000);
  EXPECT_EQ(passes("2:4", DType::kF32, normal), 0);
  EXPECT_EQ(passes("rows:0.5", DType::kF32, normal), 1);
  EXPECT_EQ(passes("magnitude:0.5", DType::kF32, normal), 2);
  EXPECT_LE(passes("magnitude:0.5", DType::kBF16, normal), 2);
  EXPECT_EQ(passes("magnitude:0.5", DType::kF32, std::vector<float>(20'000, 1.0f)), 3);
  EXPECT_EQ(passes("magnitude:0.1", DType::kF32, {1, 2, 3}), 0);
  EXPECT_EQ(passes("magnitude:0.5", DType::kF32, {}), 0);
}

TEST(Prune, nan_and_infinity_go_last_and_are_counted) {
  const ByteVector values = narrowed({NAN, 3, INFINITY, -1, -NAN, 2, 0, -INFINITY}, DType::kF32);
  const auto counts = [&](const char* text) {
    PruneCounts found;
    const PrunePlan plan = plan_of(prune(text), DType::kF32, {8}, values, 1);
    apply_by_ranges(plan, DType::kF32, values, 1, &found);
    return std::pair(found.removed, found.not_finite);
  };
  EXPECT_EQ(counts("magnitude:0.5"), std::pair(uint64_t{4}, uint64_t{0}));
  EXPECT_EQ(counts("magnitude:0.75"), std::pair(uint64_t{6}, uint64_t{2}));
  auto pruned = values;
  plan_of(prune("magnitude:0.75"), DType::kF32, {8}, values, 1).apply(0, pruned);
  EXPECT_TRUE(std::isnan(vector_of<float>(pruned)[0]));
  EXPECT_TRUE(std::isnan(vector_of<float>(pruned)[4]));
  EXPECT_EQ(counts("1:8"), std::pair(uint64_t{7}, uint64_t{3}));
}

TEST(Prune, a_plan_serves_many_threads) {
  const ByteVector values = narrowed(awkward_values(64'000, 5), DType::kF32);
  const PrunePlan plan = plan_of(prune("magnitude:0.7"), DType::kF32, {64'000}, values, 1);
  ByteVector whole = values;
  plan.apply(0, whole);
  ByteVector parts = values;
  {
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < 4; ++i) {
      threads.emplace_back(
          [&, i] { plan.apply(i * 16'000, std::span(parts).subspan(i * 64'000, 64'000)); });
    }
  }
  EXPECT_EQ(parts, whole);
}

// --- structured ---

struct Axis {
  uint64_t outer = 1;
  uint64_t extent = 1;
  uint64_t inner = 1;
};
Axis axis_of(const Shape& shape, size_t axis) {
  Axis result{1, shape[axis], 1};
  for (size_t i = 0; i < axis; ++i) result.outer *= shape[i];
  for (size_t i = axis + 1; i < shape.size(); ++i) result.inner *= shape[i];
  return result;
}

// Which positions of the original stay, by sorting slices by their norms.
std::vector<uint64_t> kept_positions(PruneSpec spec, const Shape& shape, size_t axis,
                                     const std::vector<float>& values) {
  const Axis a = axis_of(shape, axis);
  std::vector<double> energy(a.extent);
  for (size_t i = 0; i < values.size(); ++i) {
    energy[i / a.inner % a.extent] += double{values[i]} * values[i];
  }
  std::vector<size_t> order(a.extent);
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::sort(order, {}, [&](size_t i) {
    return std::pair(std::isnan(energy[i]) ? HUGE_VAL : energy[i], i);
  });
  const size_t removed = a.extent * spec.millionths / 1'000'000;
  std::vector<bool> gone(a.extent);
  for (size_t i = 0; i < removed; ++i) gone[order[i]] = true;
  std::vector<uint64_t> kept;
  for (size_t i = 0; i < values.size(); ++i) {
    if (!gone[i / a.inner % a.extent]) kept.push_back(i);
  }
  return kept;
}

struct Structured {
  const char* text;
  size_t axis;
  Shape shape;
};
const std::vector<Structured> kStructuredCases{
    {"rows:0.25", 0, {40, 30}},        {"rows:0.5", 0, {7}},
    {"rows:0.9", 0, {10, 3, 5}},       {"rows:0.999999", 0, {1, 8}},
    {"columns:0.25", 1, {40, 30}},     {"columns:0.5", 0, {999}},
    {"columns:0.3", 2, {6, 5, 64}},    {"channels:0.25", 1, {8, 16, 3, 3}},
    {"channels:0.5", 1, {300, 2}},     {"channels:0.4", 1, {2, 33, 17}},
    {"channels:0.125", 1, {5, 40, 1}}, {"columns:0.999999", 1, {3, 100}}};

TEST(Prune, slices_are_taken_out_as_by_sorting) {
  uint64_t seed = 100;
  uint64_t not_finite_sliced = 0;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const size_t width = dtype_bytes(dtype);
    for (const auto& [text, axis, shape] : kStructuredCases) {
      const bool special = ++seed % 2 == 0;
      const ByteVector values = narrowed(
          special ? awkward_values(count_of(shape), seed) : normal_values(count_of(shape), seed),
          dtype);
      const std::vector<float> floats = widened(values, dtype);
      const auto positions = kept_positions(prune(text), shape, axis, floats);
      EXPECT_EQ(prune_axis(prune(text), shape.size()).value(), axis);
      const PrunePlan plan = plan_of(prune(text), dtype, shape, values, seed);
      ASSERT_NE(plan.kept(), nullptr);
      const KeptSlices& kept = *plan.kept();
      ASSERT_EQ(kept.small_values(), positions.size()) << text;
      EXPECT_EQ(count_of({plan.shape().begin(), plan.shape().end()}), positions.size());
      ASSERT_EQ(kept.original_values(), count_of(shape));
      const auto not_finite = [&](uint64_t at) { return !std::isfinite(floats[at]); };
      const auto all = std::views::iota(uint64_t{0}, floats.size());
      EXPECT_EQ(plan.not_finite_sliced(), std::ranges::count_if(all, not_finite) -
                                              std::ranges::count_if(positions, not_finite));
      not_finite_sliced += plan.not_finite_sliced();

      Random random(seed);
      for (int i = 0; i < 60; ++i) {
        const uint64_t first = random.below(positions.size());
        const uint64_t count = i == 0 ? 0 : 1 + random.below(positions.size() - first);
        std::vector<uint64_t> named;
        uint64_t end = UINT64_MAX;
        for (const ValueRange run : kept.runs(first, count)) {
          ASSERT_NE(run.first, end) << "adjacent runs are one";
          for (uint64_t at = 0; at < run.count; ++at) named.push_back(run.first + at);
          end = run.first + run.count;
        }
        ASSERT_TRUE(std::ranges::equal(named, std::span(positions).subspan(first, count))) << text;

        const ValueRange range = kept.original_range(first, count);
        ByteVector small(count * width);
        kept.gather(first, count, width,
                    std::span(values).subspan(range.first * width, range.count * width), small);
        for (uint64_t at = 0; at < count; ++at) {
          ASSERT_EQ(std::memcmp(&small[at * width], &values[positions[first + at] * width], width),
                    0);
        }
      }
    }
  }
  EXPECT_GT(not_finite_sliced, 0U) << "no case counts any";
}

TEST(Prune, spreading_gives_the_original_with_zeros) {
  uint64_t seed = 200;
  for (const auto& [text, axis, shape] : kStructuredCases) {
    const std::vector<float> values = normal_values(count_of(shape), ++seed);
    const auto positions = kept_positions(prune(text), shape, axis, values);
    const ByteVector bytes = narrowed(values, DType::kF32);
    const PrunePlan plan = plan_of(prune(text), DType::kF32, shape, bytes, seed);
    std::vector<float> expected(values.size());
    std::vector<float> small;
    for (const uint64_t at : positions) {
      expected[at] = values[at];
      small.push_back(values[at]);
    }
    Random random(seed);
    for (int i = 0; i < 60; ++i) {
      const uint64_t first = random.below(values.size() + 1);
      const uint64_t count = random.below(values.size() - first + 1);
      const ValueRange range = plan.kept()->small_range(first, count);
      std::vector<float> out(count, NAN);
      plan.kept()->spread(first, count, sizeof(float),
                          bytes_of(small).subspan(range.first * 4, range.count * 4),
                          std::as_writable_bytes(std::span(out)));
      ASSERT_TRUE(std::ranges::equal(out, std::span(expected).subspan(first, count))) << text;
    }
  }
}

TEST(Prune, the_example_of_the_page) {
  std::vector<float> values(12);
  std::iota(values.begin(), values.end(), 1.0f);
  const ByteVector bytes = narrowed(values, DType::kF32);
  const PrunePlan plan = plan_of(prune("channels:0.4"), DType::kF32, {2, 3, 2}, bytes, 1);
  EXPECT_TRUE(std::ranges::equal(plan.kept()->bitmap(), ByteVector{std::byte{0x06}}));
  EXPECT_TRUE(std::ranges::equal(plan.shape(), Shape{2, 2, 2}));
  const std::vector<float> small{3, 4, 5, 6, 9, 10, 11, 12};
  ByteVector out(48);
  plan.kept()->spread(0, 12, 4, bytes_of(small), out);
  EXPECT_EQ(vector_of<float>(out), (std::vector<float>{0, 0, 3, 4, 5, 6, 0, 0, 9, 10, 11, 12}));
}

TEST(Prune, kept_slices_survive_their_bitmap) {
  const Shape shape{6, 37, 2};
  const ByteVector values = narrowed(normal_values(6 * 37 * 2), DType::kF32);
  const PrunePlan plan = plan_of(prune("channels:0.4"), DType::kF32, shape, values, 1);
  const auto bitmap = plan.kept()->bitmap();
  ASSERT_EQ(bitmap.size(), 5U);
  const KeptSlices again = KeptSlices::create(shape, 1, bitmap).value();
  EXPECT_TRUE(std::ranges::equal(again.small_shape(), plan.shape()));
  EXPECT_EQ(again.runs(0, again.small_values()).size(),
            plan.kept()->runs(0, again.small_values()).size());

  ByteVector damaged(bitmap.begin(), bitmap.end());
  damaged.back() |= std::byte{0x20};  // slice 37
  EXPECT_EQ(KeptSlices::create(shape, 1, damaged).error().code, Errc::kCorrupt);
  EXPECT_EQ(KeptSlices::create(shape, 1, bitmap.first(4)).error().code, Errc::kCorrupt);
  EXPECT_EQ(KeptSlices::create(shape, 3, bitmap).error().code, Errc::kCorrupt);
  EXPECT_EQ(KeptSlices::create(Shape{kPrunedExtentMax + 1}, 0, ByteVector(32'769)).error().code,
            Errc::kCorrupt);
  EXPECT_EQ(KeptSlices::create(Shape{8, uint64_t{1} << 46}, 0, ByteVector(1)).error().code,
            Errc::kCorrupt);
}

TEST(Prune, tensors_without_values_or_slices) {
  for (const Shape& shape : {Shape{0, 5}, Shape{5, 0}, Shape{0}, Shape{3, 0, 4}}) {
    for (const char* text : {"rows:0.5", "columns:0.5"}) {
      const PrunePlan plan = plan_of(prune(text), DType::kF32, shape, {}, 1);
      EXPECT_EQ(plan.kept()->small_values(), 0U);
      EXPECT_EQ(plan.kept()->small_range(0, 0).count, 0U);
      EXPECT_TRUE(plan.kept()->runs(0, 0).empty());
    }
  }
  // No slice is left: not what a planner says, but a reader may be told so.
  const KeptSlices none = KeptSlices::create(Shape{4, 2}, 0, ByteVector(1)).value();
  EXPECT_EQ(none.small_values(), 0U);
  ByteVector out(8, std::byte{1});
  none.spread(0, 8, 1, {}, out);
  EXPECT_EQ(out, ByteVector(8));
}

TEST(Prune, tensors_that_cannot_be_pruned_so) {
  const auto error = [](const char* text, DType dtype, const Shape& shape) {
    return PrunePlanner::create(prune(text), dtype, shape).error().code;
  };
  EXPECT_EQ(error("magnitude:0.5", DType::kI32, {8}), Errc::kInvalidArgument);
  EXPECT_EQ(error("2:4", DType::kF64, {8}), Errc::kInvalidArgument);
  EXPECT_EQ(error("rows:0.5", DType::kF32, {}), Errc::kInvalidArgument);
  EXPECT_EQ(error("columns:0.5", DType::kF32, {}), Errc::kInvalidArgument);
  EXPECT_EQ(error("channels:0.5", DType::kF32, {8}), Errc::kInvalidArgument);
  EXPECT_EQ(error("rows:0.5", DType::kF32, {kPrunedExtentMax + 1}), Errc::kInvalidArgument);
  EXPECT_EQ(error("2:4", DType::kF32, {uint64_t{1} << 32, uint64_t{1} << 32}),
            Errc::kInvalidArgument);
  EXPECT_TRUE(PrunePlanner::create(prune("rows:0.5"), DType::kF32, Shape{kPrunedExtentMax}));
}

// Larger groups than a plan has room for, or none at all.
TEST(Prune, specs_that_no_text_gives_prune_nothing) {
  const std::vector<uint64_t> shape{16, 128};
  for (const PruneSpec& spec :
       {PruneSpec{PruneKind::kNOfM}, PruneSpec{PruneKind::kNOfM, 0, 2, 128},
        PruneSpec{PruneKind::kNOfM, 0, 5, 4}, PruneSpec{PruneKind::kMagnitude, 1'000'000},
        PruneSpec{PruneKind::kRows, 2'000'000}, PruneSpec{PruneKind{0}, 500'000},
        PruneSpec{PruneKind{99}, 500'000}}) {
    const auto planner = PrunePlanner::create(spec, DType::kF32, shape);
    ASSERT_FALSE(planner.has_value()) << static_cast<int>(spec.kind) << ' ' << spec.millionths;
    EXPECT_EQ(planner.error().code, Errc::kInvalidArgument);
  }
}

}  // namespace
}  // namespace ballast::quant
