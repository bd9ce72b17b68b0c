#include "client/internal/prepared.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "quant/float_convert.h"

namespace ballast::client {
namespace {

constexpr uint64_t kPlanValues = 1 << 18;    // in one read of a planner's pass
constexpr uint64_t kGatherValues = 1 << 18;  // of the original, looked at for a part of the small
constexpr uint64_t kZeroedValues = 1 << 16;  // pruned at a time

uint64_t product(std::span<const uint64_t> shape) {
  uint64_t values = 1;
  for (const uint64_t extent : shape) values *= extent;
  return values;
}

// Calls add(i, value) for each value.
template <class Add>
void for_each_value(DType dtype, std::span<const std::byte> bytes, const Add& add) {
  const size_t width = quant::dtype_bytes(dtype);
  std::array<float, quant::kPieceValues> piece;
  for (size_t at = 0; at < bytes.size() / width; at += piece.size()) {
    const size_t count = std::min(piece.size(), bytes.size() / width - at);
    quant::load_f32(dtype, bytes.data() + at * width, count, piece.data());
    for (size_t i = 0; i < count; ++i) add(at + i, static_cast<double>(piece[i]));
  }
}

// Sum of x^2 over the finite values.
double energy_of(DType dtype, std::span<const std::byte> bytes) {
  double energy = 0;
  for_each_value(dtype, bytes, [&](size_t, double value) {
    if (std::isfinite(value)) energy += value * value;
  });
  return energy;
}

// What differs from what was there before.
Zeroed difference(DType dtype, std::span<const std::byte> before,
                  std::span<const std::byte> after) {
  const size_t width = quant::dtype_bytes(dtype);
  Zeroed zeroed;
  for_each_value(dtype, before, [&](size_t i, double value) {
    const size_t at = i * width;
    if (std::ranges::equal(before.subspan(at, width), after.subspan(at, width))) return;
    if (std::isfinite(value))
      zeroed.energy += value * value;
    else
      ++zeroed.not_finite;
  });
  return zeroed;
}

// How many values n:m takes out; see docs/formats/pruning.md.
uint64_t removed_of_groups(PruneSpec spec, std::span<const uint64_t> shape, uint64_t values) {
  if (values == 0) return 0;
  const uint64_t rows = shape.size() < 2 ? 1 : shape.front();
  const uint64_t row = values / rows;
  const uint64_t last = row % spec.m;
  return rows * (row / spec.m * (spec.m - spec.n) + (last > spec.n ? last - spec.n : 0));
}

uint64_t removed_of(PruneSpec spec, std::span<const uint64_t> shape, uint64_t small_values) {
  const uint64_t values = product(shape);
  if (quant::prune_is_structured(spec)) return values - small_values;
  if (spec.kind == quant::PruneKind::kNOfM) return removed_of_groups(spec, shape, values);
  // Divided before it is multiplied: `values` may be anything.
  const uint64_t whole = values / quant::kPruneMillionths, rest = values % quant::kPruneMillionths;
  return whole * spec.millionths + rest * spec.millionths / quant::kPruneMillionths;
}

}  // namespace

Result<std::shared_ptr<const Prepared>> Prepared::create(const TensorSource& source,
                                                         std::optional<PruneSpec> prune) {
  std::shared_ptr<Prepared> prepared(new Prepared(source));
  prepared->values_ = product(source.shape);
  if (prune) BALLAST_TRY_STATUS(prepared->plan(*prune));
  return std::shared_ptr<const Prepared>(std::move(prepared));
}

Status Prepared::plan(PruneSpec prune) {
  BALLAST_TRY(auto planner, quant::PrunePlanner::create(prune, source_.dtype, source_.shape));
  const bool structured = quant::prune_is_structured(prune);
  const size_t width = quant::dtype_bytes(source_.dtype);
  std::vector<std::byte> piece(std::min(values_, kPlanValues) * width);
  while (planner.wants_pass()) {
    energy_ = 0;
    for (uint64_t first = 0; first < values_; first += kPlanValues) {
      // The energy needs the whole pass; nothing else does.
      if (!structured && !planner.wants_pass()) break;
      const auto out = std::span(piece).first(std::min(kPlanValues, values_ - first) * width);
      BALLAST_TRY_STATUS(source_.read(first * width, out));
      planner.add(out);
      if (structured) energy_ += energy_of(source_.dtype, out);
    }
  }
  plan_ = std::move(planner).finish();
  if (!structured) return {};
  values_ = product(plan_->shape());
  kept_ = std::make_shared<const quant::KeptSlices>(*plan_->kept());
  return {};
}

Status Prepared::read(uint64_t first, std::span<std::byte> out, Zeroed* zeroed) const {
  if (out.empty()) return {};
  if (kept_) return read_gathered(first, out);
  if (plan_) return read_zeroed(first, out, zeroed);
  return source_.read(first * quant::dtype_bytes(source_.dtype), out);
}

Status Prepared::read_gathered(uint64_t first, std::span<std::byte> out) const {
  const size_t width = quant::dtype_bytes(source_.dtype);
  std::vector<std::byte> original;
  for (uint64_t left = out.size() / width; left > 0;) {
    // What is kept may lie far apart, so a part of the original decides how much is done at a time.
    uint64_t part = std::min(left, kGatherValues);
    quant::ValueRange range = kept_->original_range(first, part);
    while (range.count > kGatherValues && part > 1) {
      part /= 2;
      range = kept_->original_range(first, part);
    }
    original.resize(range.count * width);
    BALLAST_TRY_STATUS(source_.read(range.first * width, original));
    kept_->gather(first, part, width, original, out.first(part * width));
    out = out.subspan(part * width);
    first += part;
    left -= part;
  }
  return {};
}

Status Prepared::read_zeroed(uint64_t first, std::span<std::byte> out, Zeroed* zeroed) const {
  const size_t width = quant::dtype_bytes(source_.dtype);
  std::vector<std::byte> before;
  std::vector<std::byte> after;
  while (!out.empty()) {
    const uint64_t count = std::min<uint64_t>(out.size() / width, kZeroedValues);
    const quant::ValueRange window = plan_->window(first, count);
    before.resize(window.count * width);
    BALLAST_TRY_STATUS(source_.read(window.first * width, before));
    after = before;
    plan_->apply(window.first, after);
    const size_t skipped = (first - window.first) * width;
    const auto wanted = std::span(after).subspan(skipped, count * width);
    std::ranges::copy(wanted, out.begin());
    if (zeroed != nullptr)
      *zeroed +=
          difference(source_.dtype, std::span(before).subspan(skipped, count * width), wanted);
    out = out.subspan(count * width);
    first += count;
  }
  return {};
}

std::optional<StoredPruning> Prepared::pruning(const Zeroed& zeroed, double kept_energy) const {
  if (!plan_) return {};
  // A difference of sums that were rounded apart: it may fall short of 0 by a hair.
  const double removed = kept_ ? std::max(0.0, energy_ - kept_energy) : zeroed.energy;
  return StoredPruning{.spec = plan_->spec(),
                       .removed = removed_of(plan_->spec(), source_.shape, values_),
                       .removed_energy = removed,
                       .not_finite = kept_ ? plan_->not_finite_sliced() : zeroed.not_finite,
                       .kept = kept_};
}

}  // namespace ballast::client
