// put, ls, rm, show, alias.
#include <fmt/format.h>

#include "client/formats/npy.h"
#include "client/kvctl/arguments.h"
#include "client/kvctl/figures.h"
#include "client/kvctl/import_policy.h"

namespace ballast::kvctl {
namespace {

using client::ReadLevel;
using client::StoredTensor;
using nlohmann::ordered_json;

// ---- put ----

struct PutArguments {
  std::string key;
  std::string file;
  std::string codec;
  std::string prune;
  std::string base;
  std::string ack = "sync";
  std::optional<uint64_t> expect;
};

// Whoever names a base wants a difference: what can't be one is no tensor to store whole in
// silence. A base that is the top of too many differences is: the next one begins anew.
Result<StoredTensor> find_base(client::Client& client, const PutArguments& arguments,
                               const formats::NpyArray& array) {
  BALLAST_TRY(const Reference reference, parse_reference(arguments.base));
  BALLAST_TRY(StoredTensor base, locate_tensor(client, reference, "", ReadLevel::kLinearizable));
  if (Status fits = client::check_base(base, array.dtype, array.shape); !fits)
    return fail_within(std::move(fits).error(), "--base {}", arguments.base);
  return base;
}

Status put(const Context& context, const PutArguments& arguments) {
  BALLAST_TRY_STATUS(check_key(arguments.key));
  client::PutOptions options{.expect_revision = arguments.expect};
  BALLAST_TRY(options.ack, client::parse_ack(arguments.ack));
  BALLAST_TRY(options.prune, parse_prune_option(arguments.prune));
  const std::string codec = codec_or_default(arguments.codec, options.prune, "exact");
  if (codec != "exact") {
    BALLAST_TRY(options.codec, quant::parse_codec(codec));
  }
  BALLAST_TRY_STATUS(check_base_option(arguments.base, codec));
  if (!arguments.base.empty() && options.prune && quant::prune_is_structured(*options.prune))
    return fail(Errc::kInvalidArgument,
                "--base {} with --prune {}: what lost whole slices is no difference to anything; "
                "leave one of them out",
                arguments.base, arguments.prune);
  BALLAST_TRY(const formats::NpyArray array, formats::read_npy(arguments.file));
  BALLAST_TRY(client::Client client, context.connect());
  if (!arguments.base.empty()) {
    BALLAST_TRY(options.base, find_base(client, arguments, array));
  }
  BALLAST_TRY(
      const client::PutResult result,
      client.put(arguments.key, {.dtype = array.dtype, .shape = array.shape, .data = array.data},
                 options));
  if (context.json) {
    ordered_json json = {{"key", arguments.key}, {"revision", result.receipt.index.value()}};
    json.update(tensor_json(result.tensor));
    json["receipt"] = receipt_json(result.receipt);
    print_json(json);
    return {};
  }
  Table table = tensor_properties(result.tensor);
  table.rows.insert(table.rows.begin(), {"key", arguments.key});
  table.rows.push_back({"acknowledged", receipt_text(result.receipt)});
  table.print();
  return {};
}

// ---- ls ----

struct ListArguments {
  std::string prefix;
  std::string read = "linearizable";
};

Status list(const Context& context, const ListArguments& arguments) {
  BALLAST_TRY(const ReadLevel read, client::parse_read_level(arguments.read));
  BALLAST_TRY(client::Client client, context.connect());
  ordered_json keys = ordered_json::array();
  ordered_json models = ordered_json::array();
  Table table{
      .header = {"KIND", "NAME", "REVISION", "VERSIONS", "DTYPE", "SHAPE", "CODEC", "BYTES"},
      .rows = {}};
  BALLAST_TRY_STATUS(
      client.list(arguments.prefix, read, [&](const client::KeySummary& key) -> Status {
        const std::string dtype(key.known ? quant::dtype_name(key.dtype) : "?");
        std::string codec = key.known ? quant::codec_name(key.codec) : "?";
        if (key.prune) codec += " " + quant::prune_name(*key.prune);
        if (context.json)
          keys.push_back({{"key", key.key},
                          {"revision", key.revision},
                          {"dtype", dtype},
                          {"shape", key.shape},
                          {"codec", codec},
                          {"encoded_bytes", key.encoded_bytes}});
        else
          table.rows.push_back({"key", key.key, std::to_string(key.revision), "-", dtype,
                                shape_text(key.shape), codec, human_bytes(key.encoded_bytes)});
        return {};
      }));
  BALLAST_TRY_STATUS(
      client.list_models(arguments.prefix, read, [&](const client::ModelSummary& model) -> Status {
        if (context.json)
          models.push_back({{"model", model.model},
                            {"latest_version", model.latest_version},
                            {"live_versions", model.live_versions}});
        else
          table.rows.push_back({"model", fmt::format("{}@{}", model.model, model.latest_version),
                                "-", std::to_string(model.live_versions), "-", "-", "-", "-"});
        return {};
      }));
  if (context.json)
    print_json({{"keys", std::move(keys)}, {"models", std::move(models)}});
  else if (!table.rows.empty())
    table.print();
  return {};
}

// ---- rm ----

struct RemoveArguments {
  std::string reference;
  std::string ack = "sync";
};

// A bare name removes a key. A whole model is never removed by a name that might be a slip: its
// versions are removed one by one.
Result<client::Receipt> remove_key(client::Client& client, const Reference& reference,
                                   client::Ack ack) {
  auto removed = client.remove(reference.name, ack);
  if (removed || removed.error().code != Errc::kNotFound) return removed;
  const auto model = client.version(reference, ReadLevel::kLinearizable);
  if (model)
    return fail(Errc::kRefused, "'{}' is a model; remove its versions one by one: kvctl rm {}@{}",
                reference.name, reference.name, model->version);
  return removed;
}

Status remove(const Context& context, const RemoveArguments& arguments) {
  BALLAST_TRY(const Reference reference, parse_reference(arguments.reference));
  BALLAST_TRY(const client::Ack ack, client::parse_ack(arguments.ack));
  if (!reference.tensor.empty())
    return fail(Errc::kInvalidArgument,
                "'{}' is a tensor of a version, and versions do not change; name a key or MODEL@3",
                arguments.reference);
  if (!reference.alias.empty())
    return fail(Errc::kInvalidArgument,
                "'{}' is an alias, which may move meanwhile; name the version, such as {}@3",
                arguments.reference, reference.name);
  BALLAST_TRY(client::Client client, context.connect());
  BALLAST_TRY(const client::Receipt receipt,
              reference.has_selector ? client.remove_version(reference.name, reference.version, ack)
                                     : remove_key(client, reference, ack));
  if (context.json)
    print_json({{"removed", arguments.reference}, {"receipt", receipt_json(receipt)}});
  else
    fmt::print("removed {}: {}\n", arguments.reference, receipt_text(receipt));
  return {};
}

// ---- show ----

struct ShowArguments {
  std::string reference;
  std::string read = "linearizable";
  std::string section;
};

ordered_json alias_json(const client::AliasSummary& alias) {
  return {{"alias", alias.alias}, {"version", alias.version}, {"history", alias.history}};
}

Status show_tensor(const Context& context, const std::string& name, const StoredTensor& tensor,
                   std::optional<uint64_t> revision) {
  if (context.json) {
    ordered_json json = {{"kind", revision ? "key" : "tensor"}, {"reference", name}};
    if (revision) json["revision"] = *revision;
    json.update(tensor_json(tensor));
    print_json(json);
    return {};
  }
  Table table = tensor_properties(tensor);
  if (revision) {
    table.rows.insert(table.rows.begin(), {"revision", std::to_string(*revision)});
    table.rows.insert(table.rows.begin(), {"key", name});
  }
  table.print();
  return {};
}

ordered_json version_json(const client::VersionInfo& version) {
  const Totals totals = totals_of(version.tensors).all;
  ordered_json json = {{"kind", "version"},
                       {"model", version.model},
                       {"version", version.version},
                       {"revision", version.revision},
                       {"parent_version", version.parent_version},
                       {"created_ms", version.created_ms},
                       {"manifest", version.manifest.hex()},
                       {"metadata", version.metadata},
                       {"values", totals.values},
                       {"bytes_before", totals.source_bytes},
                       {"bytes_after", totals.encoded_bytes},
                       {"ratio", totals.ratio()},
                       {"sqnr_db", finite_or_null(totals.sqnr_db())}};
  if (totals.pruned > 0) json["pruned"] = pruned_json(totals);
  ordered_json tensors = ordered_json::array();
  for (const StoredTensor& tensor : version.tensors) tensors.push_back(tensor_json(tensor));
  json["tensors"] = std::move(tensors);
  return json;
}

void print_version(const client::VersionInfo& version,
                   const std::vector<client::AliasSummary>& aliases) {
  const Totals totals = totals_of(version.tensors).all;
  Table table;
  table.rows = {
      {"model", version.model},
      {"version", fmt::format("{}", version.version)},
      {"created", local_time(version.created_ms)},
      {"manifest", version.manifest.hex()},
      {"tensors", fmt::format("{}", totals.tensors)},
      {"bytes", fmt::format("{} before, {} after ({:.2f} to 1)", human_bytes(totals.source_bytes),
                            human_bytes(totals.encoded_bytes), totals.ratio())},
      {"SQNR",
       totals.error.noise_energy == 0 ? "stored exactly" : decimal(totals.sqnr_db(), 2) + " dB"}};
  if (totals.pruned > 0)
    table.rows.push_back(
        {"pruned",
         fmt::format("{} tensors, {:.2f} % of all values; SQNR against what was written: {}",
                     totals.pruned, 100 * totals.removed_share(), totals.with_pruning_text())});
  if (totals.not_finite > 0) table.rows.push_back({"not finite", totals.not_finite_text()});
  if (totals.differences > 0)
    table.rows.push_back(
        {"differences", fmt::format("{} of {} tensors", totals.differences, totals.tensors)});
  if (version.parent_version != 0)
    table.rows.push_back({"parent", fmt::format("{}", version.parent_version)});
  for (const auto& [key, value] : version.metadata)
    table.rows.push_back({"metadata", key + " = " + value});
  for (const client::AliasSummary& alias : aliases)
    table.rows.push_back({"alias", fmt::format("{} -> {}", alias.alias, alias.version)});
  table.print();
  fmt::print("\n");
  tensor_table(version.tensors).print();
}

Status show(const Context& context, const ShowArguments& arguments) {
  BALLAST_TRY(const Reference reference, parse_reference(arguments.reference));
  BALLAST_TRY(const ReadLevel read, client::parse_read_level(arguments.read));
  BALLAST_TRY(client::Client client, context.connect());
  if (!reference.tensor.empty()) {
    BALLAST_TRY(const StoredTensor tensor, find_tensor(client, reference, arguments.section, read));
    return show_tensor(context, arguments.reference, tensor, std::nullopt);
  }
  if (!reference.has_selector) {
    // A name may be a key or a model; a model that is hidden by a key is shown as MODEL@3.
    const auto key = client.stat(reference.name, {.read = read});
    if (key) return show_tensor(context, key->key, key->tensor, key->revision);
    if (key.error().code != Errc::kNotFound) return std::unexpected(key.error());
  }
  auto version = client.version(reference, read);
  if (!version && version.error().code == Errc::kNotFound && !reference.has_selector)
    return fail(Errc::kNotFound, "neither a key nor a model is named '{}'", reference.name);
  if (!version) return std::unexpected(std::move(version).error());
  BALLAST_TRY(const std::vector<client::AliasSummary> aliases,
              client.aliases(version->model, read));
  if (!context.json) {
    print_version(*version, aliases);
    return {};
  }
  ordered_json json = version_json(*version);
  json["aliases"] = ordered_json::array();
  for (const client::AliasSummary& alias : aliases) json["aliases"].push_back(alias_json(alias));
  print_json(json);
  return {};
}

// ---- alias ----

struct AliasArguments {
  std::string reference;  // MODEL@NAME, or the MODEL of ls
  uint64_t version = 0;
  std::optional<uint64_t> expect;
};

Status alias_set(const Context& context, const AliasArguments& arguments) {
  BALLAST_TRY(const Reference reference, parse_alias_reference(arguments.reference));
  BALLAST_TRY(client::Client client, context.connect());
  BALLAST_TRY(const client::Receipt receipt, client.set_alias(reference.name, reference.alias,
                                                              arguments.version, arguments.expect));
  if (context.json)
    print_json({{"model", reference.name},
                {"alias", reference.alias},
                {"version", arguments.version},
                {"receipt", receipt_json(receipt)}});
  else
    fmt::print("{} is version {} now: {}\n", arguments.reference, arguments.version,
               receipt_text(receipt));
  return {};
}

Status alias_list(const Context& context, const AliasArguments& arguments) {
  BALLAST_TRY_STATUS(check_model(arguments.reference));
  BALLAST_TRY(client::Client client, context.connect());
  BALLAST_TRY(const std::vector<client::AliasSummary> aliases,
              client.aliases(arguments.reference, ReadLevel::kLinearizable));
  if (context.json) {
    ordered_json json = {{"model", arguments.reference}, {"aliases", ordered_json::array()}};
    for (const client::AliasSummary& alias : aliases) json["aliases"].push_back(alias_json(alias));
    print_json(json);
    return {};
  }
  Table table{.header = {"ALIAS", "VERSION", "HISTORY"}, .rows = {}};
  for (const client::AliasSummary& alias : aliases)
    table.rows.push_back({alias.alias, std::to_string(alias.version),
                          fmt::format("{}", fmt::join(alias.history, " -> "))});
  if (!table.rows.empty()) table.print();
  return {};
}

Status alias_rollback(const Context& context, const AliasArguments& arguments) {
  BALLAST_TRY(const Reference reference, parse_alias_reference(arguments.reference));
  BALLAST_TRY(client::Client client, context.connect());
  BALLAST_TRY(const uint64_t version, client.rollback_alias(reference.name, reference.alias));
  if (context.json)
    print_json({{"model", reference.name}, {"alias", reference.alias}, {"version", version}});
  else
    fmt::print("{} is version {} again\n", arguments.reference, version);
  return {};
}

void add_alias_commands(CLI::App& app, Context& context) {
  CLI::App* alias = app.add_subcommand("alias", "movable names of versions");
  alias->require_subcommand(1);
  const auto set = add_command(*alias, context, "set", "point MODEL@NAME to a version", alias_set);
  set.app->add_option("MODEL@NAME", set.arguments->reference)->required();
  set.app->add_option("VERSION", set.arguments->version)->required()->check(CLI::PositiveNumber);
  set.app
      ->add_option("--expect", set.arguments->expect,
                   "refuse unless it names this version now; 0: unless it is new")
      ->type_name("VERSION");
  const auto ls = add_command(*alias, context, "ls", "the aliases of a model", alias_list);
  ls.app->add_option("MODEL", ls.arguments->reference)->required();
  const auto rollback = add_command(*alias, context, "rollback",
                                    "point MODEL@NAME to the version before", alias_rollback);
  rollback.app->add_option("MODEL@NAME", rollback.arguments->reference)->required();
}

}  // namespace

void add_data_commands(CLI::App& app, Context& context) {
  const auto put_command = add_command(app, context, "put", "store an array under a key", put);
  put_command.app->add_option("KEY", put_command.arguments->key)->required();
  put_command.app->add_option("FILE.npy", put_command.arguments->file)->required();
  put_command.app
      ->add_option("--codec", put_command.arguments->codec,
                   "exact (default), lossless, f32, f16, bf16, int8, int4, ec4, ec4t or sparse4 "
                   "(default with --prune 2:4 or magnitude), such as int4:group=16 or ec4:bits=3.5")
      ->type_name("CODEC");
  add_prune_option(*put_command.app, put_command.arguments->prune);
  put_command.app
      ->add_option("--base", put_command.arguments->base,
                   "with --codec lossless: store the difference to this array where it is smaller")
      ->type_name("KEY");
  put_command.app
      ->add_option("--expect", put_command.arguments->expect,
                   "refuse unless the key has this revision now; 0: unless it is new")
      ->type_name("REVISION");
  add_ack_option(*put_command.app, put_command.arguments->ack);

  add_get_command(app, context);

  const auto list_command = add_command(app, context, "ls", "keys and models", list);
  list_command.app->add_option("PREFIX", list_command.arguments->prefix);
  add_read_option(*list_command.app, list_command.arguments->read);

  const auto remove_command = add_command(app, context, "rm", "remove a key or a version", remove);
  remove_command.app->add_option("KEY", remove_command.arguments->reference, "or MODEL@3")
      ->required();
  add_ack_option(*remove_command.app, remove_command.arguments->ack);

  const auto show_command =
      add_command(app, context, "show", "what a key, model, version or tensor is", show);
  show_command.app
      ->add_option("REF", show_command.arguments->reference,
                   "KEY, MODEL, MODEL@3, MODEL@prod or MODEL@prod/TENSOR")
      ->required();
  show_command.app->add_option("--section", show_command.arguments->section,
                               "of the tensor, if several have it");
  add_read_option(*show_command.app, show_command.arguments->read);

  add_alias_commands(app, context);
}

}  // namespace ballast::kvctl
