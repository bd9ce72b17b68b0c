// The writers of a drill: threads that write one tensor after the other, and note in the ledger
// what they ask and what they get.
//
// REQUIRES: start() once, then stop(), which the destructor does too. The other functions may be
// called in between by one thread.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "client/client.h"
#include "client/kvctl/drill.h"
#include "client/kvctl/ledger.h"
#include "proto/base/result.h"

namespace ballast::kvctl {

// For what must come by itself: acknowledgements after a fault, a node that catches up.
inline constexpr std::chrono::milliseconds kDrillPatience{60'000};

class DrillWriters {
 public:
  using Counts = std::vector<uint64_t>;  // by writer
  using Open = std::vector<uint64_t>;    // by writer: the number of its write under way, else 0

  DrillWriters(const DrillOptions& options, std::string run, Ledger& ledger)
      : options_(options),
        run_(std::move(run)),
        ledger_(ledger),
        acks_(options.writers, 0),
        open_(options.writers, 0) {}
  ~DrillWriters() { (void)stop(); }
  DrillWriters(const DrillWriters&) = delete;
  DrillWriters& operator=(const DrillWriters&) = delete;

  // Each writer gets a client of its own, as separate programs would have.
  Status start(const client::Options& options) {
    for (unsigned i = 0; i < options_.writers; ++i) {
      BALLAST_TRY(auto connected, client::Client::connect(options));
      clients_.push_back(std::move(connected));
    }
    for (unsigned i = 0; i < options_.writers; ++i) threads_.emplace_back([this, i] { write(i); });
    return {};
  }

  // Lets the writes under way end. Returns what the writers could not do, if anything.
  Status stop() {
    {
      const std::scoped_lock lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    return healthy_;
  }

  Counts acks() {
    const std::scoped_lock lock(mutex_);
    return acks_;
  }

  // From now on each writer rests so long after each write. Zero: not at all.
  void set_pace(client::milliseconds rest) {
    const std::scoped_lock lock(mutex_);
    rest_ = rest;
    changed_.notify_all();
  }

  // Lets them write on for a while.
  Status run_for(client::milliseconds time) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, time, [this] { return !healthy_; });
    return healthy_;
  }

  // Until every writer has `more` acknowledgements than it had.
  Status wait_for_acks(const Counts& before, uint64_t more, std::string_view when) {
    std::unique_lock lock(mutex_);
    const auto enough = [&] {
      for (size_t i = 0; i < acks_.size(); ++i) {
        if (acks_[i] < before[i] + more) return false;
      }
      return true;
    };
    changed_.wait_for(lock, kDrillPatience, [&] { return !healthy_ || enough(); });
    if (!healthy_ || enough()) return healthy_;
    return fail(Errc::kDeadline,
                "not every writer was acknowledged within {} s {}; the last error: {}",
                kDrillPatience.count() / 1000, when, last_error_.empty() ? "none" : last_error_);
  }

  // Waits until a write is under way, and returns those that are.
  Result<Open> wait_in_flight() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kDrillPatience, [this] { return !healthy_ || any(open_); });
    if (!healthy_) return std::unexpected(healthy_.error());
    return open_;
  }

  // Whether one of the writes that were under way has not been answered since.
  bool any_still_open(const Open& before) {
    const std::scoped_lock lock(mutex_);
    return any_in_both(before, open_);
  }

  static bool any_in_both(const Open& before, const Open& now) {
    for (size_t i = 0; i < now.size(); ++i) {
      if (now[i] != 0 && now[i] == before[i]) return true;
    }
    return false;
  }

 private:
  // Whether the outcome of a put that failed is known: everything else may have happened.
  static bool nothing_happened(Errc code) {
    switch (code) {
      case Errc::kInvalidArgument:
      case Errc::kConflict:
      case Errc::kNotLeader:
      case Errc::kDeadline:
      case Errc::kOverloaded:
      case Errc::kUnavailable:
      case Errc::kNoSpace:
      case Errc::kRefused: return true;
      default: return false;
    }
  }

  void write(unsigned writer) {
    for (uint64_t seq = 1;; ++seq) {
      const auto noted = write_one(writer, seq);
      std::unique_lock lock(mutex_);
      if (!noted && healthy_) healthy_ = std::unexpected(noted.error());
      const bool failed = noted && !*noted;
      changed_.wait_for(lock, std::max(rest_, failed ? kPauseAfterFailure : kNoPause),
                        [&] { return stopping_ || !healthy_ || (!failed && rest_ == kNoPause); });
      if (stopping_ || !healthy_) break;
    }
    changed_.notify_all();
  }

  // Whether it was acknowledged. Errors: the ledger's alone.
  Result<bool> write_one(unsigned writer, uint64_t seq) {
    const auto content = drill_content(run_, writer, seq, options_.bytes);
    const std::string key = drill_key(run_, writer, seq);
    LedgerEvent event{.writer = writer, .seq = seq, .key = key, .sha256 = sha256(content).hex()};
    BALLAST_TRY_STATUS(ledger_.append(event));
    set_open(writer, seq);
    const client::TensorView tensor{
        .dtype = client::DType::kF32, .shape = {options_.bytes / sizeof(float)}, .data = content};
    client::PutOptions put;
    put.codec = options_.codec;
    put.ack = options_.ack;
    const auto done = clients_[writer].put(key, tensor, put);
    // Before its line: what counts as under way then has its outcome in a later line, if any.
    set_open(writer, 0);
    if (done && done->receipt.reached >= options_.ack) {
      event.op = LedgerOp::kOk;
      event.index = done->receipt.index.value();
    } else if (done) {
      event.op = LedgerOp::kUnknown;
      event.error = fmt::format("acknowledged as {} only", client::ack_name(done->receipt.reached));
    } else {
      event.op = nothing_happened(done.error().code) ? LedgerOp::kFail : LedgerOp::kUnknown;
      event.error = done.error().to_string();
    }
    BALLAST_TRY_STATUS(ledger_.append(event));
    const std::scoped_lock lock(mutex_);
    const bool acknowledged = event.op == LedgerOp::kOk;
    if (acknowledged) {
      ++acks_[writer];
    } else {
      last_error_ = event.error;
    }
    changed_.notify_all();
    return acknowledged;
  }

  static bool any(const Open& open) {
    return std::ranges::any_of(open, [](uint64_t seq) { return seq != 0; });
  }

  void set_open(unsigned writer, uint64_t seq) {
    const std::scoped_lock lock(mutex_);
    open_[writer] = seq;
    changed_.notify_all();
  }

  static constexpr client::milliseconds kNoPause{0};
  static constexpr client::milliseconds kPauseAfterFailure{20};

  const DrillOptions& options_;
  const std::string run_;
  Ledger& ledger_;
  std::vector<client::Client> clients_;
  std::vector<std::thread> threads_;

  std::mutex mutex_;
  std::condition_variable changed_;
  Counts acks_;
  Open open_;
  client::milliseconds rest_{0};
  bool stopping_ = false;
  Status healthy_;  // an error: the ledger can't be written
  std::string last_error_;
};

}  // namespace ballast::kvctl
