// How fast the log of one node takes entries, durably, and gives payloads back. The caller compares
// it with fio on the same directory: bench/log/report.

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <nlohmann/json.hpp>
#include <random>
#include <utility>
#include <vector>

#include "bench/load/histogram.h"
#include "proto/base/check.h"
#include "proto/base/limits.h"
#include "proto/files/files.h"
#include "storage/log/segment_log.h"

namespace ballast::bench {
namespace {

using storage::LogStore;
using SteadyClock = std::chrono::steady_clock;

struct Options {
  std::string directory;
  std::string operation = "append";
  uint64_t bytes = 4096;
  uint64_t writers = 1;
  bool forget = false;
  double seconds = 5;
};

// What comes before the measuring of a log that forgets: four segments of 256 MiB.
constexpr uint64_t kFillBytes = 1 << 20;
constexpr uint64_t kFilled = 1024;
constexpr uint64_t kFillWriters = 64;
constexpr double kFillStepSeconds = 0.1;

// Bytes of which no disk makes fewer.
Bytes noise(uint64_t bytes) {
  MutableBytes made(bytes);
  std::mt19937_64 random(7);
  for (std::byte& byte : made.span()) byte = static_cast<std::byte>(random());
  return Bytes(std::move(made));
}

uint64_t us_since(SteadyClock::time_point begin) {
  const auto took = SteadyClock::now() - begin;
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(took).count());
}

// Writers that each wait for their entry before they append the next one, in one thread.
class Appends {
 public:
  Appends(LogStore& log, const Options& options)
      : log_(log), options_(options), payload_(noise(options.bytes)), header_(noise(64)) {
    next_ = log.last() + 1;
  }

  nlohmann::json run(uint64_t writers) {
    begin_ = SteadyClock::now();
    for (uint64_t i = 0; i < writers; ++i) append();
    while (under_way_ > 0) {
      wait();
      if (options_.forget) forget();
    }
    return result(us_since(begin_));
  }
  Index appended() const { return next_ - 1; }

 private:
  void append() {
    ++under_way_;
    Entry entry(Term(1), next_, EntryKind::kBlock, header_, payload_);
    ++next_;
    log_.append(std::nullopt, {std::move(entry)}, [this, begin = SteadyClock::now()] {
      latency_.add(us_since(begin));
      ++done_;
      --under_way_;
      if (static_cast<double>(us_since(begin_)) < options_.seconds * 1e6) append();
    });
  }
  // As a store does whose models come and go: segments are used again.
  void forget() {
    const Index base = log_.may_begin_behind(log_.durable());
    if (forgetting_ || base <= log_.base().index) return;
    forgetting_ = true;
    ++under_way_;
    log_.begin_behind({base, Term(1), 0}, [this] {
      --under_way_;
      forgetting_ = false;
      for (const LogStore::Home& home : log_.homes()) log_.retire_home(home.segment);
    });
  }
  void wait() {
    pollfd event{log_.event_fd(), POLLIN, 0};
    BALLAST_CHECK(::poll(&event, 1, -1) == 1);
    log_.poll();
  }
  nlohmann::json result(uint64_t us) const {
    const double seconds = static_cast<double>(us) / 1e6;
    const double mb = static_cast<double>(done_ * payload_.size()) / 1e6;
    return {{"ops_per_s", static_cast<double>(done_) / seconds},
            {"mb_per_s", mb / seconds},
            {"p50_us", latency_.percentile(50)},
            {"p99_us", latency_.percentile(99)}};
  }

  LogStore& log_;
  const Options& options_;
  const Bytes payload_;
  const Bytes header_;
  Index next_;
  bool forgetting_ = false;
  uint64_t under_way_ = 0;
  uint64_t done_ = 0;
  SteadyClock::time_point begin_;
  load::Histogram latency_;
};

// What the page cache has of the log is dropped, as far as the kernel does that on request.
Status forget_cached(const std::string& directory) {
  BALLAST_TRY(const auto names, list_directory(directory));
  for (const std::string& name : names) {
    BALLAST_TRY(const UniqueFd file, open_file(directory + "/" + name, O_RDONLY));
    BALLAST_TRY_STATUS(sync_file(file));
    (void)::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
  }
  return {};
}

// Payloads in random order, one after the other, from a cold cache.
Result<nlohmann::json> read(const LogStore& log, const Options& options) {
  BALLAST_TRY_STATUS(forget_cached(options.directory));
  const Bytes payload = noise(options.bytes);
  const Entry sample(Term(1), Index(1), EntryKind::kBlock, {}, payload);
  std::vector<Index> order;
  for (Index index = log.base().index + 1; index <= log.last(); ++index) order.push_back(index);
  std::ranges::shuffle(order, std::mt19937_64(11));
  const auto payloads = log.payloads();
  load::Histogram latency;
  const auto begin = SteadyClock::now();
  uint64_t done = 0;
  for (const Index index : order) {
    if (static_cast<double>(us_since(begin)) >= options.seconds * 1e6) break;
    const auto started = SteadyClock::now();
    BALLAST_TRY(const Bytes bytes,
                payloads->read(log.place_of(index), static_cast<uint32_t>(options.bytes),
                               sample.payload_crc, storage::ReadFrom::kCache));
    latency.add(us_since(started));
    ++done;
  }
  const double seconds = static_cast<double>(us_since(begin)) / 1e6;
  const double mb = static_cast<double>(done * options.bytes) / 1e6;
  return nlohmann::json{{"ops_per_s", static_cast<double>(done) / seconds},
                        {"mb_per_s", mb / seconds},
                        {"p50_us", latency.percentile(50)},
                        {"p99_us", latency.percentile(99)}};
}

// Until every segment that follows has been one before.
void fill_segments(LogStore& log, Options options) {
  options.bytes = kFillBytes;
  options.seconds = kFillStepSeconds;
  const Index until = log.last() + kFilled;
  while (log.last() < until) (void)Appends(log, options).run(kFillWriters);
}

Result<nlohmann::json> run(const Options& options) {
  BALLAST_TRY_STATUS(make_directories(options.directory));
  BALLAST_TRY(const auto log, storage::open_segment_log({.directory = options.directory}));
  if (options.operation == "read") return read(*log, options);
  if (options.forget) fill_segments(*log, options);
  return Appends(*log, options).run(options.writers);
}

int main_checked(int argc, char** argv) {
  CLI::App app{"Measures the log of one node in a directory of its own."};
  Options options;
  app.add_option("DIR", options.directory, "Made if it is missing; appends go on where it ends")
      ->required();
  app.add_option("--op", options.operation, "append, or read back what was appended")
      ->check(CLI::IsMember({"append", "read"}))
      ->capture_default_str();
  app.add_option("--size", options.bytes, "Bytes of a payload")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(uint64_t{1}, uint64_t{limits::kBlockBytesMax}));
  app.add_option("--writers", options.writers, "Appends under way at a time")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--seconds", options.seconds, "How long")->capture_default_str();
  app.add_flag("--forget", options.forget, "Let go of full segments, so that they are used again");
  CLI11_PARSE(app, argc, argv);
  const auto result = run(options);
  if (!result) {
    fmt::print(stderr, "log_bench: {}\n", result.error().message);
    return 1;
  }
  fmt::print("{}\n", result->dump());
  return 0;
}

}  // namespace
}  // namespace ballast::bench

int main(int argc, char** argv) { return ballast::bench::main_checked(argc, argv); }
