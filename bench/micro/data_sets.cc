#include "bench/micro/data_sets.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <numbers>
#include <random>

#include "client/formats/safetensors.h"
#include "proto/base/limits.h"
#include "quant/float_convert.h"

namespace ballast::micro {
namespace {

constexpr size_t kDistributionValues = 4 * limits::kMiB;
constexpr size_t kTensorValuesMin = 4096;
constexpr double kScale = 0.05;

// The standard fixes what mt19937_64 gives, but not what its distributions make of it.
class Uniform {
 public:
  explicit Uniform(uint64_t seed) : generator_(seed) {}
  // In (0, 1]: its logarithm is finite.
  double operator()() { return static_cast<double>((generator_() >> 11) + 1) * 0x1p-53; }

 private:
  std::mt19937_64 generator_;
};

double normal(Uniform& uniform) {
  const double radius = std::sqrt(-2 * std::log(uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

DataSet distribution_set(std::string name, uint64_t seed,
                         const std::function<double(Uniform&)>& draw) {
  Uniform uniform(seed);
  std::vector<float> values(kDistributionValues);
  for (float& value : values) value = static_cast<float>(kScale * draw(uniform));
  return {name, {{name, {kDistributionValues / kRowValues, kRowValues}, std::move(values)}}};
}

void keep_two_of_four(std::span<float> values) {
  for (size_t at = 0; at + 4 <= values.size(); at += 4) {
    const auto four = values.subspan(at, 4);
    size_t order[] = {0, 1, 2, 3};
    // Of equal magnitudes the first ones stay.
    std::ranges::sort(order, std::ranges::less(),
                      [&](size_t i) { return std::pair(-std::abs(four[i]), i); });
    four[order[2]] = four[order[3]] = 0;
  }
}

void keep_share(std::span<float> values, double share) {
  std::vector<float> magnitudes;
  for (const float value : values) magnitudes.push_back(std::abs(value));
  const auto kept = static_cast<size_t>(share * static_cast<double>(values.size()));
  const auto threshold = magnitudes.end() - static_cast<std::ptrdiff_t>(std::max<size_t>(kept, 1));
  std::ranges::nth_element(magnitudes, threshold);
  for (float& value : values) {
    if (std::abs(value) < *threshold) value = 0;
  }
}

}  // namespace

uint64_t DataSet::values() const {
  uint64_t sum = 0;
  for (const Tensor& tensor : tensors) sum += tensor.values.size();
  return sum;
}

Result<DataSet> read_set(const std::string& path) {
  BALLAST_TRY(const auto file, formats::SafetensorsFile::open(path));
  DataSet set{std::filesystem::path(path).stem().string(), {}};
  for (const auto& tensor : file.tensors()) {
    const size_t count = tensor.bytes / sizeof(float);
    if (tensor.dtype != quant::DType::kF32 || tensor.shape.size() < 2 || count < kTensorValuesMin) {
      continue;
    }
    std::vector<float> values(count / kRowValues * kRowValues);
    BALLAST_TRY_STATUS(file.read(tensor, 0, std::as_writable_bytes(std::span(values))));
    set.tensors.push_back({tensor.name, tensor.shape, std::move(values)});
  }
  if (set.tensors.empty()) {
    return fail(Errc::kInvalidArgument,
                "'{}' has no F32 tensor of rank 2 or more with {} values: nothing to measure", path,
                kTensorValuesMin);
  }
  return set;
}

DataSet gauss_set() { return distribution_set("gauss", 1, normal); }

DataSet t4_set() {
  return distribution_set("t4", 2, [](Uniform& uniform) {
    const double numerator = normal(uniform);
    // Chi-squared with four degrees of freedom: the sum of two exponential variables, doubled.
    const double chi_squared = -2 * std::log(uniform()) - 2 * std::log(uniform());
    return numerator / std::sqrt(chi_squared / 4);
  });
}

std::string_view pruning_name(Pruning pruning) {
  switch (pruning) {
    case Pruning::kTwoOfFour: return "2:4";
    case Pruning::kHalf: return "50 %";
    case Pruning::k80Percent: return "80 %";
    case Pruning::k90Percent: return "90 %";
  }
  return "unknown";
}

DataSet pruned(const DataSet& set, Pruning pruning) {
  DataSet result = set;
  result.name = fmt::format("{}, {}", set.name, pruning_name(pruning));
  for (Tensor& tensor : result.tensors) {
    switch (pruning) {
      case Pruning::kTwoOfFour: keep_two_of_four(tensor.values); break;
      case Pruning::kHalf: keep_share(tensor.values, 0.5); break;
      case Pruning::k80Percent: keep_share(tensor.values, 0.2); break;
      case Pruning::k90Percent: keep_share(tensor.values, 0.1); break;
    }
  }
  return result;
}

DataSet moved(const DataSet& set, const Step& step) {
  DataSet result = set;
  result.name = fmt::format("{}, {}", set.name, step.name);
  Uniform uniform(3);
  for (Tensor& tensor : result.tensors) {
    double energy = 0;
    for (const float value : tensor.values) energy += double{value} * value;
    const double deviation =
        step.noise * std::sqrt(energy / static_cast<double>(tensor.values.size()));
    for (float& value : tensor.values) {
      if (uniform() < step.share) value += static_cast<float>(deviation * normal(uniform));
    }
  }
  return result;
}

std::vector<std::byte> to_dtype(std::span<const float> values, quant::DType dtype) {
  const size_t size = quant::dtype_bytes(dtype);
  std::vector<std::byte> bytes(values.size() * size);
  for (size_t at = 0; at < values.size(); at += quant::kPieceValues) {
    const size_t part = std::min(quant::kPieceValues, values.size() - at);
    quant::store_f32(dtype, values.data() + at, part, bytes.data() + at * size);
  }
  return bytes;
}

}  // namespace ballast::micro
