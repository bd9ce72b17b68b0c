#include "bench/load/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace ballast::load {
namespace {

constexpr unsigned kSubBits = 6;  // 64 buckets per power of two
constexpr uint64_t kSubBuckets = 1 << kSubBits;
// The values below 2 * kSubBuckets fill two rows, and each of the other powers of two fills one.
constexpr size_t kBuckets = (64 - kSubBits + 1) * kSubBuckets;

unsigned shift_of(uint64_t value) {
  const auto width = static_cast<unsigned>(std::bit_width(value));
  return width > kSubBits + 1 ? width - (kSubBits + 1) : 0;
}

size_t bucket_of(uint64_t value) {
  const unsigned shift = shift_of(value);
  return shift * kSubBuckets + static_cast<size_t>(value >> shift);
}

// The largest value that falls into the bucket.
uint64_t bucket_end(size_t bucket) {
  if (bucket < 2 * kSubBuckets) return bucket;
  const size_t shift = bucket / kSubBuckets - 1;
  const uint64_t first = (bucket - shift * kSubBuckets) << shift;
  return first + ((uint64_t{1} << shift) - 1);
}

}  // namespace

Histogram::Histogram() : buckets_(kBuckets, 0) {}

void Histogram::add(uint64_t value) {
  ++buckets_[bucket_of(value)];
  ++count_;
  max_ = std::max(max_, value);
  sum_ += static_cast<double>(value);
}

void Histogram::merge(const Histogram& other) {
  for (size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  max_ = std::max(max_, other.max_);
  sum_ += other.sum_;
}

double Histogram::mean() const { return count_ == 0 ? 0 : sum_ / static_cast<double>(count_); }

uint64_t Histogram::percentile(double percent) const {
  if (count_ == 0) return 0;
  // 99.9 has no exact double: without the correction 99.9 % of 1,000 would be the 1,000th value.
  const double rank = std::ceil(percent * static_cast<double>(count_) / 100 * (1 - 1e-12));
  const auto wanted = static_cast<uint64_t>(std::max(rank, 1.0));
  uint64_t seen = 0;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    seen += buckets_[i];
    if (seen >= wanted) return std::min(bucket_end(i), max_);
  }
  return max_;
}

std::vector<Histogram::Bucket> Histogram::buckets() const {
  std::vector<Bucket> buckets;
  for (size_t i = 0; i < buckets_.size(); ++i)
    if (buckets_[i] > 0) buckets.push_back({bucket_end(i), buckets_[i]});
  return buckets;
}

}  // namespace ballast::load
