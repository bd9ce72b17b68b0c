// Counts of durations in buckets that grow with the value, so that every percentile is known to
// within 1/128 of itself, in constant memory (58 KiB) and without a sort.
//
// A value below 128 has a bucket of its own. Above, each power of two is cut into 64 equal buckets.
// Not thread-safe: each thread has one of its own, and they are merged.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ballast::load {

class Histogram {
 public:
  Histogram();

  void add(uint64_t value);
  void merge(const Histogram& other);

  uint64_t count() const { return count_; }
  uint64_t max() const { return max_; }  // exact
  double mean() const;                   // exact; 0 if there is nothing
  // A value that at least `percent` of the values do not exceed, at most 1/64 above the smallest
  // such value; 0 if there is nothing. Range: [0, 100].
  uint64_t percentile(double percent) const;
  // The buckets that are not empty, in their order: of two histograms' together the percentiles can
  // be told elsewhere.
  struct Bucket {
    uint64_t end = 0;  // the largest value that falls into it
    uint64_t count = 0;
  };
  std::vector<Bucket> buckets() const;

 private:
  std::vector<uint64_t> buckets_;
  uint64_t count_ = 0;
  uint64_t max_ = 0;
  double sum_ = 0;
};

}  // namespace ballast::load
