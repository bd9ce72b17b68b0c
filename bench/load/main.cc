// ballast_load: how fast a cluster writes and reads tensors.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "bench/load/load.h"

namespace ballast::load {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kBytesMax = 1ULL << 30;
constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

struct Words {
  std::string mix = "put";
  std::string codec = "f32";
  std::string ack = "sync";
  std::string read = "linearizable";
  std::string output = "table";
  bool buckets = false;
  double seconds = 5;
  double warm_up = 1;
};

std::chrono::milliseconds to_ms(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

Result<LoadOptions> checked(LoadOptions options, const Words& words) {
  options.mix = words.mix == "put" ? Mix::kPut : words.mix == "get" ? Mix::kGet : Mix::kMixed;
  BALLAST_TRY(options.codec, quant::parse_codec(words.codec));
  BALLAST_TRY(options.ack, client::parse_ack(words.ack));
  BALLAST_TRY(options.read, client::parse_read_level(words.read));
  options.time = to_ms(words.seconds);
  options.warm_up = to_ms(words.warm_up);
  if (options.bytes == 0 || options.bytes % sizeof(float) != 0 || options.bytes > kBytesMax) {
    return fail(Errc::kInvalidArgument, "--size is {} bytes: choose a multiple of 4 up to 1GiB",
                options.bytes);
  }
  return options;
}

double tensor_mb_per_s(const CallFigures& figures, const LoadOptions& options, double seconds) {
  return static_cast<double>(figures.latency_ns.count()) * static_cast<double>(options.bytes) /
         1e6 / seconds;
}

double encoded_mb_per_s(const CallFigures& figures, double seconds) {
  return static_cast<double>(figures.encoded_bytes) / 1e6 / seconds;
}

double percentile_us(const CallFigures& figures, double percent) {
  return static_cast<double>(figures.latency_ns.percentile(percent)) / 1e3;
}

// By how many us they took at most: with those of other runs it gives the percentiles of all.
Json buckets_of(const CallFigures& figures) {
  Json buckets = Json::array();
  for (const Histogram::Bucket& bucket : figures.latency_ns.buckets())
    buckets.push_back({static_cast<double>(bucket.end) / 1e3, bucket.count});
  return buckets;
}

Json to_json(const CallFigures& figures, const LoadOptions& options, double seconds) {
  Json errors = Json::object();
  for (const auto& [code, count] : figures.errors) errors[code] = count;
  return {{"ops", figures.latency_ns.count()},
          {"ops_per_s", static_cast<double>(figures.latency_ns.count()) / seconds},
          {"tensor_mb_per_s", tensor_mb_per_s(figures, options, seconds)},
          {"encoded_mb_per_s", encoded_mb_per_s(figures, seconds)},
          {"latency_us",
           {{"mean", figures.latency_ns.mean() / 1e3},
            {"p50", percentile_us(figures, 50)},
            {"p90", percentile_us(figures, 90)},
            {"p99", percentile_us(figures, 99)},
            {"p99_9", percentile_us(figures, 99.9)},
            {"max", static_cast<double>(figures.latency_ns.max()) / 1e3}}},
          {"errors", std::move(errors)},
          {"first_error", figures.first_error}};
}

// Bytes that went to the disk for each encoded byte that was put.
double disk_ratio(const LoadReport& report) {
  return static_cast<double>(*report.disk_bytes) / static_cast<double>(report.put.encoded_bytes);
}

void print_json(const LoadReport& report, const LoadOptions& options, const Words& words) {
  Json json{{"op", words.mix},      {"size", options.bytes}, {"codec", words.codec},
            {"ack", words.ack},     {"read", words.read},    {"clients", options.clients},
            {"keys", options.keys}, {"rate", options.rate},  {"seconds", report.seconds}};
  if (report.disk_bytes) {
    json["disk_mb"] = static_cast<double>(*report.disk_bytes) / 1e6;
    if (report.put.encoded_bytes > 0) json["disk_ratio"] = disk_ratio(report);
  }
  const auto add = [&](const char* name, const CallFigures& figures) {
    json[name] = to_json(figures, options, report.seconds);
    if (words.buckets) json[name]["buckets_us"] = buckets_of(figures);
  };
  if (options.mix != Mix::kGet) add("put", report.put);
  if (options.mix != Mix::kPut) add("get", report.get);
  fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
}

void print_row(const char* name, const CallFigures& figures, const LoadOptions& options,
               double seconds) {
  fmt::print(
      "{:<4} {:>10.1f} {:>12.1f} {:>12.1f} {:>9.0f} {:>9.0f} {:>9.0f} {:>9.0f} {:>9.0f} {:>7}\n",
      name, static_cast<double>(figures.latency_ns.count()) / seconds,
      tensor_mb_per_s(figures, options, seconds), encoded_mb_per_s(figures, seconds),
      percentile_us(figures, 50), percentile_us(figures, 90), percentile_us(figures, 99),
      percentile_us(figures, 99.9), static_cast<double>(figures.latency_ns.max()) / 1e3,
      figures.failed());
  if (!figures.first_error.empty()) {
    fmt::print(stderr, "warning: {} calls of {} failed, the first with: {}\n", figures.failed(),
               name, figures.first_error);
  }
}

void print_table(const LoadReport& report, const LoadOptions& options, const Words& words) {
  fmt::print("{} of {} bytes, codec {}, ack {}, read {}, {} clients, {} keys, {:.1f} s\n\n",
             words.mix, options.bytes, words.codec, words.ack, words.read, options.clients,
             options.keys, report.seconds);
  fmt::print("{:<4} {:>10} {:>12} {:>12} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7}\n", "OP", "OPS/S",
             "TENSOR MB/S", "ENCODED MB/S", "P50 US", "P90 US", "P99 US", "P99.9 US", "MAX US",
             "ERRORS");
  if (options.mix != Mix::kGet) print_row("put", report.put, options, report.seconds);
  if (options.mix != Mix::kPut) print_row("get", report.get, options, report.seconds);
  if (!report.disk_bytes) return;
  fmt::print("\n{:.1f} MB were written to the disk of '{}'",
             static_cast<double>(*report.disk_bytes) / 1e6, options.disk);
  if (report.put.encoded_bytes > 0)
    fmt::print(": {:.3f} bytes for each encoded one that was put", disk_ratio(report));
  fmt::print("\n");
}

void add_options(CLI::App& app, LoadOptions& options, Words& words) {
  app.add_option("--endpoints", options.endpoints, "HOST:PORT,... of the cluster's nodes")
      ->envname("BALLAST_ENDPOINTS")
      ->delimiter(',')
      ->required();
  app.add_option("--op", words.mix, "What the clients do")
      ->check(CLI::IsMember({"put", "get", "mixed"}))
      ->capture_default_str();
  app.add_option("--size", options.bytes, "Bytes of a tensor (default 1MiB)")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--codec", words.codec, "How tensors are stored")->capture_default_str();
  app.add_option("--ack", words.ack, "async, sync or sync_all")->capture_default_str();
  app.add_option("--read", words.read,
                 "linearizable, any or bounded=DURATION, such as bounded=500ms")
      ->capture_default_str();
  app.add_option("--clients", options.clients, "Calls under way at a time")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--keys", options.keys, "Keys that are written and read")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app.add_option("--rate", options.rate,
                 "Calls a second, of all clients together; 0: as fast as they can")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  app.add_option("--seconds", words.seconds, "Time that is measured")
      ->check(CLI::Range(0.1, 86'400.0))
      ->capture_default_str();
  app.add_option("--warm-up", words.warm_up, "Seconds before it")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  app.add_flag("--buckets", words.buckets, "With -o json: how many calls took how long, too");
  app.add_option("--disk", options.disk,
                 "A path on the disk of the nodes: what goes to it meanwhile is counted, of all "
                 "nodes that lie there and of everybody else");
  app.add_option("-o,--output", words.output, "How the figures are printed")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
}

int report_error(const Error& error) {
  fmt::print(stderr, "ballast_load: {}\n", error.to_string());
  return error.code == Errc::kInvalidArgument ? kExitUsage : kExitFailed;
}

int run(const LoadOptions& given, const Words& words) {
  const auto options = checked(given, words);
  if (!options) return report_error(options.error());
  const auto report = run_load(*options);
  if (!report) return report_error(report.error());
  if (words.output == "json") {
    print_json(*report, *options, words);
  } else {
    print_table(*report, *options, words);
  }
  if (!report->clean_up_error.empty()) {
    fmt::print(stderr, "warning: keys under 'load/' are left: {}\n", report->clean_up_error);
  }
  const bool any = report->put.latency_ns.count() + report->get.latency_ns.count() > 0;
  return any ? 0 : kExitFailed;
}

}  // namespace
}  // namespace ballast::load

int main(int argc, char** argv) {
  CLI::App app("Measures how fast a Ballast cluster writes and reads tensors.");
  ballast::load::LoadOptions options;
  ballast::load::Words words;
  ballast::load::add_options(app, options, words);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : ballast::load::kExitUsage;
  }
  return ballast::load::run(options, words);
}
