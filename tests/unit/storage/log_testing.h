// What the log's tests share: entries made from their index, waiting, and damage.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "proto/base/check.h"
#include "storage/log/segment_log.h"
#include "tests/unit/storage/temporary_directory.h"

namespace ballast {
// Where argument-dependent lookup finds it.
inline bool operator==(const Entry& a, const Entry& b) {
  return a.meta() == b.meta() && a.header == b.header && a.payload == b.payload;
}
}  // namespace ballast

namespace ballast::storage {

constexpr uint64_t kSmallSegment = 16 << 20;

inline LogOptions small_log(const std::string& directory) {
  return {directory, kSmallSegment, GroupId(1)};
}

// Bytes that differ from entry to entry and from place to place.
inline Bytes pattern(uint64_t seed, size_t size) {
  MutableBytes bytes(size);
  uint64_t state = seed * 0x9E3779B97F4A7C15 + 1;
  for (size_t i = 0; i < size; ++i) {
    if (i % 8 == 0) state = state * 6364136223846793005 + 1442695040888963407;
    bytes.data()[i] = static_cast<std::byte>(state >> (8 * (i % 8)));
  }
  return Bytes(std::move(bytes));
}

inline Entry make_entry(uint64_t index, uint64_t term, size_t payload, size_t header = 40) {
  return {Term(term), Index(index), payload > 0 ? EntryKind::kBlock : EntryKind::kCommit,
          pattern(index * 1000 + term, header), pattern(index * 7777 + term, payload)};
}

// Waits until the log says that something has happened, and lets it go on.
inline void wait_for_event(LogStore& log) {
  pollfd event{log.event_fd(), POLLIN, 0};
  BALLAST_CHECK(::poll(&event, 1, 10'000) == 1, "the log doesn't complete");
  log.poll();
}

// Runs completions until `done` says so.
template <class Done>
void poll_until(LogStore& log, const Done& done) {
  while (!done()) wait_for_event(log);
}

inline void append_and_wait(LogStore& log, std::vector<Entry> entries,
                            std::optional<HardState> hard_state = std::nullopt) {
  bool done = false;
  log.append(hard_state, std::move(entries), [&] { done = true; });
  poll_until(log, [&] { return done; });
}

inline std::unique_ptr<LogStore> open_log(const LogOptions& options) {
  auto log = open_segment_log(options);
  EXPECT_TRUE(log) << log.error().to_string();
  return log ? *std::move(log) : nullptr;
}

// Those behind the log's start.
inline std::vector<Entry> read_from_base(const LogStore& log) {
  const Index first = log.base().index + 1;
  if (log.last() < first) return {};
  auto read = log.prepare_read(first, log.last());
  EXPECT_TRUE(read) << read.error().to_string();
  auto entries = (*read)->entries();
  EXPECT_TRUE(entries) << entries.error().to_string();
  return entries ? *std::move(entries) : std::vector<Entry>();
}

inline std::vector<Entry> read_all(const LogStore& log) {
  EXPECT_EQ(log.base().index, Index());
  return read_from_base(log);
}

inline std::string read_at(const std::string& path, uint64_t offset, size_t size) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  std::string bytes(size, '\0');
  BALLAST_CHECK(fd >= 0 && ::pread(fd, bytes.data(), size, static_cast<off_t>(offset)) ==
                               static_cast<ssize_t>(size),
                "{}", path);
  ::close(fd);
  return bytes;
}

inline void write_at(const std::string& path, uint64_t offset, std::string_view bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  BALLAST_CHECK(fd >= 0 && ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)) ==
                               static_cast<ssize_t>(bytes.size()),
                "{}", path);
  ::close(fd);
}

inline void flip_bit(const std::string& path, uint64_t offset, int bit = 3) {
  std::string byte = read_at(path, offset, 1);
  byte[0] = static_cast<char>(byte[0] ^ (1 << bit));
  write_at(path, offset, byte);
}

}  // namespace ballast::storage
