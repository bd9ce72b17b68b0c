// The frame around kvctl's commands: global options, parsing, errors and exit codes. main() adds
// the commands, tests add those that they try.
#pragma once

#include <string>

#include "client/kvctl/command.h"

namespace ballast::kvctl {

// --endpoints, -o, --deadline and --version, before or after the command's name. Call it before
// the commands are added: they inherit from it.
void add_global_options(CLI::App& app, Context& context);

// Parses, runs what the command left in context.run, and returns the exit code. Never throws.
int run_application(CLI::App& app, Context& context, int argc, const char* const* argv);

// "kvctl: not found: key 'a' does not exist: 'kvctl ls' lists what there is", always one line.
std::string error_line(const Error& error);

}  // namespace ballast::kvctl
