#include "quant/kernels.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <limits>
#include <vector>

#include "proto/base/check.h"
#include "quant/codec.h"
#include "quant/log_scale.h"

namespace ballast::quant {
namespace {

// Slowest first.
std::vector<const Kernel*> runnable() {
  std::vector<const Kernel*> kernels{&scalar_kernel()};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c")) {
    kernels.push_back(&avx2_kernel());
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      kernels.push_back(&avx512_kernel());
      if (__builtin_cpu_supports("avx512vbmi2")) kernels.push_back(&vbmi2_kernel());
    }
  }
#endif
  return kernels;
}

Result<const Kernel*> find(std::string_view name) {
  std::string known;
  for (const Kernel* candidate : runnable()) {
    if (candidate->name == name) return candidate;
    known += known.empty() ? "" : ", ";
    known += candidate->name;
  }
  return fail(Errc::kInvalidArgument, "this CPU has no kernel '{}'; it has {}", name, known);
}

const Kernel* initial() {
  const char* wanted = std::getenv("BALLAST_KERNEL");
  if (wanted == nullptr || *wanted == '\0') return runnable().back();
  const Result<const Kernel*> found = find(wanted);
  BALLAST_CHECK(found.has_value(), "BALLAST_KERNEL: {}", found.error().message);
  return *found;
}

std::atomic<const Kernel*>& current() {
  static std::atomic<const Kernel*> kernel{initial()};
  return kernel;
}

}  // namespace

const Kernel& kernel() { return *current().load(std::memory_order_relaxed); }

std::vector<std::string_view> available_kernels() {
  std::vector<std::string_view> names;
  for (const Kernel* candidate : runnable()) names.push_back(candidate->name);
  return names;
}

Status select_kernel(std::string_view name) {
  BALLAST_TRY(const Kernel* found, find(name));
  current().store(found, std::memory_order_relaxed);
  return {};
}

std::string_view selected_kernel() { return kernel().name; }

DecodeTable::DecodeTable(float scale_base, const Codebook& codebook) {
  for (size_t step = 0; step < kScaleSignBit; ++step) {
    magnitude[step] = scale_base * kScaleSteps.ratio[step];
    magnitude[step + kScaleSignBit] = magnitude[step];
  }
  entry[0] = codebook;
  for (size_t i = 0; i < codebook.size(); ++i) {
    value[0][i] = codebook[i];
    value[1][i] = static_cast<float>(-codebook[i]);
    // The header's check keeps -128 out.
    entry[1][i] = static_cast<int8_t>(-codebook[i]);
  }
}

EncodeTable::EncodeTable(float scale_base, const Codebook& codebook, size_t group_values)
    : inverse_base(1 / scale_base), group(group_values) {
  for (size_t i = 0; i < codebook.size(); ++i) value[i] = codebook[i];
  for (size_t i = 0; i + 1 < codebook.size(); ++i) midpoint[i] = (value[i] + value[i + 1]) / 2;
  midpoint.back() = std::numeric_limits<float>::infinity();
}

}  // namespace ballast::quant
