#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "bench/micro/measure.h"
#include "quant/codec.h"

namespace ballast::micro {
namespace {

constexpr double kReportToleranceDb = 0.01;

void add_error(std::span<const float> values, std::span<const float> decoded,
               quant::ErrorSums& sums) {
  for (size_t i = 0; i < values.size(); ++i) {
    const double value = values[i];
    const double error = value - static_cast<double>(decoded[i]);
    sums.signal_energy += value * value;
    sums.noise_energy += error * error;
    sums.max_abs_error = std::max(sums.max_abs_error, std::abs(error));
  }
}

// Decodes all pieces of one tensor. Errors: kInternal if they are not the tensor's values.
Status decode_all(const Method& method, const Encoded& encoded, quant::DType as,
                  std::span<std::byte> out) {
  for (const Piece& piece : encoded.pieces) {
    const size_t bytes = piece.values * quant::dtype_bytes(as);
    if (bytes > out.size()) return fail(Errc::kInternal, "more values came back than went in");
    BALLAST_TRY_STATUS(method.decode(piece, as, out.first(bytes)));
    out = out.subspan(bytes);
  }
  if (!out.empty())
    return fail(Errc::kInternal, "{} bytes of values did not come back", out.size());
  return {};
}

size_t encoded_bytes(const Encoded& encoded) {
  size_t bytes = 0;
  for (const Piece& piece : encoded.pieces) bytes += piece.bytes.size();
  return bytes;
}

}  // namespace

bool QualityRow::report_agrees() const {
  return std::isnan(reported_db) || reported_db == sqnr_db ||
         std::abs(reported_db - sqnr_db) <= kReportToleranceDb;
}

Result<QualityRow> measure_quality(const DataSet& set, const Method& method) {
  QualityRow row{set.name, std::string(method.name()), method.is_peer()};
  quant::ErrorSums sums;
  quant::ErrorSums reported;
  bool reports = true;
  size_t bytes = 0;
  row.exact = true;
  for (const Tensor& tensor : set.tensors) {
    const auto values = std::as_bytes(std::span(tensor.values));
    BALLAST_TRY(const Encoded encoded, method.encode(values, quant::DType::kF32));
    std::vector<float> decoded(tensor.values.size());
    BALLAST_TRY_STATUS(decode_all(method, encoded, quant::DType::kF32,
                                  std::as_writable_bytes(std::span(decoded))));
    bytes += encoded_bytes(encoded);
    row.exact &= std::memcmp(decoded.data(), values.data(), values.size()) == 0;
    add_error(tensor.values, decoded, sums);
    reports &= encoded.reported.has_value();
    if (encoded.reported) reported += *encoded.reported;
  }
  row.bits = 8 * static_cast<double>(bytes) / static_cast<double>(set.values());
  row.sqnr_db = quant::error_report(sums).sqnr_db;
  row.max_abs = sums.max_abs_error;
  row.reported_db =
      reports ? quant::error_report(reported).sqnr_db : std::numeric_limits<double>::quiet_NaN();
  return row;
}

Result<SizeRow> measure_size(const DataSet& set, quant::DType source, const Method& method) {
  size_t before = 0;
  size_t after = 0;
  for (const Tensor& tensor : set.tensors) {
    const std::vector<std::byte> values = to_dtype(tensor.values, source);
    BALLAST_TRY(const Encoded encoded, method.encode(values, source));
    std::vector<std::byte> decoded(values.size());
    BALLAST_TRY_STATUS(decode_all(method, encoded, source, decoded));
    if (decoded != values) {
      return fail(Errc::kInternal, "{} did not keep every bit of '{}' as {}", method.name(),
                  tensor.name, quant::dtype_name(source));
    }
    before += values.size();
    after += encoded_bytes(encoded);
  }
  return SizeRow{set.name, std::string(method.name()), method.is_peer(), source,
                 static_cast<double>(after) / static_cast<double>(before)};
}

Result<SizeRow> measure_differences(const DataSet& set, const DataSet& base, quant::DType source) {
  constexpr quant::CodecSpec kCodec{quant::CodecId::kLossless};
  BALLAST_TRY(const auto encoder, quant::TensorEncoder::create(kCodec, source, {}));
  const size_t width = quant::dtype_bytes(source);
  const size_t step = quant::values_per_block(kCodec, source) * width;
  size_t before = 0;
  size_t after = 0;
  for (size_t i = 0; i < set.tensors.size(); ++i) {
    const std::vector<std::byte> values = to_dtype(set.tensors[i].values, source);
    const std::vector<std::byte> old = to_dtype(base.tensors[i].values, source);
    for (size_t at = 0; at < values.size(); at += step) {
      const size_t bytes = std::min(step, values.size() - at);
      const auto part = std::span(values).subspan(at, bytes);
      const auto base_part = std::span(old).subspan(at, bytes);
      BALLAST_TRY(auto block, encoder->encode_delta(part, base_part));
      std::vector<std::byte> decoded(bytes);
      BALLAST_TRY_STATUS(
          quant::decode_block(block.bytes.span(), 0, bytes / width, source, decoded, base_part));
      if (!std::ranges::equal(decoded, part))
        return fail(Errc::kInternal, "differences did not keep every bit of a tensor");
      before += bytes;
      after += block.bytes.size();
    }
  }
  return SizeRow{set.name, "lossless to base", false, source,
                 static_cast<double>(after) / static_cast<double>(before)};
}

}  // namespace ballast::micro
