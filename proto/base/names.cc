#include "proto/base/names.h"

#include <algorithm>
#include <charconv>

#include "proto/base/limits.h"

namespace ballast {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '.' || c == '_' ||
         c == '-';
}

// The bytes of the sequence that starts at `at`, or 0 if it is not well-formed (RFC 3629).
size_t utf8_sequence(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || at + length > text.size()) return 0;
  uint32_t code = lead & (0xFFu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return 0;
    code = code << 6 | (byte(at + i) & 0x3Fu);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool surrogate = code >= 0xD800 && code < 0xE000;
  return overlong || surrogate || code > 0x10FFFF ? 0 : length;
}

Status check_name(std::string_view what, std::string_view name) {
  if (name.empty()) return fail(Errc::kInvalidArgument, "the {} is empty", what);
  if (name.size() > limits::kKeyBytesMax)
    return fail(Errc::kInvalidArgument, "the {} has {} bytes; the limit is {}", what, name.size(),
                limits::kKeyBytesMax);
  for (size_t at = 0; at < name.size();) {
    const size_t length = utf8_sequence(name, at);
    if (length == 0)
      return fail(Errc::kInvalidArgument, "the {} is not UTF-8 at byte {}", what, at);
    const auto byte = static_cast<unsigned char>(name[at]);
    if (byte < 0x20 || byte == 0x7F)
      return fail(Errc::kInvalidArgument, "the {} has a control character at byte {}", what, at);
    at += length;
  }
  return {};
}

Status check_without_at(std::string_view what, std::string_view name) {
  BALLAST_TRY_STATUS(check_name(what, name));
  if (name.find('@') != std::string_view::npos)
    return fail(Errc::kInvalidArgument, "the {} '{}' has an '@', which separates a version", what,
                name);
  return {};
}

}  // namespace

Status check_key(std::string_view key) { return check_without_at("key", key); }
Status check_model(std::string_view model) { return check_without_at("model name", model); }
Status check_tensor_name(std::string_view name) { return check_name("tensor name", name); }

Status check_node_name(std::string_view name) {
  if (!name.empty() && name.size() <= 64 && std::ranges::all_of(name, is_plain)) return {};
  return fail(Errc::kInvalidArgument,
              "'{}' is not a node's name; use 1 to 64 letters, digits, '.', '_' or '-'", name);
}

Status check_alias(std::string_view alias) {
  if (alias.empty() || alias.size() > 128 || !std::ranges::all_of(alias, is_plain))
    return fail(Errc::kInvalidArgument,
                "'{}' is not an alias; use 1 to 128 letters, digits, '.', '_' or '-'", alias);
  if (std::ranges::all_of(alias, is_digit))
    return fail(Errc::kInvalidArgument, "the alias '{}' would be read as a version", alias);
  return {};
}

Result<Reference> parse_reference(std::string_view text) {
  Reference reference;
  const size_t at = text.find('@');
  reference.name = text.substr(0, at);
  BALLAST_TRY_STATUS(check_name("name", reference.name));
  if (at == std::string_view::npos) return reference;

  reference.has_selector = true;
  std::string_view selector = text.substr(at + 1);
  if (const size_t slash = selector.find('/'); slash != std::string_view::npos) {
    reference.tensor = selector.substr(slash + 1);
    selector = selector.substr(0, slash);
    BALLAST_TRY_STATUS(check_tensor_name(reference.tensor));
  }
  if (!selector.empty() && std::ranges::all_of(selector, is_digit)) {
    const auto [end, error] =
        std::from_chars(selector.data(), selector.data() + selector.size(), reference.version);
    if (error != std::errc() || reference.version == 0)
      return fail(Errc::kInvalidArgument, "'{}' names version {}; versions are 1, 2, 3, ...", text,
                  selector);
    return reference;
  }
  if (const Status status = check_alias(selector); !status)
    return fail(Errc::kInvalidArgument,
                "'{}' is not a reference; write KEY, MODEL, MODEL@3, MODEL@prod or "
                "MODEL@prod/TENSOR",
                text);
  reference.alias = selector;
  return reference;
}

std::string Reference::to_string() const {
  std::string text = name;
  if (has_selector) text += "@" + (alias.empty() ? std::to_string(version) : alias);
  if (!tensor.empty()) text += "/" + tensor;
  return text;
}

}  // namespace ballast
