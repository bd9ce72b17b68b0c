// What is left of a tensor out of which whole slices along one axis were taken: the small tensor
// holds the kept slices in their order, and nothing of the others.
//
// Positions count values in row-major order, in the original tensor or in the small one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "proto/base/result.h"
#include "quant/codec.h"

namespace ballast::quant {

// The longest axis along which slices can be taken out.
inline constexpr uint64_t kPrunedExtentMax = 1 << 18;

// Immutable: may be used from several threads at once.
class KeptSlices {
 public:
  // `shape`: the original one. `bitmap`: bit i % 8 (the lowest is 0) of byte i / 8 is set if slice
  // i along `axis` is kept; bits behind the last slice are 0. Errors: kCorrupt if they do not fit.
  static Result<KeptSlices> create(std::span<const uint64_t> shape, size_t axis,
                                   std::span<const std::byte> bitmap);

  std::span<const std::byte> bitmap() const { return bitmap_; }
  std::span<const uint64_t> small_shape() const { return small_shape_; }
  uint64_t small_values() const { return outer_ * kept_.size() * inner_; }
  uint64_t original_values() const { return outer_ * extent() * inner_; }

  // Calls visit(ValueRange) for each run of original values that make the values [first, first +
  // count) of the small tensor, in order, no two adjacent.
  // REQUIRES: the range lies in the small tensor.
  template <class Visit>
  void for_each_run(uint64_t first, uint64_t count, const Visit& visit) const;
  std::vector<ValueRange> runs(uint64_t first, uint64_t count) const;
  // From the first of those runs to the end of the last: what gather() needs to see.
  ValueRange original_range(uint64_t first, uint64_t count) const;

  // Writes the small tensor's values [first, first + count), of `width` bytes each, into `out`.
  // `original` holds original_range(first, count).
  void gather(uint64_t first, uint64_t count, size_t width, std::span<const std::byte> original,
              std::span<std::byte> out) const;

  // The small tensor's values that lie in the values [first, first + count) of the original.
  // REQUIRES: the range lies in the original tensor.
  ValueRange small_range(uint64_t first, uint64_t count) const;
  // Writes those values of the original tensor into `out`, with zeros for what was taken out.
  // `small` holds small_range(first, count).
  void spread(uint64_t first, uint64_t count, size_t width, std::span<const std::byte> small,
              std::span<std::byte> out) const;

 private:
  KeptSlices() = default;
  uint64_t extent() const { return rank_.size() - 1; }
  // How many kept values lie before a position of the original.
  uint64_t kept_before(uint64_t position) const;

  std::vector<std::byte> bitmap_;
  std::vector<uint64_t> small_shape_;
  uint64_t outer_ = 0;  // the product of the extents before the axis
  uint64_t inner_ = 0;  // and behind it
  std::vector<uint32_t> kept_;
  std::vector<uint32_t> rank_;  // kept slices before slice i; one entry more than slices
};

template <class Visit>
void KeptSlices::for_each_run(uint64_t first, uint64_t count, const Visit& visit) const {
  if (count == 0) return;
  uint64_t slice = first / inner_ % kept_.size();
  uint64_t inside = first % inner_;
  uint64_t base = first / inner_ / kept_.size() * extent();  // slices before this outer index
  ValueRange run;
  while (count > 0) {
    const uint64_t part = std::min(count, inner_ - inside);
    const uint64_t at = (base + kept_[slice]) * inner_ + inside;
    if (run.count > 0 && run.first + run.count == at) {
      run.count += part;
    } else {
      if (run.count > 0) visit(run);
      run = {at, part};
    }
    count -= part;
    inside = 0;
    if (++slice == kept_.size()) {
      slice = 0;
      base += extent();
    }
  }
  visit(run);
}

}  // namespace ballast::quant
