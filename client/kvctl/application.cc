#include "client/kvctl/application.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <system_error>

#include "proto/base/limits.h"

namespace ballast::kvctl {
namespace {

// What to do where the message can't know it, because the client library does not know kvctl.
std::string_view advice(Errc code) {
  switch (code) {
    case Errc::kNotFound: return "'kvctl ls' lists what there is";
    case Errc::kConflict: return "nothing was changed; look at what is there now, then try again";
    case Errc::kDeadline: return "nothing was changed; try again or give a longer --deadline";
    case Errc::kUnknownOutcome: return "it may have happened; look before you try again";
    case Errc::kTooStale: return "see 'kvctl status', or read with --read any";
    case Errc::kNotLeader:
    case Errc::kOverloaded: return "try again";
    case Errc::kUnavailable: return "check --endpoints and that the nodes run";
    case Errc::kAckNotReached:
      return "the write is durable at the level reached; see 'kvctl status'";
    // These messages say it themselves.
    case Errc::kInvalidArgument:
    case Errc::kCorrupt:
    case Errc::kIo:
    case Errc::kRefused:
    case Errc::kNoSpace:
    case Errc::kMissingBlocks: return {};
    case Errc::kInternal: return "this is a bug; please report it";
  }
  return {};
}

std::string one_line(std::string text) {
  std::ranges::replace_if(
      text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }, ' ');
  return text;
}

std::vector<std::string> split_endpoints(const std::string& text) {
  std::vector<std::string> endpoints;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    if (end > begin) endpoints.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return endpoints;
}

// One line for what CLI11 could not parse, with the innermost command that it did recognize.
std::string usage_line(const CLI::App& app, const CLI::ParseError& error) {
  std::string name = "kvctl";
  const CLI::App* at = &app;
  while (!at->get_subcommands().empty()) {
    at = at->get_subcommands().front();
    name += " " + at->get_name();
  }
  // CLI11 says that a subcommand is missing, but not which word it did not know.
  const std::vector<std::string> unknown = app.remaining(true);
  const bool is_leaf = at->get_subcommands({}).empty();
  const std::string what = !is_leaf && !unknown.empty()
                               ? fmt::format("there is no command '{}'", unknown.front())
                               : error.what();
  return one_line(fmt::format("kvctl: bad usage: {}: '{} --help' shows the usage", what, name));
}

Status run_and_flush(Context& context) {
  if (!context.run) return fail(Errc::kInternal, "the command left nothing to run");
  BALLAST_TRY_STATUS(context.run());
  // A full disk behind a redirected stdout must not look like success.
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
    return fail(Errc::kIo, "cannot write the output; check where stdout leads");
  return {};
}

int report(const Error& error) {
  std::fflush(stdout);  // what was printed before stands before
  std::fputs((error_line(error) + "\n").c_str(), stderr);
  return exit_code(error.code);
}

}  // namespace

int exit_code(Errc code) {
  switch (code) {
    case Errc::kInvalidArgument: return kExitUsage;
    case Errc::kUnknownOutcome: return kExitUnknownOutcome;
    case Errc::kRefused:
    case Errc::kNoSpace:
    case Errc::kConflict: return kExitRefused;
    default: return kExitFailed;
  }
}

Result<client::Options> Context::client_options() const {
  if (endpoints.empty())
    return fail(Errc::kInvalidArgument,
                "no endpoints; give --endpoints HOST:PORT,... or set BALLAST_ENDPOINTS");
  return client::Options{.endpoints = endpoints, .deadline = deadline};
}

Result<client::Client> Context::connect() const {
  BALLAST_TRY(client::Options options, client_options());
  return client::Client::connect(std::move(options));
}

std::string error_line(const Error& error) {
  std::string code(errc_name(error.code));
  std::ranges::replace(code, '_', ' ');
  std::string line = fmt::format("kvctl: {}: {}", code, error.message);
  // A message that names a command says it itself.
  const bool says_it = error.message.find("`kvctl ") != std::string::npos;
  if (const auto what_to_do = advice(error.code); !says_it && !what_to_do.empty())
    line += fmt::format(": {}", what_to_do);
  return one_line(std::move(line));
}

void add_global_options(CLI::App& app, Context& context) {
  app.description("Works with a Ballast cluster: a replicated key-value store for model weights.");
  app.name("kvctl");
  // Exactly one: else a key named like a command ("kvctl put status x.npy") would be taken for it.
  app.require_subcommand(1);
  // Options that a command does not have itself are the global ones: "kvctl ls -o json".
  app.fallthrough();
  app.set_version_flag("--version", "kvctl " BALLAST_VERSION);
  app.add_option_function<std::string>(
         "--endpoints",
         [&context](const std::string& text) { context.endpoints = split_endpoints(text); },
         "nodes to ask, HOST:PORT,...; any one is enough")
      ->envname("BALLAST_ENDPOINTS")
      ->type_name("HOST:PORT,...");
  app.add_option_function<std::string>(
         "-o,--output", [&context](const std::string& text) { context.json = text == "json"; },
         "table (default) or json")
      ->check(CLI::IsMember({"table", "json"}))
      ->type_name("FORMAT");
  const double seconds_max = std::chrono::duration<double>(limits::kRequestDeadlineMax).count();
  app.add_option_function<double>(
         "--deadline",
         [&context](double seconds) {
           context.deadline = client::milliseconds(std::llround(std::ceil(seconds * 1000)));
         },
         "seconds that a call may take with all its retries; default 30")
      ->check(CLI::Range(0.001, seconds_max))
      ->type_name("SECONDS");
}

int run_application(CLI::App& app, Context& context, int argc, const char* const* argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    std::fputs((usage_line(app, error) + "\n").c_str(), stderr);
    return kExitUsage;
  }
  try {
    const Status status = run_and_flush(context);
    return status ? kExitDone : report(status.error());
  } catch (const std::system_error& error) {
    // fmt::print() throws if stdout can't be written.
    return report({Errc::kIo, fmt::format("cannot write the output: {}", error.what())});
  } catch (const std::exception& error) {
    // Memory that ran out, or a bug in a library below: one line all the same.
    return report({Errc::kInternal, error.what()});
  }
}

}  // namespace ballast::kvctl
