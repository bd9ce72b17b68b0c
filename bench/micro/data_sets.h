// The values that codecs are measured on: files of real weights, two distributions, pruned copies.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proto/base/result.h"
#include "quant/dtype.h"

namespace ballast::micro {

// Every tensor is cut to whole rows of this many values, for all methods alike: it is what the
// widest of the peers' blocks needs.
inline constexpr size_t kRowValues = 256;

struct Tensor {
  std::string name;
  std::vector<uint64_t> shape;  // as it stands in the file: before the cut
  std::vector<float> values;    // flattened, a multiple of kRowValues
};

struct DataSet {
  std::string name;
  std::vector<Tensor> tensors;

  uint64_t values() const;
};

// The F32 tensors of rank 2 or more with at least 4,096 values; the set is named after the file.
// Errors: those of SafetensorsFile; kInvalidArgument if the file has no such tensor.
Result<DataSet> read_set(const std::string& path);

// One tensor of 4 Mi values each, the same ones on every machine (but for the last bit of libm).
DataSet gauss_set();  // standard deviation 0.05
DataSet t4_set();     // Student's t with 4 degrees of freedom, times 0.05

// What pruning leaves of a set, named "SET, PRUNING": the smaller magnitudes of each tensor become
// zeros.
enum class Pruning { kTwoOfFour, kHalf, k80Percent, k90Percent };
inline constexpr Pruning kPrunings[] = {Pruning::kTwoOfFour, Pruning::kHalf, Pruning::k80Percent,
                                        Pruning::k90Percent};
std::string_view pruning_name(Pruning pruning);  // "2:4", "50 %", ...
DataSet pruned(const DataSet& set, Pruning pruning);

// What a step of training leaves of a set, named "SET, NAME": a share of the values of each tensor
// is moved by normally distributed noise, whose deviation is this part of the tensor's root mean
// square.
struct Step {
  std::string_view name;
  double share;
  double noise;
};
inline constexpr Step kSteps[] = {{"all moved by 1e-3", 1, 1e-3},
                                  {"1 % moved by 1e-2", 0.01, 1e-2}};
DataSet moved(const DataSet& set, const Step& step);

// The values as the bytes of another float dtype, rounded to nearest even.
std::vector<std::byte> to_dtype(std::span<const float> values, quant::DType dtype);

}  // namespace ballast::micro
