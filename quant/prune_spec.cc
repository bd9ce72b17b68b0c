// Prunings as text and as numbers.
#include <algorithm>
#include <array>
#include <charconv>

#include "quant/prune.h"

namespace ballast::quant {
namespace {

struct Name {
  std::string_view name;
  PruneKind kind;
};
constexpr std::array<Name, 4> kShares{{{"magnitude", PruneKind::kMagnitude},
                                       {"rows", PruneKind::kRows},
                                       {"columns", PruneKind::kColumns},
                                       {"channels", PruneKind::kChannels}}};

bool valid(PruneSpec spec) {
  if (spec.kind == PruneKind::kNOfM) {
    return spec.millionths == 0 && spec.n >= 1 && spec.n < spec.m && spec.m <= kPruneGroupMax;
  }
  return std::ranges::find(kShares, spec.kind, &Name::kind) != kShares.end() && spec.n == 0 &&
         spec.m == 0 && spec.millionths >= 1 && spec.millionths < kPruneMillionths;
}

// Nothing unless all of the text is digits.
std::optional<uint32_t> parse_number(std::string_view text) {
  uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.begin(), text.end(), number);
  if (error != std::errc() || end != text.end()) return {};
  return number;
}

// "0.25", with at most six digits behind the point.
std::optional<uint32_t> parse_share(std::string_view text) {
  constexpr std::string_view kStart = "0.";
  constexpr size_t kDigits = 6;
  if (!text.starts_with(kStart) || text.size() > kStart.size() + kDigits) return {};
  std::string digits(text.substr(kStart.size()));
  if (digits.empty()) return {};
  digits.resize(kDigits, '0');
  return parse_number(digits);
}

}  // namespace

Result<PruneSpec> parse_prune(std::string_view text) {
  const size_t colon = std::min(text.find(':'), text.size());
  const std::string_view name = text.substr(0, colon);
  const std::string_view value = text.substr(std::min(colon + 1, text.size()));
  PruneSpec spec;
  if (const auto found = std::ranges::find(kShares, name, &Name::name); found != kShares.end()) {
    spec = {found->kind, parse_share(value).value_or(0)};
  } else {
    spec = {PruneKind::kNOfM, 0, parse_number(name).value_or(0), parse_number(value).value_or(0)};
  }
  if (valid(spec)) return spec;
  return fail(Errc::kInvalidArgument,
              "pruning '{}' is not known; known are magnitude:0.5, rows:0.25, columns:0.25 and "
              "channels:0.25 (shares between 0 and 1, at most six decimals), and 2:4 (any n:m with "
              "n < m <= {})",
              text, kPruneGroupMax);
}

std::string prune_name(PruneSpec spec) {
  if (spec.kind == PruneKind::kNOfM) return fmt::format("{}:{}", spec.n, spec.m);
  const auto* const found = std::ranges::find(kShares, spec.kind, &Name::kind);
  std::string text = fmt::format("{}:0.{:06}", found->name, spec.millionths);
  text.erase(text.find_last_not_of('0') + 1);
  return text;
}

Result<PruneSpec> prune_from_numbers(uint32_t kind, uint32_t millionths, uint32_t n, uint32_t m) {
  const PruneSpec spec{static_cast<PruneKind>(kind), millionths, n, m};
  if (kind <= UINT8_MAX && valid(spec)) return spec;
  return fail(Errc::kCorrupt, "there is no pruning {} with a share of {} ppm and groups {}:{}",
              kind, millionths, n, m);
}

bool prune_is_structured(PruneSpec spec) {
  return spec.kind != PruneKind::kMagnitude && spec.kind != PruneKind::kNOfM;
}

Result<size_t> prune_axis(PruneSpec spec, size_t rank) {
  const size_t axis = spec.kind == PruneKind::kRows       ? 0
                      : spec.kind == PruneKind::kChannels ? 1
                                                          : std::max<size_t>(rank, 1) - 1;
  if (axis < rank) return axis;
  return fail(Errc::kInvalidArgument, "pruning {} needs a tensor of rank {} or more, not {}",
              prune_name(spec), axis + 1, rank);
}

}  // namespace ballast::quant
