// import, export: between safetensors files and models.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "client/formats/safetensors.h"
#include "client/kvctl/arguments.h"
#include "client/kvctl/figures.h"
#include "client/kvctl/import_policy.h"
#include "client/kvctl/policy_file.h"
#include "proto/base/names.h"

namespace ballast::kvctl {
namespace {

using client::DType;
using client::StoredTensor;
using formats::SafetensorsFile;
using formats::SafetensorsTensor;
using nlohmann::ordered_json;

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

double megabytes_per_second(uint64_t bytes, double seconds) {
  return seconds > 0 ? static_cast<double>(bytes) / 1e6 / seconds : 0;
}

// ---- import ----

struct ImportArguments {
  std::string file;
  std::string model;
  std::string codec;
  std::string prune;
  std::string policy;
  std::string base;
  std::string ack = "sync";
  std::string section = "model";
  std::string alias;
  uint64_t parent = 0;
  bool tensors = false;
};

// The sources read from `file`, which outlives them.
std::vector<client::TensorSource> sources_of(const SafetensorsFile& file,
                                             const std::string& section) {
  std::vector<client::TensorSource> sources;
  sources.reserve(file.tensors().size());
  for (const SafetensorsTensor& tensor : file.tensors())
    sources.push_back({.name = tensor.name,
                       .section = section,
                       .dtype = tensor.dtype,
                       .shape = tensor.shape,
                       .read = [&file, &tensor](uint64_t offset, std::span<std::byte> out) {
                         return file.read(tensor, offset, out);
                       }});
  return sources;
}

struct ImportReport {
  client::PublishResult result;
  std::string base;           // MODEL@3; empty: none was given
  std::vector<GlobUse> uses;  // of --policy
  double seconds = 0;
};

ordered_json policy_json(const ImportReport& report, const ImportArguments& arguments) {
  ordered_json globs = ordered_json::array();
  for (const GlobUse& use : report.uses)
    globs.push_back({{"line", use.line},
                     {"tensors", use.glob},
                     {"matched", use.matched},
                     {"decided", use.decided}});
  return {{"file", arguments.policy}, {"globs", std::move(globs)}};
}

// A glob that does nothing is a slip as often as not.
void print_unused(const ImportReport& report, const ImportArguments& arguments) {
  for (const GlobUse& use : report.uses) {
    if (use.decided > 0) continue;
    fmt::print("{}: line {}: '{}' {}\n", arguments.policy, use.line, use.glob,
               use.matched == 0 ? "matches no float tensor"
                                : "decides nothing: globs above it match the same tensors");
  }
}

ordered_json import_json(const ImportReport& report, const ImportArguments& arguments) {
  const client::VersionInfo& version = report.result.version;
  const VersionTotals totals = totals_of(version.tensors);
  ordered_json json = {
      {"model", version.model},
      {"version", version.version},
      {"tensors", totals.all.tensors},
      {"values", totals.all.values},
      {"bytes_before", totals.all.source_bytes},
      {"bytes_after", totals.all.encoded_bytes},
      {"ratio", totals.all.ratio()},
      {"bits_per_weight", totals.floats.bits_per_weight()},
      {"sqnr_db", finite_or_null(totals.all.sqnr_db())},
      {"exact", totals.all.error.noise_energy == 0},
      {"max_abs_error", finite_or_null(totals.all.error.max_abs_error)},
      {"matrices",
       {{"tensors", totals.matrices.tensors},
        {"values", totals.matrices.values},
        {"bytes_after", totals.matrices.encoded_bytes},
        {"bits_per_weight", totals.matrices.bits_per_weight()},
        {"sqnr_db", finite_or_null(totals.matrices.sqnr_db())}}},
      {"uploaded_bytes", report.result.uploaded_bytes},
      {"seconds", report.seconds},
      {"megabytes_per_second", megabytes_per_second(totals.all.source_bytes, report.seconds)},
      {"receipt", receipt_json(report.result.receipt)},
  };
  if (totals.all.pruned > 0) {
    json["pruned"] = pruned_json(totals.all);
    json["matrices"]["pruned"] = pruned_json(totals.matrices);
  }
  if (!report.base.empty())
    json["differences"] = {{"base", report.base}, {"tensors", totals.all.differences}};
  if (!arguments.policy.empty()) json["policy"] = policy_json(report, arguments);
  if (!arguments.alias.empty()) json["alias"] = arguments.alias;
  if (arguments.tensors) {
    // The number of tensors is "tensors" already.
    json["tensor_list"] = ordered_json::array();
    for (const StoredTensor& tensor : version.tensors)
      json["tensor_list"].push_back(tensor_json(tensor));
  }
  return json;
}

void print_import(const ImportReport& report, const ImportArguments& arguments) {
  const client::VersionInfo& version = report.result.version;
  const VersionTotals totals = totals_of(version.tensors);
  Table table{.header = {"", "TENSORS", "VALUES", "BEFORE", "AFTER", "RATIO", "BITS", "SQNR dB"},
              .rows = {}};
  const auto add = [&](const char* name, const Totals& part) {
    table.rows.push_back({name, std::to_string(part.tensors), std::to_string(part.values),
                          human_bytes(part.source_bytes), human_bytes(part.encoded_bytes),
                          decimal(part.ratio(), 2), decimal(part.bits_per_weight(), 3),
                          decimal(part.sqnr_db(), 2)});
  };
  add("all", totals.all);
  add("floats", totals.floats);
  add("matrices", totals.matrices);
  fmt::print("{}@{}\n", version.model, version.version);
  table.print();
  if (totals.all.pruned > 0)
    fmt::print(
        "pruned: {:.2f} % of all values are gone, {:.2f} % of the matrices'; SQNR against the "
        "file: {}\n",
        100 * totals.all.removed_share(), 100 * totals.matrices.removed_share(),
        totals.all.with_pruning_text());
  if (totals.all.not_finite > 0) fmt::print("pruned: {}\n", totals.all.not_finite_text());
  print_unused(report, arguments);
  if (!report.base.empty())
    fmt::print("{} of {} tensors are differences to {}\n", totals.all.differences,
               totals.all.tensors, report.base);
  fmt::print("uploaded {} in {:.2f} s ({:.1f} MB/s of the file): {}\n",
             human_bytes(report.result.uploaded_bytes), report.seconds,
             megabytes_per_second(totals.all.source_bytes, report.seconds),
             receipt_text(report.result.receipt));
  if (!arguments.alias.empty())
    fmt::print("{}@{} is version {} now\n", version.model, arguments.alias, version.version);
  if (arguments.tensors) {
    fmt::print("\n");
    tensor_table(version.tensors).print();
  }
}

// A number is a version of the same model, which the new one then comes from, too.
Status find_base(client::Client& client, const ImportArguments& arguments,
                 client::PublishOptions& options) {
  const bool number = arguments.base.find_first_not_of("0123456789") == std::string::npos;
  BALLAST_TRY(const Reference reference,
              parse_reference(number ? arguments.model + "@" + arguments.base : arguments.base));
  if (!reference.tensor.empty())
    return fail(Errc::kInvalidArgument, "--base {}: give a version, such as 3 or MODEL@3",
                arguments.base);
  BALLAST_TRY(options.base, client.version(reference, client::ReadLevel::kLinearizable));
  if (options.parent_version == 0 && options.base->model == arguments.model)
    options.parent_version = options.base->version;
  return {};
}

// From --policy, or from --codec and --prune. Errors: also if --base has no use with it.
Result<client::EncodingPolicy> choose_policy(const ImportArguments& arguments,
                                             const std::optional<PolicyFile>& file) {
  if (file && !arguments.base.empty() && !file->has_lossless())
    return fail(
        Errc::kInvalidArgument,
        "--base {} with --policy {}: only lossless stores differences, and the policy gives "
        "it to no tensor",
        arguments.base, arguments.policy);
  if (file) return file->policy();
  BALLAST_TRY(const auto prune, parse_prune_option(arguments.prune));
  const std::string codec =
      codec_or_default(arguments.codec, prune, default_codec(arguments.section));
  BALLAST_TRY_STATUS(check_base_option(arguments.base, codec));
  return import_policy(codec, prune);
}

Status import_model(const Context& context, const ImportArguments& arguments) {
  BALLAST_TRY_STATUS(check_model(arguments.model));
  if (!arguments.alias.empty()) BALLAST_TRY_STATUS(check_alias(arguments.alias));
  client::PublishOptions options;
  BALLAST_TRY(options.ack, client::parse_ack(arguments.ack));
  std::optional<PolicyFile> policy;
  if (!arguments.policy.empty()) {
    BALLAST_TRY(policy, PolicyFile::load(arguments.policy, default_codec(arguments.section)));
  }
  BALLAST_TRY(options.policy, choose_policy(arguments, policy));
  BALLAST_TRY(const SafetensorsFile file, SafetensorsFile::open(arguments.file));
  options.metadata = file.metadata();
  options.parent_version = arguments.parent;
  options.progress = progress_bar("import " + arguments.model);
  BALLAST_TRY(client::Client client, context.connect());
  if (!arguments.base.empty()) BALLAST_TRY_STATUS(find_base(client, arguments, options));

  const std::vector<client::TensorSource> sources = sources_of(file, arguments.section);
  ImportReport report;
  if (policy) report.uses = policy->uses(sources);
  if (options.base) report.base = fmt::format("{}@{}", options.base->model, options.base->version);
  const Stopwatch stopwatch;
  BALLAST_TRY(report.result, client.publish(arguments.model, sources, options));
  options.progress = nullptr;  // wipes the bar
  report.seconds = stopwatch.seconds();
  if (!arguments.alias.empty()) {
    const uint64_t version = report.result.version.version;
    auto moved = client.set_alias(arguments.model, arguments.alias, version, std::nullopt);
    if (!moved)
      return fail_within(std::move(moved).error(), "{}@{} is stored, but the alias '{}' is not set",
                         arguments.model, version, arguments.alias);
  }
  if (context.json)
    print_json(import_json(report, arguments));
  else
    print_import(report, arguments);
  return {};
}

// ---- export ----

struct ExportArguments {
  std::string reference;
  std::string file;
  std::string as;
  std::string read = "linearizable";
  std::string section;
  bool small = false;
};

// What is to be exported, and as which dtype: --as is for floats, the rest stays as it is.
struct Selection {
  std::vector<const StoredTensor*> tensors;
  std::vector<formats::SafetensorsEntry> entries;
};

Result<Selection> select(const client::VersionInfo& version, const ExportArguments& arguments,
                         const std::string& tensor_name, std::optional<DType> as) {
  Selection selection;
  for (const StoredTensor& tensor : version.tensors) {
    if (!arguments.section.empty() && tensor.section != arguments.section) continue;
    if (!tensor_name.empty() && tensor.name != tensor_name) continue;
    const bool converts = as && quant::dtype_is_codable(tensor.dtype);
    selection.tensors.push_back(&tensor);
    selection.entries.push_back({.name = tensor.name,
                                 .dtype = converts ? *as : tensor.dtype,
                                 .shape = arguments.small ? tensor.small_shape() : tensor.shape});
  }
  // Without a filter this is a version without tensors, which is a file without tensors.
  if (selection.tensors.empty() && (!arguments.section.empty() || !tensor_name.empty()))
    return fail(Errc::kNotFound, "{}@{} has no tensor that matches; 'kvctl show {}@{}' lists them",
                version.model, version.version, version.model, version.version);

  std::vector<const StoredTensor*> by_name = selection.tensors;
  std::ranges::sort(by_name, {}, [](const StoredTensor* tensor) { return tensor->name; });
  const auto twice = std::ranges::adjacent_find(
      by_name, {}, [](const StoredTensor* tensor) { return tensor->name; });
  if (twice != by_name.end())
    return fail(Errc::kInvalidArgument,
                "tensor '{}' is in the sections '{}' and '{}', and a file has no sections; choose "
                "one with --section",
                (*twice)->name, (*twice)->section, (*std::next(twice))->section);
  return selection;
}

// A small tensor means little without the places of its slices: the file says them.
void add_kept(const Selection& selection, formats::SafetensorsMetadata& metadata) {
  for (const StoredTensor* tensor : selection.tensors)
    if (tensor->pruning && tensor->pruning->kept)
      metadata["ballast.kept." + tensor->name] = kept_text(*tensor);
}

Status write_tensors(client::Client& client, const Selection& selection,
                     const client::ReadOptions& read, const client::Progress& progress,
                     formats::SafetensorsWriter& writer) {
  uint64_t done = 0;
  for (size_t i = 0; i < selection.tensors.size(); ++i) {
    const StoredTensor& tensor = *selection.tensors[i];
    const DType dtype = selection.entries[i].dtype;
    client::ReadOptions options = read;
    options.as = dtype == tensor.dtype ? std::nullopt : std::optional(dtype);
    const uint64_t values = read.small ? tensor.small_values() : tensor.values();
    const uint64_t end = done + values * quant::dtype_bytes(dtype);
    const auto append = [&](std::span<const std::byte> piece) {
      done += piece.size();
      if (progress) progress(done, writer.data_bytes());
      return writer.append(piece);
    };
    auto status = client.read(tensor, options, append);
    if (!status) return fail_within(std::move(status).error(), "tensor '{}'", tensor.name);
    // The writer sees the sum alone: one tensor too short and the next too long would pass it.
    if (done != end)
      return fail(Errc::kInternal, "tensor '{}' came with {} bytes too {}", tensor.name,
                  done < end ? end - done : done - end, done < end ? "few" : "many");
  }
  return {};
}

Status export_model(const Context& context, const ExportArguments& arguments) {
  BALLAST_TRY(Reference reference, parse_reference(arguments.reference));
  const std::string tensor_name = std::exchange(reference.tensor, {});
  BALLAST_TRY(const std::optional<DType> as, parse_as(arguments.as));
  client::ReadOptions options{.small = arguments.small};
  BALLAST_TRY(options.read, client::parse_read_level(arguments.read));
  BALLAST_TRY(client::Client client, context.connect());
  const Stopwatch stopwatch;
  BALLAST_TRY(const client::VersionInfo version, client.version(reference, options.read));
  BALLAST_TRY(const Selection selection, select(version, arguments, tensor_name, as));
  formats::SafetensorsMetadata metadata = version.metadata;
  if (arguments.small) add_kept(selection, metadata);
  BALLAST_TRY(formats::SafetensorsWriter writer,
              formats::SafetensorsWriter::create(arguments.file, selection.entries, metadata));
  BALLAST_TRY_STATUS(write_tensors(client, selection, options,
                                   progress_bar("export " + arguments.reference), writer));
  BALLAST_TRY_STATUS(writer.commit());
  const double seconds = stopwatch.seconds();
  const uint64_t bytes = writer.data_bytes();
  if (context.json)
    print_json({{"model", version.model},
                {"version", version.version},
                {"file", arguments.file},
                {"tensors", selection.tensors.size()},
                {"bytes", bytes},
                {"seconds", seconds},
                {"megabytes_per_second", megabytes_per_second(bytes, seconds)}});
  else
    fmt::print("{}: {}@{}, {} tensors, {} in {:.2f} s ({:.1f} MB/s)\n", arguments.file,
               version.model, version.version, selection.tensors.size(), human_bytes(bytes),
               seconds, megabytes_per_second(bytes, seconds));
  return {};
}

}  // namespace

void add_model_commands(CLI::App& app, Context& context) {
  const auto import_command = add_command(
      app, context, "import", "store a safetensors file as a model's next version", import_model);
  CLI::App& in = *import_command.app;
  ImportArguments& import_arguments = *import_command.arguments;
  in.add_option("FILE.safetensors", import_arguments.file)->required();
  in.add_option("MODEL", import_arguments.model)->required();
  CLI::Option* codec =
      in.add_option(
            "--codec", import_arguments.codec,
            "for matrices, other floats f16: int4 (default), int8, ec4, ec4t, sparse4 (default "
            "with --prune 2:4 or magnitude), such as int4:group=16 or ec4:bits=3.5; for all "
            "floats: lossless (default in sections other than model), f32, f16, bf16; exact: as "
            "they are")
          ->type_name("CODEC");
  CLI::Option* prune = add_prune_option(in, import_arguments.prune);
  in.add_option("--policy", import_arguments.policy,
                "a file of rules instead: codec and pruning by the tensors' names; see "
                "docs/codecs.md")
      ->type_name("FILE.toml")
      ->excludes(codec)
      ->excludes(prune);
  in.add_option("--base", import_arguments.base,
                "with --codec lossless: version (3, or MODEL@3) to which tensors are stored as "
                "differences where that is smaller")
      ->type_name("VERSION");
  add_ack_option(in, import_arguments.ack);
  in.add_option("--section", import_arguments.section,
                "model (default), optimizer, rng, progress or any other name");
  in.add_option("--alias", import_arguments.alias, "name that is moved to the new version")
      ->type_name("NAME");
  in.add_option("--parent", import_arguments.parent, "version that this one came from")
      ->type_name("VERSION");
  in.add_flag("--tensors", import_arguments.tensors, "list the tensors");

  const auto export_command =
      add_command(app, context, "export", "write a version to a safetensors file", export_model);
  CLI::App& out = *export_command.app;
  ExportArguments& export_arguments = *export_command.arguments;
  out.add_option("REF", export_arguments.reference,
                 "MODEL (its latest version), MODEL@3, MODEL@prod or MODEL@prod/TENSOR")
      ->required();
  out.add_option("-o,--file,FILE.safetensors", export_arguments.file,
                 "the file; '-o json' stands before the command")
      ->required();
  out.add_option("--section", export_arguments.section, "this section alone");
  add_as_option(out, export_arguments.as);
  out.add_flag("--small", export_arguments.small,
               "without the rows, columns or channels that pruning took out; the file's metadata "
               "says which are left");
  add_read_option(out, export_arguments.read);
}

}  // namespace ballast::kvctl
