// backup create, list, verify, remove, restore.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "client/backup.h"
#include "client/kvctl/arguments.h"
#include "client/kvctl/local_cluster.h"
#include "proto/backup/directory.h"
#include "proto/backup/verify.h"

namespace ballast::kvctl {
namespace {

using backup::BackupDirectory;
using backup::Manifest;
using nlohmann::ordered_json;

// Of every command; not each uses all of them.
struct BackupArguments {
  std::string directory;
  std::string name;
  std::string config;    // of restore
  std::string ballastd;  // likewise
};

// ---- create ----

ordered_json manifest_json(const Manifest& manifest) {
  return {{"name", manifest.name},
          {"cluster_uuid", manifest.cluster.to_string()},
          {"created", manifest.created},
          {"term", manifest.rows.term.value()},
          {"index", manifest.rows.index.value()},
          {"rows", manifest.rows.rows},
          {"rows_bytes", manifest.rows.bytes},
          {"blocks", manifest.rows.blocks},
          {"bytes", manifest.rows.block_bytes}};
}

ordered_json report_json(const client::BackupReport& report) {
  ordered_json json = manifest_json(report.manifest);
  json.update({{"new_blocks", report.new_blocks},
               {"new_bytes", report.new_bytes},
               {"shared_blocks", report.shared_blocks},
               {"shared_bytes", report.shared_bytes},
               {"attempts", report.attempts}});
  return json;
}

Status create(const Context& context, const BackupArguments& arguments) {
  BALLAST_TRY(const client::Options options, context.client_options());
  BALLAST_TRY(const client::BackupReport report,
              client::create_backup(options, {.directory = arguments.directory,
                                              .name = arguments.name,
                                              .progress = progress_bar("backup")}));
  if (context.json) {
    print_json(report_json(report));
    return {};
  }
  const Manifest& manifest = report.manifest;
  fmt::print("{}: term {}, index {}; {} rows\n", manifest.name, manifest.rows.term,
             manifest.rows.index, manifest.rows.rows);
  fmt::print("{} new blocks, {}; {} shared with earlier ones, {}\n", report.new_blocks,
             human_bytes(report.new_bytes), report.shared_blocks, human_bytes(report.shared_bytes));
  if (report.attempts > 1)
    fmt::print("it began {} times: what it read from went away, or was deleted meanwhile\n",
               report.attempts);
  return {};
}

// ---- list ----

ordered_json listed_json(const BackupDirectory::Listed& listed) {
  if (listed.manifest) return manifest_json(*listed.manifest);
  return {{"name", listed.name}, {"error", listed.manifest.error().to_string()}};
}

std::vector<std::string> listed_row(const BackupDirectory::Listed& listed) {
  if (!listed.manifest) return {listed.name, "damaged", "-", "-", "-", "-", "-"};
  const Manifest& manifest = *listed.manifest;
  return {manifest.name,
          manifest.created,
          manifest.cluster.to_string(),
          std::to_string(manifest.rows.index.value()),
          std::to_string(manifest.rows.rows),
          std::to_string(manifest.rows.blocks),
          human_bytes(manifest.rows.block_bytes)};
}

Status list(const Context& context, const BackupArguments& arguments) {
  BALLAST_TRY(const auto all, BackupDirectory(arguments.directory).list());
  if (context.json) {
    ordered_json json = {{"backups", ordered_json::array()}};
    for (const auto& listed : all) json["backups"].push_back(listed_json(listed));
    print_json(json);
    return {};
  }
  Table table{.header = {"NAME", "CREATED", "CLUSTER", "INDEX", "ROWS", "BLOCKS", "BYTES"},
              .rows = {}};
  for (const auto& listed : all) table.rows.push_back(listed_row(listed));
  table.print();
  return {};
}

// ---- verify ----

ordered_json verified_json(const backup::Verified& verified) {
  ordered_json json = {{"name", verified.name},   {"whole", verified.damage.empty()},
                       {"pages", verified.pages}, {"blocks", verified.blocks},
                       {"bytes", verified.bytes}, {"damaged", ordered_json::array()}};
  for (const backup::Damage& damage : verified.damage) {
    ordered_json entry = {{"what", damage.what}, {"why", damage.why}};
    if (damage.what == "block") entry["block"] = damage.block.hex();
    json["damaged"].push_back(std::move(entry));
  }
  return json;
}

void print_verified(const std::vector<backup::Verified>& all) {
  Table table{.header = {"NAME", "PAGES", "BLOCKS", "BYTES", "DAMAGED"}, .rows = {}};
  for (const backup::Verified& verified : all)
    table.rows.push_back({verified.name, std::to_string(verified.pages),
                          std::to_string(verified.blocks), human_bytes(verified.bytes),
                          std::to_string(verified.damage.size())});
  table.print();
  for (const backup::Verified& verified : all)
    for (const backup::Damage& damage : verified.damage)
      fmt::print("damaged in {}: {}{}: {}\n", verified.name, damage.what,
                 damage.what == "block" ? " " + damage.block.hex() : "", damage.why);
}

Status verify(const Context& context, const BackupArguments& arguments) {
  const BackupDirectory directory(arguments.directory);
  BALLAST_TRY(auto all, directory.list());
  if (!arguments.name.empty())
    std::erase_if(all, [&](const auto& listed) { return listed.name != arguments.name; });
  if (all.empty())
    return fail(Errc::kNotFound, "'{}' holds no {}", arguments.directory,
                arguments.name.empty() ? "whole backup" : "backup '" + arguments.name + "'");
  std::unordered_set<Digest> whole;
  std::vector<backup::Verified> verified;
  for (const BackupDirectory::Listed& listed : all) {
    BALLAST_TRY(verified.emplace_back(), backup::verify(directory, listed, whole));
  }
  if (context.json) {
    ordered_json json = {{"backups", ordered_json::array()}};
    for (const backup::Verified& one : verified) json["backups"].push_back(verified_json(one));
    print_json(json);
  } else {
    print_verified(verified);
  }
  const auto damaged = std::ranges::count_if(
      verified, [](const backup::Verified& one) { return !one.damage.empty(); });
  if (damaged == 0) return {};
  return fail(Errc::kCorrupt,
              "{} of {} backups are damaged: `kvctl backup create {}` writes blocks anew that the "
              "cluster still has",
              damaged, verified.size(), arguments.directory);
}

// ---- remove ----

Status remove(const Context& context, const BackupArguments& arguments) {
  BALLAST_TRY(const backup::Removed removed,
              backup::remove_backup(arguments.directory, arguments.name));
  if (context.json)
    print_json({{"name", arguments.name}, {"blocks", removed.blocks}, {"bytes", removed.bytes}});
  else
    fmt::print("removed {} and {} blocks that no other backup names, {}\n", arguments.name,
               removed.blocks, human_bytes(removed.bytes));
  return {};
}

// ---- restore ----

// What ballastd says and returns is the answer, so it takes this process's place.
Status restore(const Context&, const BackupArguments& arguments) {
  BALLAST_TRY(const auto ballastd, find_ballastd(arguments.ballastd));
  std::vector<std::string> words = {ballastd.string(), "--config",      arguments.config,
                                    "--bootstrap",     "--from-backup", arguments.directory};
  if (!arguments.name.empty()) {
    words.emplace_back("--backup");
    words.push_back(arguments.name);
  }
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  std::fflush(nullptr);
  ::execv(ballastd.c_str(), pointers.data());
  return os_failure("start", ballastd.string());
}

Command<BackupArguments> add_one(CLI::App& parent, Context& context, const std::string& name,
                                 const std::string& description,
                                 Status (*run)(const Context&, const BackupArguments&)) {
  auto command = add_command(parent, context, name, description, run);
  command.app->add_option("DIR", command.arguments->directory, "The directory of the backups")
      ->required();
  return command;
}

}  // namespace

void add_backup_commands(CLI::App& app, Context& context) {
  CLI::App* const group = app.add_subcommand("backup", "backups of the whole cluster");
  group->require_subcommand(1);
  const auto made =
      add_one(*group, context, "create",
              "write a backup while the cluster runs; what earlier ones wrote is shared", create);
  made.app->add_option("--name", made.arguments->name, "default: the time, like 20261127T015500Z");

  add_one(*group, context, "list", "the backups of a directory, the oldest first", list);

  const auto verified = add_one(*group, context, "verify",
                                "read everything and compare all checksums and digests", verify);
  verified.app->add_option("--name", verified.arguments->name, "default: all");

  const auto removed = add_one(*group, context, "remove",
                               "remove a backup, and the blocks that no other one names", remove);
  removed.app->add_option("NAME", removed.arguments->name, "The backup")->required();

  const auto restored =
      add_one(*group, context, "restore",
              "format the data directory of one founder of a new cluster with a backup", restore);
  restored.app->add_option("--config", restored.arguments->config, "The node's ballastd.toml")
      ->required();
  restored.app->add_option("--backup", restored.arguments->name, "default: the newest");
  restored.app->add_option("--ballastd", restored.arguments->ballastd,
                           "The server (default: $BALLASTD, else beside kvctl)");
}

}  // namespace ballast::kvctl
