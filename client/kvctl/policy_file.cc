#include "client/kvctl/policy_file.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <utility>

#include "client/formats/file.h"
#include "client/kvctl/arguments.h"
#include "client/kvctl/import_policy.h"
#include "proto/base/limits.h"

namespace ballast::kvctl {
namespace {

using client::EncodingPolicy;
using client::TensorSource;

// A model that is given for a policy by mistake is not read as a whole.
constexpr uint64_t kFileBytesMax = limits::kMiB;

struct Glob {
  std::string text;
  uint64_t line = 0;
};
uint64_t line_of(const toml::node& node) { return node.source().begin.line; }

Status check_keys(const toml::table& table, std::span<const std::string_view> known,
                  std::string_view where) {
  for (const auto& [key, node] : table) {
    if (std::ranges::find(known, key.str()) == known.end())
      return fail(Errc::kInvalidArgument, "line {}: unknown key '{}' {}; known are: {}",
                  line_of(node), key.str(), where, fmt::join(known, ", "));
  }
  return {};
}

// Empty if the key is not there.
Result<std::string> read_text(const toml::table& table, std::string_view key) {
  const toml::node* node = table.get(key);
  if (node == nullptr) return std::string();
  if (const auto text = node->value_exact<std::string>(); text && !text->empty()) return *text;
  return fail(Errc::kInvalidArgument, "line {}: '{}' must be a text in quotes", line_of(*node),
              key);
}

// What 'codec' and 'prune' of a table say.
struct Choice {
  EncodingPolicy policy;
  bool lossless = false;
};
using MakePolicy = Result<EncodingPolicy>(const std::string& codec,
                                          std::optional<client::PruneSpec> prune);
Result<Choice> read_choice(const toml::table& table, const std::string& default_codec,
                           MakePolicy* make) {
  BALLAST_TRY(const std::string prune_text, read_text(table, "prune"));
  auto prune = parse_prune_option(prune_text);
  if (!prune) return fail_within(std::move(prune).error(), "line {}", line_of(*table.get("prune")));
  BALLAST_TRY(const std::string codec_text, read_text(table, "codec"));
  const std::string codec = codec_or_default(codec_text, *prune, default_codec);
  auto policy = make(codec, *prune);
  if (!policy)
    return fail_within(std::move(policy).error(), "line {}", line_of(*table.get("codec")));
  return Choice{.policy = *std::move(policy), .lossless = codec == "lossless"};
}

Result<std::vector<Glob>> read_globs(const toml::table& table) {
  const toml::node* node = table.get("tensors");
  if (node == nullptr)
    return fail(Errc::kInvalidArgument, "line {}: a [[rule]] lacks 'tensors'", line_of(table));
  std::vector<Glob> globs;
  const auto add = [&](const toml::node& one) {
    const auto text = one.value_exact<std::string>();
    if (text) globs.push_back({*text, line_of(one)});
    return text.has_value();
  };
  const toml::array* list = node->as_array();
  const bool good =
      list == nullptr ? add(*node) : !list->empty() && std::ranges::all_of(*list, add);
  if (!good)
    return fail(
        Errc::kInvalidArgument,
        "line {}: 'tensors' must be a text in quotes, such as \"*.bias\", or a list of them",
        line_of(*node));
  return globs;
}

struct Rule {
  std::vector<Glob> globs;
  Choice choice;

  bool matches(std::string_view name) const {
    return std::ranges::any_of(globs,
                               [&](const Glob& glob) { return glob_matches(glob.text, name); });
  }
};

Result<Rule> read_rule(const toml::table& table, const std::string& default_codec) {
  static constexpr std::array<std::string_view, 3> kKeys = {"tensors", "codec", "prune"};
  BALLAST_TRY_STATUS(check_keys(table, kKeys, "in a [[rule]]"));
  if (!table.contains("codec") && !table.contains("prune"))
    return fail(Errc::kInvalidArgument, "line {}: a [[rule]] needs 'codec', 'prune' or both",
                line_of(table));
  Rule rule;
  BALLAST_TRY(rule.globs, read_globs(table));
  BALLAST_TRY(rule.choice, read_choice(table, default_codec, rule_policy));
  return rule;
}

Result<std::vector<Rule>> read_rules(const toml::table& file, const std::string& default_codec) {
  std::vector<Rule> rules;
  const toml::node* node = file.get("rule");
  if (node == nullptr) return rules;
  if (!node->is_array_of_tables())
    return fail(Errc::kInvalidArgument, "line {}: a rule begins with [[rule]]", line_of(*node));
  for (const toml::node& one : *node->as_array()) {
    BALLAST_TRY(Rule rule, read_rule(*one.as_table(), default_codec));
    rules.push_back(std::move(rule));
  }
  return rules;
}

// How many bytes the character at `at` has.
size_t character(std::string_view text, size_t at) {
  size_t end = at + 1;
  while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) ++end;
  return end - at;
}

}  // namespace

// From left to right; where it fails, the last '*' takes one byte more.
bool glob_matches(std::string_view glob, std::string_view name) {
  size_t g = 0, n = 0;
  size_t star = std::string_view::npos, star_end = 0;
  while (n < name.size()) {
    if (g < glob.size() && glob[g] == '*') {
      star = g++;
      star_end = n;
    } else if (g < glob.size() && glob[g] == '?') {
      ++g;
      n += character(name, n);
    } else if (g < glob.size() && glob[g] == name[n]) {
      ++g;
      ++n;
    } else if (star != std::string_view::npos) {
      g = star + 1;
      n = ++star_end;
    } else {
      return false;
    }
  }
  return glob.find_first_not_of('*', g) == std::string_view::npos;
}

struct PolicyFile::Rules {
  std::vector<Rule> list;
  Choice rest;
};

Result<PolicyFile> PolicyFile::parse(std::string_view text, const std::string& default_codec) {
  static constexpr std::array<std::string_view, 3> kKeys = {"codec", "prune", "rule"};
  toml::table file;
  try {
    file = toml::parse(text);
  } catch (const toml::parse_error& error) {
    return fail(Errc::kInvalidArgument, "line {}: {}", uint64_t{error.source().begin.line},
                error.description());
  }
  BALLAST_TRY_STATUS(check_keys(file, kKeys, "outside of a [[rule]]"));
  auto rules = std::make_shared<Rules>();
  BALLAST_TRY(rules->rest, read_choice(file, default_codec, import_policy));
  BALLAST_TRY(rules->list, read_rules(file, default_codec));
  return PolicyFile(std::move(rules));
}

Result<PolicyFile> PolicyFile::load(const std::string& path, const std::string& default_codec) {
  BALLAST_TRY(const formats::InputFile file, formats::InputFile::open(path));
  if (file.bytes() > kFileBytesMax)
    return fail(Errc::kInvalidArgument, "'{}' has {} bytes, and a policy at most {}", path,
                file.bytes(), kFileBytesMax);
  std::string text(file.bytes(), '\0');
  BALLAST_TRY_STATUS(file.read(0, std::as_writable_bytes(std::span(text))));
  auto policy = parse(text, default_codec);
  if (!policy) return fail_within(std::move(policy).error(), "{}", path);
  return policy;
}

EncodingPolicy PolicyFile::policy() const {
  return [rules = rules_](const TensorSource& tensor) {
    for (const Rule& rule : rules->list)
      if (rule.matches(tensor.name)) return rule.choice.policy(tensor);
    return rules->rest.policy(tensor);
  };
}

bool PolicyFile::has_lossless() const {
  return rules_->rest.lossless ||
         std::ranges::any_of(rules_->list, [](const Rule& rule) { return rule.choice.lossless; });
}

std::vector<GlobUse> PolicyFile::uses(std::span<const TensorSource> tensors) const {
  std::vector<GlobUse> uses;
  for (const Rule& rule : rules_->list)
    for (const Glob& glob : rule.globs) uses.push_back({.glob = glob.text, .line = glob.line});
  for (const TensorSource& tensor : tensors) {
    if (!quant::dtype_is_codable(tensor.dtype)) continue;
    bool decided = false;
    for (GlobUse& use : uses) {
      if (!glob_matches(use.glob, tensor.name)) continue;
      ++use.matched;
      if (!std::exchange(decided, true)) ++use.decided;
    }
  }
  return uses;
}

}  // namespace ballast::kvctl
