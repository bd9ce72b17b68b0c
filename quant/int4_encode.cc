#include <algorithm>
#include <array>

#include "quant/float_convert.h"
#include "quant/int4.h"
#include "quant/kernels.h"
#include "quant/log_scale.h"

namespace ballast::quant {
namespace {

// 2^(4/16) / 127: the largest scale that the search tries for the largest value is that of step 0.
constexpr float kBasePerMagnitude = 0x1.32d58cp-7f;

void pack_units(const uint8_t* codes, size_t units, uint8_t* out) {
  for (size_t unit = 0; unit < units; ++unit) {
    const uint8_t* low = codes + unit * kUnitValues;
    const uint8_t* high = low + kUnitCodeBytes;
    for (size_t i = 0; i < kUnitCodeBytes; ++i) {
      out[unit * kUnitCodeBytes + i] = static_cast<uint8_t>(low[i] | high[i] << 4);
    }
  }
}

void add_batch(const EncodedBatch& batch, ErrorSums& sums) {
  for (size_t at = 0; at < kBatchGroups; ++at) {
    sums.signal_energy += batch.signal[at];
    sums.decoded_energy += batch.decoded[at];
    sums.noise_energy += batch.noise[at];
    sums.max_abs_error = std::max(sums.max_abs_error, double{batch.max_error[at]});
  }
}

}  // namespace

float choose_scale_base(std::span<const std::byte> values, DType source) {
  return std::clamp(abs_max_of(source, values) * kBasePerMagnitude, kScaleBaseMin, kScaleBaseMax);
}

ErrorSums encode_int4_chunk(const Int4Parameters& parameters, std::span<const std::byte> values,
                            std::span<std::byte> out) {
  const size_t group = parameters.group;
  const size_t value_bytes = dtype_bytes(parameters.source);
  const EncodeTable table(parameters.scale_base, parameters.codebook, group);
  auto* scales = reinterpret_cast<uint8_t*>(out.data());
  uint8_t* codes = scales + units_for(values.size() / value_bytes) * unit_groups(group);

  alignas(64) std::array<float, kBatchGroups * kGroupValuesMax> batch_values;
  EncodedBatch batch;
  ErrorSums sums;
  while (!values.empty()) {
    const size_t count = std::min(kBatchGroups * group, values.size() / value_bytes);
    load_f32(parameters.source, values.data(), count, batch_values.data());
    std::fill(batch_values.begin() + count, batch_values.begin() + kBatchGroups * group, 0.0f);
    kernel().int4_encode(table, batch_values.data(), batch);
    const size_t units = units_for(count);
    const size_t groups = units * unit_groups(group);
    std::copy_n(batch.scales.begin(), groups, scales);
    pack_units(batch.codes.data(), units, codes);
    add_batch(batch, sums);
    scales += groups;
    codes += units * kUnitCodeBytes;
    values = values.subspan(count * value_bytes);
  }
  // The kernel counts in units of the base.
  const double base = parameters.scale_base;
  sums.signal_energy *= base * base;
  sums.decoded_energy *= base * base;
  sums.noise_energy *= base * base;
  sums.max_abs_error *= base;
  return sums;
}

}  // namespace ballast::quant
