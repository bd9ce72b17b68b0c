// The file of 'kvctl import --policy FILE': which tensors get which codec and pruning.
//
//   codec = "int4"                           # for what no rule names
//
//   [[rule]]
//   tensors = ["*.norm.weight", "*.bias"]    # or one text
//   codec = "exact"
//
//   [[rule]]
//   tensors = "model.layers.*.mlp.*"
//   codec = "ec4:bits=3.9"
//   prune = "2:4"
//
// The first rule with a glob that matches decides. A glob is matched with the whole name: '*'
// stands for any characters, dots among them, and '?' for one. A tensor gets the rule's codec
// whatever its rank, and is pruned only if the rule says so; a rule with a pruning alone has the
// default codec, or sparse4 where the pruning leaves zeros. Rules are for floats; other tensors
// stay as they are.
//
// What no rule matches gets what 'codec' and 'prune' at the file's top say, which mean what --codec
// and --prune do and, like them, may be absent. Codecs and prunings are written as there, "exact"
// too, and a vector that would overflow in f16 is kept exactly as there.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "client/client.h"

namespace ballast::kvctl {

bool glob_matches(std::string_view glob, std::string_view name);

// What a glob did: counts of float tensors.
struct GlobUse {
  std::string glob;
  uint64_t line = 0;
  uint64_t matched = 0;
  uint64_t decided = 0;  // that no glob before it matched
};

class PolicyFile {
 public:
  // `default_codec`: of what names none, see default_codec() in import_policy.h. Errors: kIo;
  // kInvalidArgument says the line, what is wrong there and what is known.
  static Result<PolicyFile> load(const std::string& path, const std::string& default_codec);
  // The same for a file's text.
  static Result<PolicyFile> parse(std::string_view text, const std::string& default_codec);

  client::EncodingPolicy policy() const;  // may outlive the file
  bool has_lossless() const;              // somewhere: what --base is for
  // What the globs do with these tensors, in the order of the file.
  std::vector<GlobUse> uses(std::span<const client::TensorSource> tensors) const;

 private:
  struct Rules;
  explicit PolicyFile(std::shared_ptr<const Rules> rules) : rules_(std::move(rules)) {}

  std::shared_ptr<const Rules> rules_;
};

}  // namespace ballast::kvctl
