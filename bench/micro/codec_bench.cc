// codec_bench [FILE.safetensors ...]: bits, error and speed of the codecs beside memory and peers,
// all in one process. docs/benchmarks.md says what the figures mean.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "bench/micro/measure.h"
#include "bench/micro/results.h"
#include "quant/codec.h"

namespace ballast::micro {
namespace {

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

// Every codec that has a row. A new one is one string here; what this build of quant does not know
// is left out with a word on stderr.
constexpr std::string_view kCodecs[] = {
    "int4:group=16", "int4",    "int4:group=64", "ec4",  "ec4t", "ec4t:bits=4.05",
    "int8",          "sparse4", "lossless",      "bf16", "f16",  "f32",
};

struct Options {
  std::vector<std::string> files;
  bool gauss = false;
  bool t4 = false;
  std::vector<std::string> codecs{std::begin(kCodecs), std::end(kCodecs)};
  std::string ggml;
  std::string kernel;
  std::vector<std::string> speed_sets;
  bool speed = true;
  size_t rounds = 7;
  int core = -1;
  std::string json;
};

void add_options(CLI::App& app, Options& options) {
  app.add_option("FILE", options.files, "safetensors files: their F32 tensors of rank 2 or more");
  app.add_flag("--gauss", options.gauss, "4 Mi normally distributed values");
  app.add_flag("--t4", options.t4,
               "4 Mi values of Student's t with 4 degrees of freedom. Without --gauss and "
               "--t4, both are measured");
  app.add_option("--codec", options.codecs,
                 "measure this codec instead of all that are known; can be repeated")
      ->allow_extra_args(false);
  app.add_option("--ggml", options.ggml,
                 "directory with libggml-base.so: measures Q4_0 and others");
  app.add_option("--kernel", options.kernel,
                 "scalar, avx2, avx512, vbmi2 or all; default: the fastest");
  app.add_option("--speed-set", options.speed_sets,
                 "a set whose speed is measured, by name; can be repeated; default: the first "
                 "generated one")
      ->allow_extra_args(false);
  app.add_flag("!--no-speed", options.speed, "sizes and errors alone");
  app.add_option("--rounds", options.rounds, "rounds of each race")->check(CLI::Range(7, 1001));
  app.add_option("--core", options.core, "the core to stay on; default: the last");
  app.add_option("--json", options.json, "also write the rows to this file");
}

// What did not work for one row must not cost the others.
template <class T>
std::optional<T> or_note(Result<T> result, const std::string& row) {
  if (result) return *std::move(result);
  fmt::print(stderr, "codec_bench: no row for {}: {}\n", row, result.error().to_string());
  return std::nullopt;
}

template <class T>
void append(std::vector<T>& to, std::optional<std::vector<T>> rows) {
  if (rows) to.insert(to.end(), rows->begin(), rows->end());
}

Result<std::vector<DataSet>> make_sets(const Options& options) {
  std::vector<DataSet> sets;
  for (const std::string& file : options.files) {
    BALLAST_TRY(sets.emplace_back(), read_set(file));
  }
  if (options.gauss || !options.t4) sets.push_back(gauss_set());
  if (options.t4 || !options.gauss) sets.push_back(t4_set());
  for (const std::string& name : options.speed_sets) {
    if (std::ranges::find(sets, name, &DataSet::name) != sets.end()) continue;
    return fail(Errc::kInvalidArgument, "--speed-set names '{}', which is none of the sets", name);
  }
  return sets;
}

Methods make_methods(const Options& options) {
  Methods methods;
  for (const std::string& codec : options.codecs) {
    if (auto method = or_note(make_codec(codec), codec)) methods.push_back(*std::move(method));
  }
  if (options.ggml.empty()) {
    fmt::print(
        stderr,
        "codec_bench: no rows for ggml: give --ggml the directory of libggml-base.so, as the "
        "PyPI package libggml-python has it; bench/micro/report does so\n");
  } else if (auto peers = or_note(load_ggml(options.ggml), "ggml")) {
    std::ranges::move(*peers, std::back_inserter(methods));
  }
  return methods;
}

Result<std::vector<std::string_view>> kernels_of(const Options& options) {
  if (options.kernel.empty()) return std::vector{quant::selected_kernel()};
  if (options.kernel == "all") return quant::available_kernels();
  BALLAST_TRY_STATUS(quant::select_kernel(options.kernel));
  return std::vector{quant::selected_kernel()};
}

class Bench {
 public:
  Bench(const Options& options, std::vector<DataSet> sets, std::vector<std::string_view> kernels)
      : options_(options),
        sets_(std::move(sets)),
        kernels_(std::move(kernels)),
        methods_(make_methods(options)),
        split_zstd_(make_split_zstd(1)) {
    results_.rounds = options.rounds;
    for (const DataSet& set : sets_) results_.sets.push_back(set.name);
  }

  Results run(int core) {
    results_.core = core;
    quality();
    pruning();
    sizes();
    if (options_.speed) {
      Track track(options_.rounds);
      speed(track);
      pruned_speed(track);
      lossless_speed(track);
    }
    return std::move(results_);
  }

 private:
  void quality() {
    for (const DataSet& set : sets_) {
      for (const auto& method : methods_) {
        const auto row = or_note(measure_quality(set, *method),
                                 fmt::format("{} on {}", method->name(), set.name));
        if (row) results_.quality.push_back(*row);
      }
    }
  }

  // A plain copy keeps every bit too, but there is nothing to learn from it.
  bool is_lossless(const Method& method) const {
    bool any = false;
    for (const QualityRow& row : results_.quality) {
      if (row.method != method.name()) continue;
      if (!row.exact) return false;
      any = true;
    }
    return any && !is_plain(method);
  }

  static bool is_for_pruned(const Method& method) {
    const auto codec = quant::parse_codec(method.name());
    return codec && codec->id == quant::CodecId::kSparse4;
  }

  bool is_plain(const Method& method) const {
    const auto codec = quant::parse_codec(method.name());
    return codec && std::ranges::any_of(
                        std::array{quant::DType::kF32, quant::DType::kF16, quant::DType::kBF16},
                        [&](quant::DType dtype) { return *codec == quant::exact_codec(dtype); });
  }

  void pruning() {
    for (const DataSet& set : sets_) {
      for (const Pruning pattern : kPrunings) {
        const DataSet copy = pruned(set, pattern);
        for (const auto& method : methods_) {
          if (method->is_peer() || is_plain(*method)) continue;
          const auto row = or_note(measure_quality(copy, *method),
                                   fmt::format("{} on {}", method->name(), copy.name));
          if (row) results_.pruned.push_back(*row);
        }
      }
    }
  }

  // The peer comes first: speeds are set against it.
  std::vector<const Method*> lossless_methods() const {
    std::vector<const Method*> methods = {split_zstd_.get()};
    for (const auto& method : methods_) {
      if (is_lossless(*method)) methods.push_back(method.get());
    }
    return methods;
  }

  void sizes() {
    for (const DataSet& set : sets_) {
      for (const quant::DType source : kSources) {
        for (const Method* method : lossless_methods()) {
          const auto row = or_note(
              measure_size(set, source, *method),
              fmt::format("{} on {} as {}", method->name(), set.name, quant::dtype_name(source)));
          if (row) results_.sizes.push_back(*row);
        }
      }
      differences(set);
    }
  }

  void differences(const DataSet& set) {
    if (lossless_methods().size() == 1) return;
    for (const Step& step : kSteps) {
      const DataSet next = moved(set, step);
      for (const quant::DType source : kSources) {
        const auto row = or_note(measure_differences(next, set, source),
                                 fmt::format("differences of {}", next.name));
        if (row) results_.sizes.push_back(*row);
      }
    }
  }

  bool wants_speed(const DataSet& set) const {
    if (!options_.speed_sets.empty()) {
      return std::ranges::find(options_.speed_sets, set.name) != options_.speed_sets.end();
    }
    return &set == &sets_[std::min(options_.files.size(), sets_.size() - 1)];
  }

  void speed(Track& track) {
    for (const DataSet& set : sets_) {
      if (!wants_speed(set)) continue;
      for (const auto& method : methods_) {
        if (is_lossless(*method)) continue;
        for (const std::string_view kernel : kernels_) {
          if (method->is_peer() && kernel != kernels_.back()) continue;
          if (!quant::select_kernel(kernel)) continue;
          const std::string row = fmt::format("the speed of {} on {}", method->name(), set.name);
          append(results_.speeds, or_note(track.encode(set, *method), row));
          append(results_.speeds, or_note(track.decode(set, *method), row));
        }
      }
    }
  }

  // How fast zeros are put back depends on how many there are, and where.
  void pruned_speed(Track& track) {
    for (const DataSet& set : sets_) {
      if (!wants_speed(set)) continue;
      for (const Pruning pattern : kPrunings) {
        const DataSet copy = pruned(set, pattern);
        for (const auto& method : methods_) {
          if (!is_for_pruned(*method)) continue;
          for (const std::string_view kernel : kernels_) {
            if (!quant::select_kernel(kernel)) continue;
            append(results_.speeds,
                   or_note(track.decode(copy, *method),
                           fmt::format("the speed of {} on {}", method->name(), copy.name)));
          }
        }
      }
    }
  }

  // On files too: how fast bits are kept depends on the bits.
  void lossless_speed(Track& track) {
    for (size_t i = 0; i < sets_.size(); ++i) {
      if (i >= options_.files.size() && !wants_speed(sets_[i])) continue;
      for (const quant::DType source : kSources) {
        for (const std::string_view kernel : kernels_) {
          if (!quant::select_kernel(kernel)) continue;
          append(results_.speeds,
                 or_note(track.keep(sets_[i], source, lossless_methods()),
                         fmt::format("the speed of lossless codecs on {}", sets_[i].name)));
        }
      }
    }
  }

  static constexpr quant::DType kSources[] = {quant::DType::kBF16, quant::DType::kF16,
                                              quant::DType::kF32};

  const Options& options_;
  std::vector<DataSet> sets_;
  std::vector<std::string_view> kernels_;
  Methods methods_;
  std::unique_ptr<Method> split_zstd_;
  Results results_;
};

Result<bool> run(const Options& options) {
  BALLAST_TRY(const int core, pin_to_core(options.core));
  BALLAST_TRY(auto kernels, kernels_of(options));
  BALLAST_TRY(auto sets, make_sets(options));
  const Results results = Bench(options, std::move(sets), std::move(kernels)).run(core);
  print_table(results);
  if (!options.json.empty()) BALLAST_TRY_STATUS(write_json(results, options.json));
  return std::ranges::all_of(results.quality, &QualityRow::report_agrees);
}

}  // namespace
}  // namespace ballast::micro

int main(int argc, char** argv) {
  CLI::App app("Measures the codecs: bits, error and speed beside memory and peers.");
  ballast::micro::Options options;
  ballast::micro::add_options(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : ballast::micro::kExitUsage;
  }
  const auto agreed = ballast::micro::run(options);
  if (!agreed) {
    fmt::print(stderr, "codec_bench: {}\n", agreed.error().to_string());
    return ballast::micro::kExitFailed;
  }
  if (!*agreed) {
    fmt::print(stderr, "codec_bench: an encoder reports another error than was measured\n");
    return ballast::micro::kExitFailed;
  }
  return 0;
}
