#include "proto/base/result.h"

#include "proto/base/limits.h"

namespace ballast {

std::string_view errc_name(Errc code) {
  switch (code) {
    case Errc::kInvalidArgument: return "invalid_argument";
    case Errc::kNotFound: return "not_found";
    case Errc::kConflict: return "conflict";
    case Errc::kMissingBlocks: return "missing_blocks";
    case Errc::kNotLeader: return "not_leader";
    case Errc::kTooStale: return "too_stale";
    case Errc::kDeadline: return "deadline";
    case Errc::kUnknownOutcome: return "unknown_outcome";
    case Errc::kOverloaded: return "overloaded";
    case Errc::kUnavailable: return "unavailable";
    case Errc::kCorrupt: return "corrupt";
    case Errc::kIo: return "io";
    case Errc::kRefused: return "refused";
    case Errc::kAckNotReached: return "ack_not_reached";
    case Errc::kInternal: return "internal";
    case Errc::kNoSpace: return "no_space";
  }
  return "unknown";
}

bool retryable(Errc code) {
  return code == Errc::kNotLeader || code == Errc::kOverloaded || code == Errc::kUnavailable ||
         code == Errc::kTooStale;
}

std::string shortened(std::string message) {
  size_t end = limits::kErrorMessageBytesMax;
  if (message.size() <= end) return message;
  const auto continues = [&](size_t at) {
    return (static_cast<unsigned char>(message[at]) & 0xC0) == 0x80;
  };
  while (end > 0 && continues(end)) --end;
  message.resize(end);
  return message + " ...";
}

std::string Error::to_string() const { return fmt::format("{}: {}", errc_name(code), message); }

}  // namespace ballast
