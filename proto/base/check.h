// Checks that stay on in release builds.
//
// A broken invariant means that memory or logic can no longer be trusted: the process stops
// with the file, the condition and a sentence, and the disk keeps what was durable. Bad input is
// never a check; it is an Error (result.h).
#pragma once

#include <fmt/format.h>

#include <string>

namespace ballast {

// Prints "file:line: check failed: condition: message" on stderr and aborts.
[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               const std::string& message);

}  // namespace ballast

// BALLAST_CHECK(condition) or BALLAST_CHECK(condition, "format {}", argument...).
#define BALLAST_CHECK(condition, ...)                                                         \
  do {                                                                                        \
    if (!(condition)) [[unlikely]]                                                            \
      ::ballast::check_failed(__FILE__, __LINE__, #condition, ::fmt::format("" __VA_ARGS__)); \
  } while (false)
