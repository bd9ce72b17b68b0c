// Pruning: values that matter little are taken out of a tensor before a codec encodes it.
//
//   magnitude:0.5   the share of all values with the smallest magnitudes becomes 0
//   2:4             of each 4 consecutive values of a row the 2 with the largest magnitudes stay,
//                   the others become 0; a row is everything behind the first axis, and a tensor
//                   of rank 0 or 1 is one row; groups begin anew with each row, and the shorter
//                   one at its end keeps as many
//   rows:0.25       the share of the slices along the first axis with the smallest L2 norms goes
//                   out, and the tensor is dense and smaller
//   columns:0.25    the same along the last axis
//   channels:0.25   the same along the second axis
//
// A share of n is floor(share x n), so one slice always stays. Of equals the earlier goes first.
// What becomes 0 becomes +0. NaN, and then infinities, count as larger than every number: they go
// only where the share leaves no other choice, and are counted.
//
// A tensor need not fit into memory: a planner sees its values in order, as often as it wants, and
// the plan is applied to any part of it. Plans are the same on every machine and for every way to
// cut the tensor into pieces. docs/formats/pruning.md says what of a plan is stored.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "proto/base/result.h"
#include "quant/dtype.h"
#include "quant/kept_slices.h"

namespace ballast::quant {

// Numbers lie on disk and on the wire: never reused.
enum class PruneKind : uint8_t {
  kMagnitude = 1,
  kNOfM = 2,
  kRows = 3,
  kColumns = 4,
  kChannels = 5,
};

inline constexpr uint32_t kPruneMillionths = 1'000'000;
inline constexpr uint32_t kPruneGroupMax = 64;

struct PruneSpec {
  PruneKind kind = PruneKind::kMagnitude;
  uint32_t millionths = 0;  // the share that goes out, 1 to 999,999; 0 for kNOfM
  uint32_t n = 0;           // kNOfM: n of m values stay, 1 <= n < m <= kPruneGroupMax; else both 0
  uint32_t m = 0;

  auto operator<=>(const PruneSpec&) const = default;
};

// "magnitude:0.5", "2:4", "rows:0.125", ... Error kInvalidArgument says what is known.
Result<PruneSpec> parse_prune(std::string_view text);
std::string prune_name(PruneSpec spec);
// From the numbers of a message. Errors: kCorrupt.
Result<PruneSpec> prune_from_numbers(uint32_t kind, uint32_t millionths, uint32_t n, uint32_t m);
// True if the tensor becomes smaller.
bool prune_is_structured(PruneSpec spec);
// The axis along which a structured spec takes slices out of a tensor of this rank.
// Errors: kInvalidArgument if the rank is too low. REQUIRES: prune_is_structured(spec).
Result<size_t> prune_axis(PruneSpec spec, size_t rank);

// Error kInvalidArgument if there is no such pruning, or if a tensor of this dtype and shape can't
// be pruned so: it has no floats, too low a rank, or more than kPrunedExtentMax slices along the
// axis.
Status check_prune(PruneSpec spec, DType dtype, std::span<const uint64_t> shape);

// What apply() set to 0.
struct PruneCounts {
  uint64_t removed = 0;     // zeros that were there among them
  uint64_t not_finite = 0;  // of these, NaN and infinities

  PruneCounts& operator+=(const PruneCounts& other) {
    removed += other.removed;
    not_finite += other.not_finite;
    return *this;
  }
};

// Immutable: may be used from several threads at once.
class PrunePlan {
 public:
  PruneSpec spec() const { return spec_; }
  // The shape of the pruned tensor: the original one unless the spec is structured.
  std::span<const uint64_t> shape() const;
  // For structured specs, else nothing. They are pruned by gathering what these say.
  const KeptSlices* kept() const { return kept_.get(); }

  // How many NaN and infinities go out with the slices. 0 unless the spec is structured: apply()
  // counts what it sets to 0.
  uint64_t not_finite_sliced() const { return not_finite_sliced_; }

  // The range to hand to apply() in order to have the values [first, first + count): a little more
  // on both sides where a group of n:m reaches out of it, else just these.
  // REQUIRES: they lie in the tensor.
  ValueRange window(uint64_t first, uint64_t count) const;
  // Prunes values in place, in the tensor's dtype. REQUIRES: `values` begins at value `first` of
  // the tensor and is a window() of itself; the spec is not structured.
  PruneCounts apply(uint64_t first, std::span<std::byte> values) const;

 private:
  friend class PrunePlanner;

  PruneSpec spec_;
  DType dtype_ = DType::kF32;
  std::vector<uint64_t> shape_;
  uint64_t values_ = 0;
  uint64_t row_values_ = 0;
  // Magnitudes, as bits, below threshold_ go out, and those equal to it before value ties_end_.
  uint32_t threshold_ = 0;
  uint64_t ties_end_ = 0;
  std::shared_ptr<const KeptSlices> kept_;
  uint64_t not_finite_sliced_ = 0;
};

//   auto planner = PrunePlanner::create(spec, dtype, shape);
//   while (planner->wants_pass()) {
//     for (each piece of the tensor, in order) planner->add(piece);
//   }
//   const PrunePlan plan = std::move(*planner).finish();
class PrunePlanner {
 public:
  // Errors: those of check_prune().
  static Result<PrunePlanner> create(PruneSpec spec, DType dtype, std::span<const uint64_t> shape);
  PrunePlanner(PrunePlanner&&) noexcept;
  PrunePlanner& operator=(PrunePlanner&&) noexcept;
  ~PrunePlanner();

  // Whether the tensor's values are wanted (again), from the first to the last: n:m needs none,
  // structured specs one pass, magnitude one or two, for F32 up to three. May become false before
  // a pass is over; the rest of it is not needed, but does no harm.
  bool wants_pass() const;
  // The next values, in the tensor's dtype. A pass ends with the tensor's last value.
  // REQUIRES: they do not reach beyond it.
  void add(std::span<const std::byte> values);
  // REQUIRES: !wants_pass().
  PrunePlan finish() &&;

 private:
  struct State;
  explicit PrunePlanner(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace ballast::quant
