#include "client/kvctl/arguments.h"

#include <fmt/format.h>

namespace ballast::kvctl {

using client::DType;
using client::StoredTensor;

void add_ack_option(CLI::App& command, std::string& ack) {
  command
      .add_option("--ack", ack,
                  "when the write counts: async (taken), sync (durable on a majority; default), "
                  "sync_all (durable everywhere)")
      ->type_name("LEVEL");
}

void add_read_option(CLI::App& command, std::string& read) {
  command
      .add_option("--read", read,
                  "linearizable (sees every acknowledged write; default), bounded=DURATION (may "
                  "lack the last DURATION, such as 500ms) or any (what the nearest replica has)")
      ->type_name("LEVEL");
}

void add_as_option(CLI::App& command, std::string& as) {
  command.add_option("--as", as, "f32, f16 or bf16; default: as it was written")
      ->type_name("DTYPE");
}

Result<std::optional<DType>> parse_as(const std::string& text) {
  if (text.empty()) return std::optional<DType>();
  const auto dtype = quant::parse_dtype(text);
  if (!dtype || !quant::dtype_is_codable(*dtype))
    return fail(Errc::kInvalidArgument, "--as {}: give f32, f16 or bf16", text);
  return std::optional<DType>(*dtype);
}

CLI::Option* add_prune_option(CLI::App& command, std::string& prune) {
  return command
      .add_option("--prune", prune,
                  "take out what matters least first: 2:4 or magnitude:0.5 (values become 0), "
                  "rows:0.25, columns:0.25 or channels:0.25 (whole slices go)")
      ->type_name("PRUNING");
}

Result<std::optional<client::PruneSpec>> parse_prune_option(const std::string& text) {
  if (text.empty()) return std::optional<client::PruneSpec>();
  BALLAST_TRY(const client::PruneSpec spec, quant::parse_prune(text));
  return std::optional<client::PruneSpec>(spec);
}

Status check_base_option(const std::string& base, const std::string& codec) {
  if (base.empty() || codec == "lossless") return {};
  return fail(Errc::kInvalidArgument,
              "--base {} with codec {}: only lossless stores differences; add --codec lossless",
              base, codec);
}

Result<Reference> parse_alias_reference(const std::string& text) {
  BALLAST_TRY(Reference reference, parse_reference(text));
  if (reference.alias.empty() || !reference.tensor.empty())
    return fail(Errc::kInvalidArgument, "'{}' does not name an alias; write MODEL@NAME", text);
  return reference;
}

Result<StoredTensor> find_tensor(client::Client& client, const Reference& reference,
                                 const std::string& section, client::ReadLevel read) {
  Reference whole = reference;
  whole.tensor.clear();
  BALLAST_TRY(client::VersionInfo version, client.version(whole, read));
  StoredTensor* found = nullptr;
  for (StoredTensor& tensor : version.tensors) {
    if (tensor.name != reference.tensor) continue;
    if (!section.empty() && tensor.section != section) continue;
    if (found != nullptr)
      return fail(Errc::kInvalidArgument, "'{}' is in the sections '{}' and '{}'; choose --section",
                  reference.to_string(), found->section, tensor.section);
    found = &tensor;
  }
  if (found == nullptr)
    return fail(Errc::kNotFound, "{} (version {}) has no tensor '{}'{}", whole.to_string(),
                version.version, reference.tensor,
                section.empty() ? "" : fmt::format(" in section '{}'", section));
  return std::move(*found);
}

Result<StoredTensor> locate_tensor(client::Client& client, const Reference& reference,
                                   const std::string& section, client::ReadLevel read) {
  if (!reference.has_selector) {
    BALLAST_TRY(client::StoredKey key, client.stat(reference.name, {.read = read}));
    return std::move(key.tensor);
  }
  if (reference.tensor.empty())
    return fail(Errc::kInvalidArgument,
                "'{}' is a whole version; name a tensor ({}/TENSOR) or use 'kvctl export'",
                reference.to_string(), reference.to_string());
  return find_tensor(client, reference, section, read);
}

}  // namespace ballast::kvctl
