// The words for ack levels and read levels.

#include <algorithm>
#include <array>
#include <charconv>

#include "client/client.h"
#include "proto/base/limits.h"

namespace ballast::client {
namespace {

using std::chrono::microseconds;

constexpr std::string_view kBounded = "bounded=";

struct Unit {
  std::string_view name;
  microseconds length;
};
constexpr std::array kUnits = {
    Unit{"us", microseconds(1)}, Unit{"ms", std::chrono::milliseconds(1)},
    Unit{"s", std::chrono::seconds(1)}, Unit{"m", std::chrono::minutes(1)},
    Unit{"h", std::chrono::hours(1)}};

Result<ReadLevel> parse_bound(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.begin(), text.end(), number);
  const std::string_view name(end, text.end());
  const auto unit = std::ranges::find(kUnits, name, &Unit::name);
  const bool too_long = error == std::errc::result_out_of_range;
  if ((error != std::errc() && !too_long) || unit == kUnits.end())
    return fail(Errc::kInvalidArgument,
                "'{}' is no bound for a read; give a whole number with us, ms, s, m or h, such as "
                "bounded=500ms",
                text);
  const auto most = static_cast<uint64_t>(limits::kStalenessMax / unit->length);
  if (too_long || number > most ||
      static_cast<int64_t>(number) * unit->length < limits::kStalenessMin)
    return fail(Errc::kInvalidArgument, "a read's bound of {} is out of range; give 1ms to 1h",
                text);
  return ReadLevel::bounded(static_cast<int64_t>(number) * unit->length);
}

}  // namespace

Result<Ack> parse_ack(std::string_view text) {
  if (text == "async") return Ack::kAsync;
  if (text == "sync") return Ack::kSync;
  if (text == "sync_all") return Ack::kSyncAll;
  return fail(Errc::kInvalidArgument, "'{}' is no ack level; use async, sync or sync_all", text);
}

std::string_view ack_name(Ack ack) {
  switch (ack) {
    case Ack::kAsync: return "async";
    case Ack::kSync: return "sync";
    case Ack::kSyncAll: return "sync_all";
  }
  return "unknown";
}

Result<ReadLevel> parse_read_level(std::string_view text) {
  if (text == "linearizable") return ReadLevel::kLinearizable;
  if (text == "any") return ReadLevel::kAny;
  if (text.starts_with(kBounded)) return parse_bound(text.substr(kBounded.size()));
  return fail(Errc::kInvalidArgument,
              "'{}' is no read level; use linearizable, any or bounded=DURATION, such as "
              "bounded=500ms",
              text);
}

}  // namespace ballast::client
