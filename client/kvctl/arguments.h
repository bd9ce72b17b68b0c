// What several commands take: references, levels, codecs and dtypes.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "client/client.h"
#include "client/kvctl/command.h"

namespace ballast::kvctl {

// A subcommand whose options are kept in an Arguments, which `run` is given when it is due.
template <class Arguments>
struct Command {
  CLI::App* app;
  std::shared_ptr<Arguments> arguments;
};
template <class Arguments>
Command<Arguments> add_command(CLI::App& parent, Context& context, const std::string& name,
                               const std::string& description,
                               Status (*run)(const Context&, const Arguments&)) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* app = parent.add_subcommand(name, description);
  app->callback([&context, arguments, run] {
    context.run = [&context, arguments, run] { return run(context, *arguments); };
  });
  return {app, std::move(arguments)};
}

void add_ack_option(CLI::App& command, std::string& ack);
void add_read_option(CLI::App& command, std::string& read);
void add_as_option(CLI::App& command, std::string& as);

// "f32", "f16", "bf16"; empty: as it was written.
Result<std::optional<client::DType>> parse_as(const std::string& text);

CLI::Option* add_prune_option(CLI::App& command, std::string& prune);
// Empty: nothing is pruned.
Result<std::optional<client::PruneSpec>> parse_prune_option(const std::string& text);

// --base goes with codec lossless alone. Errors: kInvalidArgument.
Status check_base_option(const std::string& base, const std::string& codec);

// MODEL@NAME: what an alias command takes.
Result<Reference> parse_alias_reference(const std::string& text);

// The tensor that `reference` names in one section or, if that is empty, in the only one that has
// it. REQUIRES: reference.tensor is not empty.
Result<client::StoredTensor> find_tensor(client::Client& client, const Reference& reference,
                                         const std::string& section, client::ReadLevel read);

// The tensor of a key, or one of a version; of `section` if that is not empty.
// Errors: kInvalidArgument if `reference` names a whole version.
Result<client::StoredTensor> locate_tensor(client::Client& client, const Reference& reference,
                                           const std::string& section, client::ReadLevel read);

}  // namespace ballast::kvctl
