// What is encoded of a tensor: its values as the source gives them, or what pruning leaves of them.
#pragma once

#include <memory>

#include "client/client.h"

namespace ballast::client {

// What was set to 0 of some values.
struct Zeroed {
  double energy = 0;  // sum of x^2 over the finite ones
  uint64_t not_finite = 0;

  Zeroed& operator+=(const Zeroed& other) {
    energy += other.energy;
    not_finite += other.not_finite;
    return *this;
  }
};

// Immutable: may be used from several threads at once. Refers to the source, which outlives it.
class Prepared {
 public:
  // With `prune` the tensor is read as often as its planner wants, piece by piece.
  // Errors: kInvalidArgument if it can't be pruned so; the source's own.
  static Result<std::shared_ptr<const Prepared>> create(const TensorSource& source,
                                                        std::optional<PruneSpec> prune);

  DType dtype() const { return source_.dtype; }
  // What is encoded has this many values.
  uint64_t values() const { return values_; }
  // Reads the values from `first` on, as many as `out` has room for. Adds to `zeroed`, if that is
  // given, what was set to 0 there.
  Status read(uint64_t first, std::span<std::byte> out, Zeroed* zeroed = nullptr) const;

  // What to say of the pruning. `zeroed`: what read() gave for all values. `kept_energy`: the sum
  // of x^2 of the values that read() gave.
  std::optional<StoredPruning> pruning(const Zeroed& zeroed, double kept_energy) const;

 private:
  explicit Prepared(const TensorSource& source) : source_(source) {}
  Status plan(PruneSpec prune);
  Status read_gathered(uint64_t first, std::span<std::byte> out) const;
  Status read_zeroed(uint64_t first, std::span<std::byte> out, Zeroed* zeroed) const;

  const TensorSource& source_;
  uint64_t values_ = 0;
  std::optional<quant::PrunePlan> plan_;
  std::shared_ptr<const quant::KeptSlices> kept_;
  double energy_ = 0;  // of the whole tensor, where slices go out
};

}  // namespace ballast::client
