// Errors are values: every function that can fail returns a Result<T>.
//
// An Error says what failed, on which thing, and what to do about it, in one line. Its code says
// what a caller may do: retryable() is the only place that decides whether trying again can help.
#pragma once

#include <fmt/format.h>

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace ballast {

enum class Errc : int {
  kInvalidArgument = 1,  // the request can never succeed as it is
  kNotFound = 2,         // the named thing does not exist
  kConflict = 3,         // a precondition did not hold; nothing was changed
  kMissingBlocks = 4,    // a commit names blocks that are not stored; upload them and commit again
  kNotLeader = 5,        // ask another node
  kTooStale = 6,         // this replica can't prove the freshness that was asked
  kDeadline = 7,         // the deadline passed and nothing was changed
  kUnknownOutcome = 8,   // the deadline passed or the connection broke; it may have happened
  kOverloaded = 9,       // a queue is full; try again later
  kUnavailable = 10,     // no connection, no primary, shutting down
  kCorrupt = 11,         // bytes do not match their checksum or their format
  kIo = 12,              // the operating system reported an error
  kRefused = 13,         // a rule forbids it (identity, quorum, role)
  kAckNotReached = 14,   // durable, but not at the level that was asked
  kInternal = 15,        // a bug
  kNoSpace = 16,         // a disk is full; nothing was changed
};

// The code's name without its k, for messages and JSON: "not_found".
std::string_view errc_name(Errc code);

// True if the same request may succeed later or on another node, and it is safe to send it again
// because nothing has happened.
bool retryable(Errc code);

// At most limits::kErrorMessageBytesMax bytes of a message, cut between characters of UTF-8:
// messages quote names that others chose, and replies and rows have limits.
std::string shortened(std::string message);

struct Error {
  Errc code = Errc::kInternal;
  std::string message;

  // "not_found: key 'a' does not exist"
  std::string to_string() const;
};

template <class T>
class [[nodiscard]] Result : public std::expected<T, Error> {
 public:
  using Base = std::expected<T, Error>;
  using Base::Base;
};

using Status = Result<void>;

// return fail(Errc::kNotFound, "key '{}' does not exist", key);
template <class... Args>
std::unexpected<Error> fail(Errc code, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected<Error>(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

// Forwards an error to the caller, with what the caller was doing in front of its message.
template <class... Args>
std::unexpected<Error> fail_within(Error error, fmt::format_string<Args...> format,
                                   Args&&... args) {
  error.message = fmt::format(format, std::forward<Args>(args)...) + ": " + error.message;
  return std::unexpected<Error>(std::move(error));
}

}  // namespace ballast

#define BALLAST_CONCAT_INNER(a, b) a##b
#define BALLAST_CONCAT(a, b) BALLAST_CONCAT_INNER(a, b)

// BALLAST_TRY(auto value, may_fail());   returns the error, or declares the value.
#define BALLAST_TRY(declaration, expression) \
  BALLAST_TRY_INNER(BALLAST_CONCAT(ballast_try_, __LINE__), declaration, expression, return)
#define BALLAST_CO_TRY(declaration, expression) \
  BALLAST_TRY_INNER(BALLAST_CONCAT(ballast_try_, __LINE__), declaration, expression, co_return)
#define BALLAST_TRY_INNER(result, declaration, expression, return_word)       \
  auto result = (expression);                                                 \
  if (!result) [[unlikely]]                                                   \
    return_word std::unexpected<::ballast::Error>(std::move(result).error()); \
  declaration = *std::move(result)

// The same for a Status.
#define BALLAST_TRY_STATUS(expression) \
  BALLAST_TRY_STATUS_INNER(BALLAST_CONCAT(ballast_try_, __LINE__), expression, return)
#define BALLAST_CO_TRY_STATUS(expression) \
  BALLAST_TRY_STATUS_INNER(BALLAST_CONCAT(ballast_try_, __LINE__), expression, co_return)
#define BALLAST_TRY_STATUS_INNER(result, expression, return_word) \
  if (auto result = (expression); !result) [[unlikely]]           \
  return_word std::unexpected<::ballast::Error>(std::move(result).error())
