#include "bench/micro/results.h"

#include <fmt/format.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

namespace ballast::micro {
namespace {

using nlohmann::json;

constexpr double kF32Bits = 32;

std::string_view owner(bool peer) { return peer ? "peer" : "ballast"; }

// JSON has neither NaN nor infinity.
json number(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }

void print_quality(std::string_view title, const std::vector<QualityRow>& rows) {
  if (rows.empty()) return;
  fmt::print("\n{}\n{:28} {:20} {:>8} {:>9} {:>9} {:>10}\n", title, "set", "method", "bits",
             "smaller", "dB", "max error");
  for (const QualityRow& row : rows) {
    fmt::print(
        "{:28} {:20} {:8.4f} {:8.2f}x {:9.3f} {:10.6f}{}{}\n", row.set, row.method, row.bits,
        kF32Bits / row.bits, row.sqnr_db, row.max_abs, row.peer ? "  peer" : "",
        row.report_agrees() ? "" : fmt::format("  the encoder reports {:.3f}", row.reported_db));
  }
}

void print_sizes(const std::vector<SizeRow>& rows) {
  if (rows.empty()) return;
  fmt::print("\nlossless\n{:28} {:20} {:6} {:>12}\n", "set", "method", "source", "of the size");
  for (const SizeRow& row : rows) {
    fmt::print("{:28} {:20} {:6} {:12.4f}{}\n", row.set, row.method, quant::dtype_name(row.source),
               row.ratio, row.peer ? "  peer" : "");
  }
}

void print_speeds(const std::vector<SpeedRow>& rows) {
  if (rows.empty()) return;
  fmt::print("\nspeed, GB/s of the source dtype's side, and as a multiple of others\n");
  fmt::print("{:22} {:20} {:7} {:20} {:4} {:4} {:>8} {:>7} {:>7} {:>7} {:>7}\n", "set", "method",
             "kernel", "what", "from", "to", "GB/s", "memcpy", "memset", "fill", "zstd");
  for (const SpeedRow& row : rows) {
    fmt::print("{:22} {:20} {:7} {:20} {:4} {:4} {:8.2f} {:7.3f} {:7.3f} {:7.3f} {:>7}\n", row.set,
               row.method, row.kernel, row.what, quant::dtype_name(row.source),
               row.what == "encode" ? "" : quant::dtype_name(row.as), row.rate, row.to_memcpy,
               row.to_memset, row.to_stream_fill,
               std::isnan(row.to_split_zstd) ? "" : fmt::format("{:.3f}", row.to_split_zstd));
  }
}

json quality_json(const std::vector<QualityRow>& rows) {
  json list = json::array();
  for (const QualityRow& row : rows) {
    list.push_back({{"set", row.set},
                    {"method", row.method},
                    {"owner", owner(row.peer)},
                    {"bits", row.bits},
                    {"sqnr_db", number(row.sqnr_db)},
                    {"reported_db", number(row.reported_db)},
                    {"max_abs", row.max_abs},
                    {"exact", row.exact}});
  }
  return list;
}

json sizes_json(const std::vector<SizeRow>& rows) {
  json list = json::array();
  for (const SizeRow& row : rows) {
    list.push_back({{"set", row.set},
                    {"method", row.method},
                    {"owner", owner(row.peer)},
                    {"source", quant::dtype_name(row.source)},
                    {"ratio", row.ratio}});
  }
  return list;
}

json speeds_json(const std::vector<SpeedRow>& rows) {
  json list = json::array();
  for (const SpeedRow& row : rows) {
    list.push_back({{"set", row.set},
                    {"method", row.method},
                    {"owner", owner(row.peer)},
                    {"kernel", row.kernel},
                    {"what", row.what},
                    {"source", quant::dtype_name(row.source)},
                    {"as", quant::dtype_name(row.as)},
                    {"gb_per_second", row.rate},
                    {"to_memcpy", row.to_memcpy},
                    {"to_memset", row.to_memset},
                    {"to_stream_fill", row.to_stream_fill},
                    {"to_split_zstd", number(row.to_split_zstd)}});
  }
  return list;
}

}  // namespace

void print_table(const Results& results) {
  fmt::print("core {}, medians of {} rounds; dB over all tensors of a set together\n", results.core,
             results.rounds);
  print_quality("error", results.quality);
  print_quality("pruned: error against the pruned values", results.pruned);
  print_sizes(results.sizes);
  print_speeds(results.speeds);
}

Status write_json(const Results& results, const std::string& path) {
  const json document = {{"core", results.core},
                         {"rounds", results.rounds},
                         {"sets", results.sets},
                         {"quality", quality_json(results.quality)},
                         {"pruned", quality_json(results.pruned)},
                         {"lossless", sizes_json(results.sizes)},
                         {"speed", speeds_json(results.speeds)}};
  std::ofstream file(path);
  file << document.dump(1) << '\n';
  if (!file.flush()) return fail(Errc::kIo, "can't write '{}'", path);
  return {};
}

}  // namespace ballast::micro
