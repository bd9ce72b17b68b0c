// A log whose process was killed, its damage, and what a start makes of it.
#pragma once

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>

#include "proto/base/clock.h"
#include "storage/log/hard_state_file.h"
#include "storage/log/inspect_log.h"
#include "storage/log/record.h"
#include "storage/log/segment_file.h"
#include "tests/unit/storage/log_testing.h"

namespace ballast::storage {

constexpr uint64_t kHeader = kSegmentHeaderBytes;

// Where the head of the record before has its second place, in a record at `offset`.
constexpr uint64_t second_place_at(uint64_t offset, size_t header_bytes = 40) {
  return offset + (kRecordFixedBytes + header_bytes + 7) / 8 * 8;
}

// Closing marks how far it is durable, so the hard state from before is put back, but for a log
// that is to be a `closed` one.
class KilledLog {
 public:
  explicit KilledLog(const std::vector<std::vector<Entry>>& batches, bool closed = false) {
    {
      const auto log = open_log(small_log(directory_.path()));
      hard_state_ = read_at(directory_ / "hard_state", 0, 2 * kHardStateSlotBytes);
      for (const auto& batch : batches) append_and_wait(*log, batch);
    }
    if (!closed) forget_durable_mark();
  }

  void forget_durable_mark() { write_at(directory_ / "hard_state", 0, hard_state_); }

  // Goes on with one more entry and is killed again, idle for a while before if `idle`.
  void append_and_kill(const Entry& entry, bool idle) {
    {
      const auto log = open_log(small_log(directory_.path()));
      append_and_wait(*log, {entry});
      if (idle) {
        log->note_durable();
        poll_until(*log, [&] { return log->oldest_pending_us() == 0; });
      }
      hard_state_ = read_at(directory_ / "hard_state", 0, 2 * kHardStateSlotBytes);
    }
    forget_durable_mark();
  }

  // Two batches, the second handed over while the first is under way, and a note is asked for in
  // between, `since` after the log was opened.
  void append_under_load_and_kill(const Entry& first, const Entry& second,
                                  std::chrono::milliseconds since) {
    {
      SimulatedTime time{Clock::now(), wall_clock_ms()};
      simulate_time(&time);
      const auto log = open_log(small_log(directory_.path()));
      log->append(std::nullopt, {first}, [] {});
      time.now += since;
      log->note_durable();
      append_and_wait(*log, {second});
      simulate_time(nullptr);
      hard_state_ = read_at(directory_ / "hard_state", 0, 2 * kHardStateSlotBytes);
    }
    forget_durable_mark();
  }

  // The copy of a head that the record at `offset` carries; it itself stays whole.
  void rot_copy_at(uint64_t sequence, uint64_t offset, size_t header_bytes = 40) const {
    flip_bit(segment(sequence), second_place_at(offset, header_bytes) + 50);
  }
  void rot_copies_in_hard_state() const {
    for (const uint64_t slot : {0, 1})
      flip_bit(directory_ / "hard_state", slot * kHardStateSlotBytes + 96 + 50);
  }

  std::string segment(uint64_t sequence = 1) const { return directory_ / segment_name(sequence); }
  std::string operator/(const std::string& name) const { return directory_ / name; }
  auto open() const { return open_segment_log(small_log(directory_.path())); }

  // Their bytes by path, but for those of zeros: a segment may be prepared or not yet.
  std::map<std::string, std::string> files() const {
    std::map<std::string, std::string> files;
    for (const auto& file : std::filesystem::directory_iterator(directory_.path())) {
      std::string bytes = read_at(file.path(), 0, file.file_size());
      if (bytes.find_first_not_of('\0') != std::string::npos) files[file.path()] = std::move(bytes);
    }
    return files;
  }
  std::string bytes(uint64_t sequence = 1) const {
    return read_at(segment(sequence), 0, kSmallSegment);
  }

  struct Head {
    uint64_t segment = 1;
    uint64_t offset = 0;
  };
  // Opens it, and expects these entries once these heads are restored, as a look at it has told.
  void expect_restored(const std::vector<Entry>& entries, const std::vector<Head>& heads) const {
    expect_told(heads.size());
    std::vector<std::string> restored, expected;
    for (const Head& head : heads)
      expected.push_back(fmt::format("{} {}", segment(head.segment), head.offset));
    LogOptions options = small_log(directory_.path());
    options.on_restored = [&](const RestoredHead& head) {
      restored.push_back(fmt::format("{} {}", head.path, head.offset));
    };
    const auto log = open_segment_log(options);
    ASSERT_TRUE(log) << log.error().to_string();
    EXPECT_TRUE(read_all(**log) == entries) << (*log)->last().value();
    EXPECT_EQ(restored, expected);
  }

  // Opens it as it is: nothing is restored.
  void expect_entries(const std::vector<Entry>& entries) const { expect_restored(entries, {}); }
  void expect_corrupt(uint64_t sequence, uint64_t offset, std::string_view why = "") const {
    const auto log = open();
    ASSERT_FALSE(log) << "opened with " << (*log)->last().value() << " entries";
    EXPECT_EQ(log.error().code, Errc::kCorrupt) << log.error().message;
    const std::string place = fmt::format("'{}' at offset {}:", segment(sequence), offset);
    EXPECT_NE(log.error().message.find(place), std::string::npos) << log.error().message;
    EXPECT_NE(log.error().message.find(why), std::string::npos) << log.error().message;
  }

 private:
  void expect_told(size_t heads) const {
    const auto report = inspect_log(directory_.path(), GroupId(1));
    ASSERT_TRUE(report) << report.error().to_string();
    size_t told = 0;
    for (const SegmentReport& segment : (*report)->segments) {
      constexpr std::string_view kTold = "rotten heads that the next start restores: ";
      if (segment.damage.empty()) continue;
      ASSERT_TRUE(segment.damage.starts_with(kTold)) << segment.damage;
      told += std::stoul(segment.damage.substr(kTold.size()));
    }
    EXPECT_EQ(told, heads) << (*report)->damage;
  }

  TemporaryDirectory directory_;
  std::string hard_state_;
};

// Not a comparison of strings: gtest would print and diff megabytes.
inline size_t nonzero_bytes(const std::string& path, uint64_t offset, size_t size) {
  const std::string bytes = read_at(path, offset, size);
  return static_cast<size_t>(std::ranges::count_if(bytes, [](char c) { return c != 0; }));
}

inline std::string garbage(size_t size) { return std::string(pattern(99, size).text()); }

}  // namespace ballast::storage
