// How fast the log of one node takes entries, durably, and gives payloads back. The caller compares
// it with fio on the same directory: bench/log/report.

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <random>
#include <utility>
#include <vector>

#include "bench/log/database_reads.h"
#include "bench/log/measure.h"
#include "proto/base/check.h"
#include "proto/base/limits.h"
#include "proto/files/files.h"
#include "storage/log/segment_log.h"

namespace ballast::bench {
namespace {

using storage::LogStore;

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

// Writers that each wait for their entry before they append the next one, in one thread.
class Appends {
 public:
  Appends(LogStore& log, const Options& options)
      : log_(log), options_(options), payload_(noise(options.bytes)), header_(noise(64)) {
    next_ = log.last() + 1;
  }

  nlohmann::json run(uint64_t writers) {
    for (uint64_t i = 0; i < writers; ++i) append();
    while (under_way_ > 0) {
      wait();
      if (options_.forget) forget();
    }
    return measure_.result();
  }
  Index appended() const { return next_ - 1; }

 private:
  void append() {
    ++under_way_;
    Entry entry(Term(1), next_, EntryKind::kBlock, header_, payload_);
    ++next_;
    log_.append(std::nullopt, {std::move(entry)}, [this, begin = SteadyClock::now()] {
      measure_.add(us_since(begin));
      --under_way_;
      if (measure_.seconds() < options_.seconds) append();
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
  LogStore& log_;
  const Options& options_;
  const Bytes payload_;
  const Bytes header_;
  Index next_;
  bool forgetting_ = false;
  uint64_t under_way_ = 0;
  Measure measure_{options_.bytes};
};

// Payloads in random order, one after the other, from a cold cache.
Result<nlohmann::json> read(const LogStore& log, const Options& options) {
  BALLAST_TRY_STATUS(forget_cached(options.directory));
  const Bytes payload = noise(options.bytes);
  const Entry sample(Term(1), Index(1), EntryKind::kBlock, {}, payload);
  std::vector<Index> order;
  for (Index index = log.base().index + 1; index <= log.last(); ++index) order.push_back(index);
  std::ranges::shuffle(order, std::mt19937_64(11));
  const auto payloads = log.payloads();
  Measure measure(options.bytes);
  for (const Index index : order) {
    if (measure.seconds() >= options.seconds) break;
    const auto started = SteadyClock::now();
    BALLAST_TRY(const Bytes bytes,
                payloads->read(log.place_of(index), static_cast<uint32_t>(options.bytes),
                               sample.payload_crc, storage::ReadFrom::kCache));
    measure.add(us_since(started));
  }
  return measure.result();
}

// Until every segment that follows has been one before.
void fill_segments(LogStore& log, Options options) {
  options.bytes = kFillBytes;
  options.seconds = kFillStepSeconds;
  const Index until = log.last() + kFilled;
  while (log.last() < until) (void)Appends(log, options).run(kFillWriters);
}

Result<nlohmann::json> run(const Options& options) {
  if (options.operation == "read-database")
    return read_database(options.directory, noise(options.bytes), options.seconds);
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
  app.add_option(
         "--op", options.operation,
         "append, read back what was appended, or read blocks of a database that is made there")
      ->check(CLI::IsMember({"append", "read", "read-database"}))
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
