#include "quant/prune.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "proto/base/check.h"
#include "proto/base/limits.h"
#include "quant/float_convert.h"

namespace ballast::quant {
namespace {

// --- magnitudes as numbers ---

// For positive floats the order of the bits is the order of the numbers.
struct Bits32 {
  using Word = uint32_t;
  static constexpr uint32_t kInfinity = 0x7f800000;
};
struct BitsF16 {
  using Word = uint16_t;
  static constexpr uint32_t kInfinity = 0x7c00;
};
struct BitsBF16 {
  using Word = uint16_t;
  static constexpr uint32_t kInfinity = 0x7f80;
};

// All NaN are equal.
template <class Bits>
uint32_t magnitude_of(typename Bits::Word word) {
  constexpr uint32_t kSign = uint32_t{1} << (sizeof(word) * 8 - 1);
  return std::min(uint32_t{word} & (kSign - 1), Bits::kInfinity + 1);
}

// Values at any alignment.
template <class Bits>
struct Values {
  std::byte* at;

  uint32_t magnitude(uint64_t i) const { return magnitude_of<Bits>(word(i)); }
  // Without a branch, which nobody could predict.
  void clear_if(bool gone, uint64_t i, PruneCounts& counts) const {
    const typename Bits::Word before = word(i);
    const typename Bits::Word after = gone ? 0 : before;
    std::memcpy(at + i * sizeof after, &after, sizeof after);
    counts.removed += gone ? 1 : 0;
    counts.not_finite += gone && magnitude_of<Bits>(before) >= Bits::kInfinity ? 1 : 0;
  }

 private:
  typename Bits::Word word(uint64_t i) const {
    typename Bits::Word word;
    std::memcpy(&word, at + i * sizeof word, sizeof word);
    return word;
  }
};

// Calls work(Bits()) for the dtype.
template <class Work>
auto with_bits(DType dtype, const Work& work) {
  switch (dtype) {
    case DType::kF16: return work(BitsF16());
    case DType::kBF16: return work(BitsBF16());
    default: return work(Bits32());
  }
}

template <class Bits>
PruneCounts clear_below(Values<Bits> values, uint64_t first, uint64_t end, uint32_t threshold) {
  PruneCounts counts;
  for (uint64_t i = first; i < end; ++i) {
    values.clear_if(values.magnitude(i) < threshold, i, counts);
  }
  return counts;
}

// Clears all but `keep` of `size` values. `kSize`: the size where it is known, which is much
// faster.
template <uint64_t kSize, class Bits>
void clear_smallest(Values<Bits> values, uint64_t size, uint32_t keep, PruneCounts& counts) {
  if constexpr (kSize > 0) size = kSize;
  std::array<uint32_t, kPruneGroupMax> magnitudes;
  for (uint64_t i = 0; i < size; ++i) magnitudes[i] = values.magnitude(i);
  for (uint64_t i = 0; i < size; ++i) {
    uint32_t larger = 0;
    for (uint64_t j = 0; j < i; ++j) larger += magnitudes[j] > magnitudes[i] ? 1 : 0;
    for (uint64_t j = i + 1; j < size; ++j) larger += magnitudes[j] >= magnitudes[i] ? 1 : 0;
    values.clear_if(larger >= keep, i, counts);
  }
}

uint64_t share_of(PruneSpec spec, uint64_t count) {
  // Split, because the product of a tensor's values and a million is too large.
  return count / kPruneMillionths * spec.millionths +
         count % kPruneMillionths * spec.millionths / kPruneMillionths;
}

Result<uint64_t> count_values(std::span<const uint64_t> shape) {
  if (std::ranges::find(shape, 0U) != shape.end()) return 0;
  uint64_t values = 1;
  for (const uint64_t extent : shape) {
    if (extent > limits::kTensorValuesMax / values) {
      return fail(Errc::kInvalidArgument, "the shape has more than {} values",
                  limits::kTensorValuesMax);
    }
    values *= extent;
  }
  return values;
}

// --- what planners gather ---

// Finds the threshold below which `removed` magnitudes lie: by the upper bits of all, then by the
// lower bits of those that agree in the upper ones, then by the place of those that are equal.
class ThresholdSearch {
 public:
  ThresholdSearch(DType dtype, uint64_t removed)
      : dtype_(dtype), lower_bits_(dtype == DType::kF32 ? 15 : 0), left_(removed) {
    if (removed == 0) return;
    step_ = Step::kUpper;
    counts_.assign(kBuckets, 0);
  }

  bool done() const { return step_ == Step::kDone; }
  uint32_t threshold() const { return threshold_; }
  uint64_t ties_end() const { return ties_end_; }

  // The values from number `first` on.
  void add(uint64_t first, std::span<const std::byte> bytes) {
    with_bits(dtype_, [&](auto bits) {
      // Nothing is written through it.
      const Values<decltype(bits)> values{const_cast<std::byte*>(bytes.data())};
      const uint64_t count = bytes.size() / sizeof(typename decltype(bits)::Word);
      for (uint64_t i = 0; i < count && !done(); ++i) add_magnitude(first + i, values.magnitude(i));
    });
  }

  void end_pass() {
    if (step_ == Step::kUpper) {
      threshold_ = find_bucket() << lower_bits_;
      counts_.assign(kBuckets, 0);
      step_ = lower_bits_ > 0 ? Step::kLower : after_threshold();
    } else if (step_ == Step::kLower) {
      threshold_ |= find_bucket();
      step_ = after_threshold();
    }
  }

 private:
  enum class Step : uint8_t { kUpper, kLower, kTies, kDone };
  static constexpr size_t kBuckets = 1 << 16;

  void add_magnitude(uint64_t at, uint32_t magnitude) {
    if (step_ == Step::kUpper) {
      ++counts_[magnitude >> lower_bits_];
    } else if (step_ == Step::kLower) {
      const uint32_t lower = magnitude - threshold_;
      if (lower >> lower_bits_ == 0) ++counts_[lower];
    } else if (magnitude == threshold_ && --left_ == 0) {
      ties_end_ = at + 1;
      step_ = Step::kDone;
    }
  }

  // The bucket of the last one to remove; left_ becomes its number among those in the bucket, and
  // ties_ their count.
  uint32_t find_bucket() {
    uint32_t bucket = 0;
    while (left_ > counts_[bucket]) left_ -= counts_[bucket++];
    ties_ = counts_[bucket];
    return bucket;
  }

  Step after_threshold() {
    if (left_ < ties_) return Step::kTies;
    ++threshold_;
    return Step::kDone;
  }

  DType dtype_;
  uint32_t lower_bits_;
  Step step_ = Step::kDone;
  std::vector<uint64_t> counts_;
  uint64_t left_;
  uint64_t ties_ = 0;
  uint32_t threshold_ = 0;
  uint64_t ties_end_ = 0;
};

// The energy of each slice along an axis, summed in the order of the values.
class SliceEnergies {
 public:
  SliceEnergies(DType dtype, std::span<const uint64_t> shape, size_t axis)
      : dtype_(dtype), inner_(1), energy_(shape[axis]), not_finite_(shape[axis]) {
    for (const uint64_t extent : shape.subspan(axis + 1)) inner_ *= extent;
  }

  void add(uint64_t first, std::span<const std::byte> bytes) {
    const size_t width = dtype_bytes(dtype_);
    alignas(64) std::array<float, kPieceValues> piece;
    while (!bytes.empty()) {
      const size_t count = std::min(kPieceValues, bytes.size() / width);
      load_f32(dtype_, bytes.data(), count, piece.data());
      add_floats(first, std::span(piece).first(count));
      first += count;
      bytes = bytes.subspan(count * width);
    }
  }

  // The bitmap of what is kept when the `removed` slices with the least energy go.
  std::vector<std::byte> keep_all_but(uint64_t removed) {
    for (double& energy : energy_) {
      if (std::isnan(energy)) energy = std::numeric_limits<double>::infinity();
    }
    std::vector<uint32_t> order(energy_.size());
    std::iota(order.begin(), order.end(), 0U);
    const auto goes_first = [&](uint32_t a, uint32_t b) {
      return energy_[a] != energy_[b] ? energy_[a] < energy_[b] : a < b;
    };
    std::ranges::nth_element(order, order.begin() + static_cast<ptrdiff_t>(removed), goes_first);
    std::vector<std::byte> bitmap((energy_.size() + 7) / 8);
    for (const uint32_t kept : std::span(order).subspan(removed)) {
      bitmap[kept / 8] |= static_cast<std::byte>(1U << kept % 8);
    }
    return bitmap;
  }

  // How many NaN and infinities the slices hold that are not in the bitmap.
  uint64_t not_finite_outside(std::span<const std::byte> bitmap) const {
    uint64_t count = 0;
    for (size_t slice = 0; slice < not_finite_.size(); ++slice) {
      if ((bitmap[slice / 8] >> slice % 8 & std::byte{1}) == std::byte{0})
        count += not_finite_[slice];
    }
    return count;
  }

 private:
  void add_floats(uint64_t first, std::span<const float> values) {
    uint64_t slice = first / inner_ % energy_.size();
    uint64_t inside = first % inner_;
    while (!values.empty()) {
      const uint64_t part = std::min<uint64_t>(values.size(), inner_ - inside);
      double energy = energy_[slice];
      for (const float value : values.first(part)) energy += double{value} * value;
      energy_[slice] = energy;
      // The sum of finite values is finite, and only one that is not is worth a second look.
      if (!std::isfinite(energy)) {
        not_finite_[slice] += static_cast<uint64_t>(std::ranges::count_if(
            values.first(part), [](float value) { return !std::isfinite(value); }));
      }
      values = values.subspan(part);
      inside = 0;
      if (++slice == energy_.size()) slice = 0;
    }
  }

  DType dtype_;
  uint64_t inner_;
  std::vector<double> energy_;
  std::vector<uint64_t> not_finite_;  // values
};

}  // namespace

// --- plan ---

std::span<const uint64_t> PrunePlan::shape() const {
  return kept_ != nullptr ? kept_->small_shape() : shape_;
}

ValueRange PrunePlan::window(uint64_t first, uint64_t count) const {
  BALLAST_CHECK(first <= values_ && count <= values_ - first);
  if (spec_.kind != PruneKind::kNOfM || count == 0) return {first, count};
  const uint64_t last = first + count - 1;
  const uint64_t begin = first - first % row_values_ % spec_.m;
  const uint64_t in_row = last % row_values_;
  const uint64_t end = last - in_row + std::min(row_values_, (in_row / spec_.m + 1) * spec_.m);
  return {begin, end - begin};
}

PruneCounts PrunePlan::apply(uint64_t first, std::span<std::byte> bytes) const {
  BALLAST_CHECK(kept_ == nullptr, "{} is pruned by gathering", prune_name(spec_));
  const uint64_t count = bytes.size() / dtype_bytes(dtype_);
  const ValueRange wanted = window(first, count);
  BALLAST_CHECK(wanted.first == first && wanted.count == count,
                "values {} to {} begin or end within a group", first, first + count);
  return with_bits(dtype_, [&](auto bits) {
    const Values<decltype(bits)> values{bytes.data()};
    PruneCounts counts;
    if (spec_.kind == PruneKind::kMagnitude) {
      const uint64_t ties = std::clamp(ties_end_, first, first + count) - first;
      counts += clear_below(values, 0, ties, threshold_ + 1);
      counts += clear_below(values, ties, count, threshold_);
      return counts;
    }
    uint64_t row_left = count == 0 ? 0 : row_values_ - first % row_values_;
    for (uint64_t at = 0; at < count;) {
      const uint64_t end = at + std::min({uint64_t{spec_.m}, row_left, count - at});
      const Values<decltype(bits)> group{bytes.data() + at * dtype_bytes(dtype_)};
      switch (end - at) {
        case 4: clear_smallest<4>(group, 4, spec_.n, counts); break;
        case 8: clear_smallest<8>(group, 8, spec_.n, counts); break;
        default: clear_smallest<0>(group, end - at, spec_.n, counts);
      }
      row_left -= end - at;
      if (row_left == 0) row_left = row_values_;
      at = end;
    }
    return counts;
  });
}

// --- planner ---

struct PrunePlanner::State {
  PrunePlan plan;
  uint64_t position = 0;
  uint64_t removed = 0;  // values or slices
  bool wants_pass = false;
  std::optional<ThresholdSearch> threshold;
  std::optional<SliceEnergies> energies;
  size_t axis = 0;
};

PrunePlanner::PrunePlanner(std::unique_ptr<State> state) : state_(std::move(state)) {}
PrunePlanner::PrunePlanner(PrunePlanner&&) noexcept = default;
PrunePlanner& PrunePlanner::operator=(PrunePlanner&&) noexcept = default;
PrunePlanner::~PrunePlanner() = default;

Status check_prune(PruneSpec spec, DType dtype, std::span<const uint64_t> shape) {
  const auto known =
      prune_from_numbers(static_cast<uint32_t>(spec.kind), spec.millionths, spec.n, spec.m);
  if (!known) return fail(Errc::kInvalidArgument, "{}", known.error().message);
  if (!dtype_is_codable(dtype)) {
    return fail(Errc::kInvalidArgument, "pruning {} is for F32, F16 and BF16, not {}",
                prune_name(spec), dtype_name(dtype));
  }
  BALLAST_TRY_STATUS(count_values(shape));
  if (!prune_is_structured(spec)) return {};
  BALLAST_TRY(const size_t axis, prune_axis(spec, shape.size()));
  if (shape[axis] <= kPrunedExtentMax) return {};
  return fail(
      Errc::kInvalidArgument,
      "pruning {} takes slices out of an axis of at most {}, not {}; prune it along another "
      "axis, or not at all",
      prune_name(spec), kPrunedExtentMax, shape[axis]);
}

Result<PrunePlanner> PrunePlanner::create(PruneSpec spec, DType dtype,
                                          std::span<const uint64_t> shape) {
  BALLAST_TRY_STATUS(check_prune(spec, dtype, shape));
  auto state = std::make_unique<State>();
  PrunePlan& plan = state->plan;
  BALLAST_TRY(plan.values_, count_values(shape));
  plan.spec_ = spec;
  plan.dtype_ = dtype;
  plan.shape_.assign(shape.begin(), shape.end());
  plan.row_values_ = shape.size() < 2 || plan.values_ == 0 ? plan.values_ : plan.values_ / shape[0];
  if (prune_is_structured(spec)) {
    BALLAST_TRY(state->axis, prune_axis(spec, shape.size()));
    state->removed = share_of(spec, shape[state->axis]);
    state->energies.emplace(dtype, shape, state->axis);
    state->wants_pass = plan.values_ > 0 && state->removed > 0;
  } else if (spec.kind == PruneKind::kMagnitude) {
    state->threshold.emplace(dtype, share_of(spec, plan.values_));
    state->wants_pass = !state->threshold->done();
  }
  return PrunePlanner(std::move(state));
}

bool PrunePlanner::wants_pass() const { return state_->wants_pass; }

void PrunePlanner::add(std::span<const std::byte> values) {
  State& state = *state_;
  const uint64_t count = values.size() / dtype_bytes(state.plan.dtype_);
  BALLAST_CHECK(values.size() % dtype_bytes(state.plan.dtype_) == 0);
  if (!state.wants_pass || count == 0) return;
  BALLAST_CHECK(count <= state.plan.values_ - state.position, "more values than the tensor has");
  if (state.threshold) {
    state.threshold->add(state.position, values);
  } else {
    state.energies->add(state.position, values);
  }
  state.position += count;
  if (state.position == state.plan.values_) {
    state.position = 0;
    if (state.threshold) state.threshold->end_pass();
  }
  state.wants_pass = state.threshold ? !state.threshold->done() : state.position != 0;
}

PrunePlan PrunePlanner::finish() && {
  State& state = *state_;
  BALLAST_CHECK(!state.wants_pass, "the planner has not seen enough");
  if (state.threshold) {
    state.plan.threshold_ = state.threshold->threshold();
    state.plan.ties_end_ = state.threshold->ties_end();
  } else if (state.energies) {
    const std::vector<std::byte> bitmap = state.energies->keep_all_but(state.removed);
    state.plan.not_finite_sliced_ = state.energies->not_finite_outside(bitmap);
    auto kept = KeptSlices::create(state.plan.shape_, state.axis, bitmap);
    BALLAST_CHECK(kept.has_value(), "{}", kept.error().message);
    state.plan.kept_ = std::make_shared<const KeptSlices>(*std::move(kept));
  }
  return std::move(state.plan);
}

}  // namespace ballast::quant
