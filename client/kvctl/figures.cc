#include "client/kvctl/figures.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <cmath>
#include <ctime>
#include <limits>

namespace ballast::kvctl {

using client::StoredTensor;
using nlohmann::ordered_json;

namespace {

// REQUIRES: the tensor lost whole slices.
size_t pruned_axis(const StoredTensor& tensor) {
  return quant::prune_axis(tensor.pruning->spec, tensor.shape.size()).value();
}

Totals totals_of_one(const StoredTensor& tensor) {
  Totals totals;
  totals.add(tensor);
  return totals;
}

double sqnr_of(const quant::ErrorSums& sums) {
  if (sums.noise_energy == 0) return std::numeric_limits<double>::infinity();
  return quant::error_report(sums).sqnr_db;
}

ordered_json pruning_json(const StoredTensor& tensor) {
  ordered_json json = {{"spec", quant::prune_name(tensor.pruning->spec)}};
  json.update(pruned_json(totals_of_one(tensor)));
  if (!tensor.pruning->kept) return json;
  json["small_shape"] = tensor.small_shape();
  json["axis"] = pruned_axis(tensor);
  json["kept"] = tensor.pruning->kept_indices();
  return json;
}

ordered_json base_json(const StoredTensor& base) {
  return {{"codec", quant::codec_name(base.codec)},
          {"bytes_after", base.encoded_bytes},
          {"depth", base.base_depth() + 1}};
}

// A list that may have thousands of elements, for a table.
std::string shortened(std::string list) {
  constexpr size_t kShownMax = 120;
  if (list.size() <= kShownMax) return list;
  return list.substr(0, list.rfind(',', kShownMax)) + ", ... ('kvctl -o json show' has them all)";
}

void add_pruning(const StoredTensor& tensor, Table& table) {
  const Totals totals = totals_of_one(tensor);
  table.rows.push_back(
      {"pruned", fmt::format("{}: {} of {} values are gone ({:.2f} %)",
                             quant::prune_name(tensor.pruning->spec), totals.removed, totals.values,
                             100 * totals.removed_share())});
  if (totals.not_finite > 0) table.rows.push_back({"not finite", totals.not_finite_text()});
  if (tensor.pruning->kept) {
    table.rows.push_back({"small shape", shape_text(tensor.small_shape())});
    table.rows.push_back({"kept", shortened(kept_text(tensor))});
  }
}

void add_base(const StoredTensor& base, Table& table) {
  const size_t depth = base.base_depth() + 1;
  table.rows.push_back(
      {"base", fmt::format("stored as a difference to {} of {}{}", human_bytes(base.encoded_bytes),
                           quant::codec_name(base.codec),
                           depth > 1 ? fmt::format(", {} deep", depth) : "")});
}

}  // namespace

ordered_json pruned_json(const Totals& totals) {
  ordered_json json = {{"tensors", totals.pruned},
                       {"values", totals.removed},
                       {"share", totals.removed_share()},
                       {"sqnr_db_with_pruning", finite_or_null(totals.sqnr_db_with_pruning())}};
  if (totals.not_finite > 0) json["not_finite"] = totals.not_finite;
  return json;
}

std::string kept_text(const StoredTensor& tensor) {
  std::string text = fmt::format("axis {}:", pruned_axis(tensor));
  const std::vector<uint64_t> kept = tensor.pruning->kept_indices();
  for (size_t first = 0; first < kept.size();) {
    size_t last = first;
    while (last + 1 < kept.size() && kept[last + 1] == kept[last] + 1) ++last;
    text += fmt::format("{}{}", first == 0 ? " " : ", ", kept[first]);
    if (last > first) text += fmt::format("-{}", kept[last]);
    first = last + 1;
  }
  return text;
}

ordered_json finite_or_null(double value) {
  return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr);
}

std::string decimal(double value, int digits) {
  if (std::isinf(value) && value < 0) return "-inf";
  return std::isfinite(value) ? fmt::format("{:.{}f}", value, digits) : "-";
}

std::string shape_text(std::span<const uint64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::string local_time(uint64_t ms_since_1970) {
  const auto seconds = static_cast<std::time_t>(ms_since_1970 / 1000);
  std::tm parts = {};
  if (::localtime_r(&seconds, &parts) == nullptr) return "-";
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", parts);
}

void Totals::add(const StoredTensor& tensor) {
  ++tensors;
  values += tensor.values();
  source_bytes += tensor.source_bytes();
  encoded_bytes += tensor.encoded_bytes;
  if (tensor.error) error += *tensor.error;
  error_with_pruning += tensor.error_with_pruning();
  if (tensor.base) ++differences;
  if (!tensor.pruning) return;
  ++pruned;
  removed += tensor.pruning->removed;
  not_finite += tensor.pruning->not_finite;
}

double Totals::ratio() const {
  if (encoded_bytes == 0) return 1;
  return static_cast<double>(source_bytes) / static_cast<double>(encoded_bytes);
}

double Totals::bits_per_weight() const {
  if (values == 0) return 0;
  return 8 * static_cast<double>(encoded_bytes) / static_cast<double>(values);
}

double Totals::sqnr_db() const { return sqnr_of(error); }
double Totals::sqnr_db_with_pruning() const { return sqnr_of(error_with_pruning); }

std::string Totals::with_pruning_text() const {
  if (error_with_pruning.noise_energy == 0) return "no error";
  return decimal(sqnr_db_with_pruning(), 2) + " dB";
}

std::string Totals::not_finite_text() const {
  return fmt::format("{} of the values that are gone {} NaN or infinite", not_finite,
                     not_finite == 1 ? "was" : "were");
}

double Totals::removed_share() const {
  return values == 0 ? 0 : static_cast<double>(removed) / static_cast<double>(values);
}

VersionTotals totals_of(std::span<const StoredTensor> tensors) {
  VersionTotals totals;
  for (const StoredTensor& tensor : tensors) {
    totals.all.add(tensor);
    if (!quant::dtype_is_codable(tensor.dtype)) continue;
    totals.floats.add(tensor);
    if (tensor.shape.size() >= 2) totals.matrices.add(tensor);
  }
  return totals;
}

ordered_json tensor_json(const StoredTensor& tensor) {
  const Totals totals = totals_of_one(tensor);
  ordered_json json;
  if (!tensor.name.empty()) json["name"] = tensor.name;
  if (!tensor.section.empty()) json["section"] = tensor.section;
  json["dtype"] = quant::dtype_name(tensor.dtype);
  json["shape"] = tensor.shape;
  json["codec"] = quant::codec_name(tensor.codec);
  json["values_per_block"] = tensor.values_per_block;
  json["values"] = totals.values;
  json["bytes_before"] = totals.source_bytes;
  json["bytes_after"] = totals.encoded_bytes;
  json["ratio"] = totals.ratio();
  json["bits_per_weight"] = totals.bits_per_weight();
  json["exact"] = !tensor.error && !tensor.pruning;
  if (tensor.pruning) json["pruning"] = pruning_json(tensor);
  if (tensor.base) json["base"] = base_json(*tensor.base);
  if (tensor.error) {
    const quant::ErrorReport report = quant::error_report(*tensor.error);
    json["sqnr_db"] = finite_or_null(report.sqnr_db);
    json["relative_rmse"] = finite_or_null(report.relative_rmse);
    json["max_abs_error"] = finite_or_null(report.max_abs);
    json["cosine"] = finite_or_null(report.cosine);
  }
  return json;
}

// "lossless +base", "int4 2:4".
std::string encoding_text(const StoredTensor& tensor) {
  std::string text = quant::codec_name(tensor.codec);
  if (tensor.pruning) text += " " + quant::prune_name(tensor.pruning->spec);
  if (tensor.base) text += " +base";
  return text;
}

Table tensor_table(std::span<const StoredTensor> tensors) {
  Table table{.header = {"SECTION", "TENSOR", "DTYPE", "SHAPE", "CODEC", "BEFORE", "AFTER", "BITS",
                         "SQNR dB"},
              .rows = {}};
  for (const StoredTensor& tensor : tensors) {
    const Totals totals = totals_of_one(tensor);
    table.rows.push_back({tensor.section, tensor.name, std::string(quant::dtype_name(tensor.dtype)),
                          shape_text(tensor.shape), encoding_text(tensor),
                          human_bytes(totals.source_bytes), human_bytes(totals.encoded_bytes),
                          decimal(totals.bits_per_weight(), 2),
                          tensor.error ? decimal(totals.sqnr_db(), 2) : "-"});
  }
  return table;
}

Table tensor_properties(const StoredTensor& tensor) {
  const Totals totals = totals_of_one(tensor);
  Table table;
  if (!tensor.name.empty()) table.rows.push_back({"tensor", tensor.name});
  if (!tensor.section.empty()) table.rows.push_back({"section", tensor.section});
  table.rows.push_back({"dtype", std::string(quant::dtype_name(tensor.dtype))});
  table.rows.push_back({"shape", shape_text(tensor.shape)});
  table.rows.push_back({"codec", quant::codec_name(tensor.codec)});
  if (tensor.pruning) add_pruning(tensor, table);
  if (tensor.base) add_base(*tensor.base, table);
  table.rows.push_back(
      {"bytes", fmt::format("{} before, {} after ({:.2f} to 1)", totals.source_bytes,
                            totals.encoded_bytes, totals.ratio())});
  table.rows.push_back({"bits per value", decimal(totals.bits_per_weight(), 3)});
  if (tensor.pruning)
    table.rows.push_back({"SQNR with pruning",
                          totals.with_pruning_text() + " against the tensor as it was written"});
  if (!tensor.error || tensor.error->noise_energy == 0) {
    table.rows.push_back(
        {"error", tensor.pruning ? "none but the pruning" : "none: stored exactly"});
    return table;
  }
  const quant::ErrorReport report = quant::error_report(*tensor.error);
  table.rows.push_back({"SQNR", decimal(report.sqnr_db, 2) + " dB" +
                                    (tensor.pruning ? " of what pruning left" : "")});
  table.rows.push_back({"relative RMSE", fmt::format("{:.3g}", report.relative_rmse)});
  table.rows.push_back({"largest error", fmt::format("{:.3g}", report.max_abs)});
  table.rows.push_back({"cosine", fmt::format("{:.6f}", report.cosine)});
  return table;
}

ordered_json receipt_json(const client::Receipt& receipt) {
  return {{"group", receipt.group},
          {"term", receipt.term.value()},
          {"index", receipt.index.value()},
          {"asked", client::ack_name(receipt.asked)},
          {"reached", client::ack_name(receipt.reached)}};
}

std::string receipt_text(const client::Receipt& receipt) {
  return fmt::format("{} at group {}, term {}, index {}", client::ack_name(receipt.reached),
                     receipt.group, receipt.term, receipt.index);
}

}  // namespace ballast::kvctl
