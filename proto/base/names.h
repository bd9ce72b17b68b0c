// Names of keys, models, versions and aliases, and references to them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "proto/base/result.h"

namespace ballast {

// Keys and models: UTF-8, 1 to limits::kKeyBytesMax bytes, no '@', no control characters.
Status check_key(std::string_view key);
Status check_model(std::string_view model);
// Aliases: 1 to 128 bytes of letters, digits, '.', '_', '-'; not digits alone, since that is a
// version.
Status check_alias(std::string_view alias);
// Nodes: 1 to 64 bytes of letters, digits, '.', '_', '-'.
Status check_node_name(std::string_view name);
// Tensors and sections: UTF-8, no control characters, 1 to limits::kKeyBytesMax bytes.
Status check_tensor_name(std::string_view name);

// KEY, MODEL, MODEL@3, MODEL@prod, MODEL@prod/TENSOR. Without '@' a name may be a key or a model.
struct Reference {
  std::string name;
  bool has_selector = false;  // an '@' was given
  uint64_t version = 0;       // MODEL@3
  std::string alias;          // MODEL@prod
  std::string tensor;         // after the '/'

  std::string to_string() const;
};
Result<Reference> parse_reference(std::string_view text);

}  // namespace ballast
