#include "quant/kept_slices.h"

#include <cstring>

#include "proto/base/check.h"
#include "proto/base/limits.h"

namespace ballast::quant {
namespace {

bool bit(std::span<const std::byte> bitmap, uint64_t at) {
  return (std::to_integer<unsigned>(bitmap[at / 8]) >> at % 8 & 1) != 0;
}

// Nothing if there are more than a tensor may have.
std::optional<uint64_t> values_of(std::span<const uint64_t> shape) {
  if (std::ranges::find(shape, 0U) != shape.end()) return 0;
  uint64_t values = 1;
  for (const uint64_t extent : shape) {
    if (extent > limits::kTensorValuesMax / values) return {};
    values *= extent;
  }
  return values;
}

uint64_t product(std::span<const uint64_t> extents) { return values_of(extents).value_or(0); }

}  // namespace

Result<KeptSlices> KeptSlices::create(std::span<const uint64_t> shape, size_t axis,
                                      std::span<const std::byte> bitmap) {
  if (axis >= shape.size() || shape[axis] > kPrunedExtentMax || !values_of(shape)) {
    return fail(Errc::kCorrupt, "a tensor of rank {} can't have lost slices along axis {}",
                shape.size(), axis);
  }
  const uint64_t extent = shape[axis];
  bool fits = bitmap.size() == (extent + 7) / 8;
  for (uint64_t i = extent; fits && i < bitmap.size() * 8; ++i) fits = !bit(bitmap, i);
  if (!fits) {
    return fail(Errc::kCorrupt, "a bitmap of {} bytes does not fit the {} slices along axis {}",
                bitmap.size(), extent, axis);
  }
  KeptSlices slices;
  slices.bitmap_.assign(bitmap.begin(), bitmap.end());
  slices.rank_.reserve(extent + 1);
  for (uint64_t i = 0; i < extent; ++i) {
    slices.rank_.push_back(static_cast<uint32_t>(slices.kept_.size()));
    if (bit(bitmap, i)) slices.kept_.push_back(static_cast<uint32_t>(i));
  }
  slices.rank_.push_back(static_cast<uint32_t>(slices.kept_.size()));
  slices.small_shape_.assign(shape.begin(), shape.end());
  slices.small_shape_[axis] = slices.kept_.size();
  // An extent of 0 anywhere leaves no values, so the other products do not matter.
  slices.outer_ = product(shape.first(axis));
  slices.inner_ = product(shape.subspan(axis + 1));
  return slices;
}

std::vector<ValueRange> KeptSlices::runs(uint64_t first, uint64_t count) const {
  BALLAST_CHECK(first <= small_values() && count <= small_values() - first);
  std::vector<ValueRange> runs;
  for_each_run(first, count, [&](ValueRange run) { runs.push_back(run); });
  return runs;
}

ValueRange KeptSlices::original_range(uint64_t first, uint64_t count) const {
  if (count == 0) return {};
  const auto position = [&](uint64_t small) {
    const uint64_t slices = small / inner_;
    return (slices / kept_.size() * extent() + kept_[slices % kept_.size()]) * inner_ +
           small % inner_;
  };
  const uint64_t begin = position(first);
  return {begin, position(first + count - 1) + 1 - begin};
}

void KeptSlices::gather(uint64_t first, uint64_t count, size_t width,
                        std::span<const std::byte> original, std::span<std::byte> out) const {
  const ValueRange range = original_range(first, count);
  BALLAST_CHECK(first <= small_values() && count <= small_values() - first);
  BALLAST_CHECK(original.size() == range.count * width && out.size() == count * width);
  std::byte* to = out.data();
  for_each_run(first, count, [&](ValueRange run) {
    std::memcpy(to, original.data() + (run.first - range.first) * width, run.count * width);
    to += run.count * width;
  });
}

uint64_t KeptSlices::kept_before(uint64_t position) const {
  if (inner_ == 0 || extent() == 0) return 0;
  const uint64_t slices = position / inner_;
  const uint64_t slice = slices % extent();
  const uint64_t inside = rank_[slice] == rank_[slice + 1] ? 0 : position % inner_;
  return (slices / extent() * kept_.size() + rank_[slice]) * inner_ + inside;
}

ValueRange KeptSlices::small_range(uint64_t first, uint64_t count) const {
  BALLAST_CHECK(first <= original_values() && count <= original_values() - first);
  const uint64_t begin = kept_before(first);
  return {begin, kept_before(first + count) - begin};
}

void KeptSlices::spread(uint64_t first, uint64_t count, size_t width,
                        std::span<const std::byte> small, std::span<std::byte> out) const {
  const ValueRange range = small_range(first, count);
  BALLAST_CHECK(small.size() == range.count * width && out.size() == count * width);
  std::ranges::fill(out, std::byte{});
  const std::byte* from = small.data();
  for_each_run(range.first, range.count, [&](ValueRange run) {
    std::memcpy(out.data() + (run.first - first) * width, from, run.count * width);
    from += run.count * width;
  });
}

}  // namespace ballast::quant
