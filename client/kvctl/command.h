// How kvctl's commands fit together: each file adds its subcommands to the CLI11 application, and a
// subcommand's callback leaves what is to be run in Context::run. main() runs it after parsing and
// turns an error into one line on stderr and an exit code.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "client/client.h"
#include "proto/base/result.h"

namespace ballast::kvctl {

inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitUnknownOutcome = 3;
inline constexpr int kExitRefused = 4;

struct Context {
  std::vector<std::string> endpoints;  // --endpoints, else BALLAST_ENDPOINTS
  bool json = false;                   // -o json
  client::milliseconds deadline{30'000};
  std::function<Status()> run;

  // For the endpoints. Errors: kInvalidArgument if none are given.
  Result<client::Options> client_options() const;
  Result<client::Client> connect() const;
};

int exit_code(Errc code);

void add_data_commands(CLI::App& app, Context& context);     // put get ls rm show alias
void add_get_command(CLI::App& app, Context& context);       // the get of these
void add_model_commands(CLI::App& app, Context& context);    // import export
void add_cluster_commands(CLI::App& app, Context& context);  // status leader verify
void add_gc_command(CLI::App& app, Context& context);        // gc
void add_member_commands(CLI::App& app, Context& context);   // member drain undrain
void add_backup_commands(CLI::App& app,
                         Context& context);  // backup create|list|verify|remove|restore
void add_local_commands(CLI::App& app, Context& context);  // local up|add|down|status
void add_drill_commands(CLI::App& app, Context& context);  // drill run

// ---- output.cc ----
// A table on stdout: columns as wide as their widest cell, numbers to the right.
struct Table {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
  void print() const;
};
void print_json(const nlohmann::ordered_json& value);
std::string human_bytes(uint64_t bytes);  // "1.2 MiB"
// On stderr and only if that is a terminal: a bar with rate and time to go. Empty total: nothing.
client::Progress progress_bar(std::string what);

}  // namespace ballast::kvctl
