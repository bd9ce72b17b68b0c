#include "client/kvctl/drill_check.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "client/kvctl/drill_writers.h"
#include "proto/base/limits.h"

namespace ballast::kvctl {
namespace {

using client::Ack;
using client::Client;
using client::ReadLevel;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kPollEvery{50};
// A check waits for the network most of the time, so there are more threads than processors; each
// holds what a tensor should be and what came, twice while it is decoded.
constexpr uint64_t kThreadsMax = 16;
constexpr uint64_t kCheckBytesMax = 1024 * limits::kMiB;
constexpr uint64_t kTensorsPerThread = 3;
constexpr size_t kQueuedMax = 256;

uint64_t check_threads(const LedgerHeader& header) {
  return std::clamp<uint64_t>(kCheckBytesMax / (kTensorsPerThread * header.bytes), 1, kThreadsMax);
}

// ---- the ledger, read once and worked on by many ----

class WriteQueue {
 public:
  // Waits for room. Errors: what a worker has failed with, so that the reader ends, too.
  Status push(const LedgerWrite& write) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [this] { return !status_ || writes_.size() < kQueuedMax; });
    if (!status_) return status_;
    writes_.push_back(write);
    work_.notify_one();
    return {};
  }
  // Nothing once the queue is closed and empty, or a worker has failed.
  std::optional<LedgerWrite> pop() {
    std::unique_lock lock(mutex_);
    work_.wait(lock, [this] { return !status_ || closed_ || !writes_.empty(); });
    if (!status_ || writes_.empty()) return std::nullopt;
    LedgerWrite write = std::move(writes_.front());
    writes_.pop_front();
    if (writes_.size() == kQueuedMax / 2) room_.notify_one();
    return write;
  }
  void close() {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
    work_.notify_all();
  }
  void fail_with(Status status) {
    const std::scoped_lock lock(mutex_);
    if (status_) status_ = std::move(status);
    work_.notify_all();
    room_.notify_one();
  }
  Status status() {
    const std::scoped_lock lock(mutex_);
    return status_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable work_;  // for the workers
  std::condition_variable room_;  // for the reader: half of the queue is free again
  std::deque<LedgerWrite> writes_;
  Status status_;
  bool closed_ = false;
};

// Calls `each` for every write of the ledger, on so many threads at once, with the thread's number.
Status for_each_write(const std::filesystem::path& ledger, uint64_t threads,
                      const std::function<Status(size_t thread, const LedgerWrite&)>& each) {
  WriteQueue queue;
  std::vector<std::thread> running;
  for (size_t thread = 0; thread < threads; ++thread) {
    running.emplace_back([&queue, &each, thread] {
      while (const auto write = queue.pop()) {
        if (Status done = each(thread, *write); !done) queue.fail_with(std::move(done));
      }
    });
  }
  Status read =
      read_ledger_writes(ledger, [&queue](const LedgerWrite& write) { return queue.push(write); });
  queue.close();
  for (std::thread& thread : running) thread.join();
  BALLAST_TRY_STATUS(queue.status());
  return read;
}

// ---- one write ----

struct Tally {
  uint64_t missing = 0;
  uint64_t wrong = 0;
  uint64_t unknown_present = 0;
  uint64_t failed_present = 0;

  Tally& operator+=(const Tally& other) {
    missing += other.missing;
    wrong += other.wrong;
    unknown_present += other.unknown_present;
    failed_present += other.failed_present;
    return *this;
  }
};

enum class Found { kAbsent, kRight, kWrong };

// From whom the writes are read.
struct Source {
  Client* client = nullptr;
  ReadLevel level = ReadLevel::kLinearizable;
};

Result<Found> look_up(const Source& source, const std::string& key,
                      std::span<const std::byte> content) {
  client::ReadOptions options;
  options.read = source.level;
  const auto tensor = source.client->get(key, options);
  if (tensor) {
    const bool same = tensor->data.size() == content.size() &&
                      std::memcmp(tensor->data.data(), content.data(), content.size()) == 0;
    return same ? Found::kRight : Found::kWrong;
  }
  if (tensor.error().code == Errc::kNotFound) return Found::kAbsent;
  if (tensor.error().code == Errc::kCorrupt) return Found::kWrong;
  return fail_within(tensor.error(), "cannot read key '{}' to check it", key);
}

void count(Tally& tally, const LedgerWrite& write, Found found) {
  if (found == Found::kWrong) ++tally.wrong;
  if (found == Found::kAbsent && write.outcome == LedgerOp::kOk) ++tally.missing;
  if (found == Found::kAbsent) return;
  if (write.outcome == LedgerOp::kUnknown) ++tally.unknown_present;
  if (write.outcome == LedgerOp::kFail) ++tally.failed_present;
}

// What was written. A ledger that was tampered with, or a generator that has changed, must not pass
// for a proof: the digest was noted before the write was sent.
Result<std::vector<std::byte>> content_of(const LedgerHeader& header, const LedgerWrite& write) {
  auto content = drill_content(header.run, write.writer, write.seq, header.bytes);
  if (write.key == drill_key(header.run, write.writer, write.seq) &&
      write.sha256 == sha256(content).hex()) {
    return content;
  }
  return fail(Errc::kCorrupt, "the ledger's line for key '{}' is not what the drill wrote",
              write.key);
}

// The tallies are the sources'. The content is computed once for all of them.
Result<std::vector<Tally>> check_writes(const std::vector<Source>& sources,
                                        const std::filesystem::path& ledger,
                                        const LedgerHeader& header) {
  const uint64_t threads = check_threads(header);
  std::vector<std::vector<Tally>> tallies(threads, std::vector<Tally>(sources.size()));
  const auto check = [&](size_t thread, const LedgerWrite& write) -> Status {
    BALLAST_TRY(const std::vector<std::byte> content, content_of(header, write));
    for (size_t i = 0; i < sources.size(); ++i) {
      BALLAST_TRY(const Found found, look_up(sources[i], write.key, content));
      count(tallies[thread][i], write, found);
    }
    return {};
  };
  BALLAST_TRY_STATUS(for_each_write(ledger, threads, check));
  std::vector<Tally> sums(sources.size());
  for (const std::vector<Tally>& part : tallies) {
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += part[i];
  }
  return sums;
}

// ---- states ----

bool same_index(const std::vector<client::VerifyReport>& reports) {
  return std::ranges::all_of(reports, [&](const client::VerifyReport& report) {
    return !report.error && report.applied_index == reports.front().applied_index;
  });
}

// States can be compared only where the nodes have applied the same entries, so it is tried again
// until they have. Blocks are read only then: that may take long.
Result<std::vector<client::VerifyReport>> compare_states(Client& client) {
  const auto deadline = Clock::now() + kDrillPatience;
  for (;;) {
    BALLAST_TRY(auto reports, client.verify(/*deep=*/false));
    const bool late = Clock::now() > deadline;
    if (same_index(reports) || late) {
      BALLAST_TRY(reports, client.verify(/*deep=*/true));
      if (same_index(reports) || late) return reports;
    }
    std::this_thread::sleep_for(kPollEvery);
  }
}

}  // namespace

Result<DrillFindings> check_cluster(Client& client, const client::Options& options,
                                    const std::filesystem::path& ledger, const LedgerHeader& header,
                                    const DrillNotes& notes) {
  DrillFindings findings;
  const std::vector<client::Member> members = client.members();
  std::vector<Client> alone;
  for (const client::Member& member : members) {
    client::Options pinned = options;
    pinned.endpoints = {member.address};
    pinned.pinned = true;
    BALLAST_TRY(auto node, Client::connect(pinned));
    alone.push_back(std::move(node));
  }
  std::vector<Source> sources{{.client = &client, .level = ReadLevel::kLinearizable}};
  for (Client& node : alone) sources.push_back({.client = &node, .level = ReadLevel::kAny});
  notes("reading every acknowledged write, linearizably and from each node alone");
  BALLAST_TRY(const std::vector<Tally> tallies, check_writes(sources, ledger, header));
  findings.lost = tallies[0].missing;
  findings.wrong = tallies[0].wrong;
  findings.unknown_present = tallies[0].unknown_present;
  findings.failed_present = tallies[0].failed_present;
  for (size_t i = 0; i < members.size(); ++i) {
    findings.nodes.push_back({.member = members[i],
                              .missing = tallies[i + 1].missing,
                              .wrong = tallies[i + 1].wrong,
                              .report = {}});
  }
  notes("comparing the nodes' blocks and states");
  BALLAST_TRY(const auto reports, compare_states(client));
  for (NodeFindings& node : findings.nodes) {
    const auto report = std::ranges::find(reports, node.member.id,
                                          [](const auto& entry) { return entry.member.id; });
    if (report == reports.end()) {
      node.report.error = Error{Errc::kUnavailable, "it gave no report"};
    } else {
      node.report = *report;
    }
  }
  return findings;
}

// Every removal is only taken into the log, and each thread waits for its last one to be durable:
// what is before it is durable then too.
Status remove_keys(Client& client, const std::filesystem::path& ledger,
                   const LedgerHeader& header) {
  const uint64_t threads = check_threads(header);
  std::vector<std::optional<client::Receipt>> last(threads);
  BALLAST_TRY_STATUS(
      for_each_write(ledger, threads, [&](size_t thread, const LedgerWrite& write) -> Status {
        auto removed = client.remove(write.key, Ack::kAsync);
        if (removed) last[thread] = *removed;
        if (removed || removed.error().code == Errc::kNotFound) return {};
        return fail_within(removed.error(), "cannot remove key '{}'", write.key);
      }));
  for (const auto& receipt : last) {
    if (!receipt) continue;
    BALLAST_TRY([[maybe_unused]] const auto durable, client.wait(*receipt, Ack::kSync));
  }
  return {};
}

}  // namespace ballast::kvctl
