#include "bench/load/load.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <thread>
#include <utility>

#include "bench/load/disk_counters.h"
#include "proto/base/uuid.h"

namespace ballast::load {
namespace {

using client::Client;
using Clock = std::chrono::steady_clock;

// Contents that never repeat, at no cost per call: a window that moves over a pool of random
// values. The cluster stores equal blocks once and is not even sent them again, so repeated
// contents would measure nothing. The pool is drawn anew when the window has passed over it.
class Contents {
 public:
  Contents(uint64_t bytes, uint64_t seed)
      : bytes_(bytes), steps_(steps_for(bytes)), random_(seed), pool_(bytes / 4 + steps_) {
    draw();
  }

  // Valid until the next call.
  std::span<const std::byte> next() {
    if (step_ == steps_) draw();
    return std::as_bytes(std::span(pool_)).subspan(4 * step_++, bytes_);
  }

 private:
  // Less than a block's values for tensors of several blocks: else a block would be its
  // neighbour's in another window.
  static size_t steps_for(uint64_t bytes) { return bytes <= 256 * 1024 ? 1 << 20 : 1 << 16; }

  // Sums of uniform values are bell-shaped, as weights are.
  void draw() {
    for (float& value : pool_) {
      const uint64_t bits = random_();
      uint64_t sum = 0;
      for (int shift = 0; shift < 64; shift += 16) sum += (bits >> shift) & 0xFFFF;
      value = (static_cast<float>(sum) - 131'070.0F) * 0x1p-22F;
    }
    step_ = 0;
  }

  const uint64_t bytes_;
  const size_t steps_;
  std::mt19937_64 random_;
  std::vector<float> pool_;
  size_t step_ = 0;
};

struct Window {
  Clock::time_point start;  // of the calls; those that end from `begin` to `end` count
  Clock::time_point begin;
  Clock::time_point end;
};

// What all clients share. The encoded size of each key's tensor is kept, for a get to count it.
struct Keys {
  Keys(std::string run_id, unsigned count) : run(std::move(run_id)), encoded(count) {}

  std::string name(size_t key) const { return fmt::format("load/{}/{}", run, key); }

  const std::string run;
  std::vector<std::atomic<uint64_t>> encoded;
};

class LoadClient {
 public:
  LoadClient(const LoadOptions& options, Keys& keys, Client client, uint64_t seed)
      : options_(options),
        keys_(keys),
        client_(std::move(client)),
        random_(seed),
        contents_(options.bytes, seed) {}

  Result<uint64_t> put(size_t key) {
    const client::TensorView tensor{.dtype = client::DType::kF32,
                                    .shape = {options_.bytes / sizeof(float)},
                                    .data = contents_.next()};
    client::PutOptions put;
    put.codec = options_.codec;
    put.ack = options_.ack;
    BALLAST_TRY(const auto done, client_.put(keys_.name(key), tensor, put));
    keys_.encoded[key] = done.tensor.encoded_bytes;
    return done.tensor.encoded_bytes;
  }

  Result<uint64_t> get(size_t key) {
    client::ReadOptions read;
    read.read = options_.read;
    BALLAST_TRY(const auto tensor, client_.get(keys_.name(key), read));
    if (tensor.data.size() == options_.bytes) return keys_.encoded[key].load();
    return fail(Errc::kCorrupt, "key '{}' has {} bytes, not {}", keys_.name(key),
                tensor.data.size(), options_.bytes);
  }

  // Calls until the window's end, and counts those that end inside it. Each client has its own
  // share of the times when a call is due.
  void run(Window window, size_t client) {
    const std::chrono::duration<double> apart(options_.rate == 0 ? 0 : 1 / options_.rate);
    const auto due_at = [&](size_t call) {
      const auto number = static_cast<double>(call * options_.clients + client);
      return window.start + std::chrono::duration_cast<Clock::duration>(number * apart);
    };
    for (size_t call = 0;; ++call) {
      const auto begin = options_.rate != 0 ? due_at(call) : Clock::now();
      if (std::max(begin, Clock::now()) >= window.end) return;
      if (options_.rate != 0) std::this_thread::sleep_until(begin);
      const size_t key = random_() % options_.keys;
      const bool is_put =
          options_.mix == Mix::kPut || (options_.mix == Mix::kMixed && random_() % 2 == 0);
      const auto done = is_put ? put(key) : get(key);
      const auto end = Clock::now();
      if (end < window.begin || end > window.end) continue;
      count(is_put ? report_.put : report_.get, done, end - begin);
    }
  }

  // The removals need not be durable one by one: the last one's wait covers all of this client's.
  Status remove(size_t first, size_t step) {
    std::optional<client::Receipt> last;
    for (size_t key = first; key < options_.keys; key += step) {
      auto removed = client_.remove(keys_.name(key), client::Ack::kAsync);
      if (removed) last = *removed;
      if (!removed && removed.error().code != Errc::kNotFound) {
        return fail_within(removed.error(), "cannot remove key '{}'", keys_.name(key));
      }
    }
    if (!last) return {};
    BALLAST_TRY([[maybe_unused]] const auto durable, client_.wait(*last, client::Ack::kSync));
    return {};
  }

  const LoadReport& report() const { return report_; }

 private:
  static void count(CallFigures& figures, const Result<uint64_t>& done, Clock::duration took) {
    if (done) {
      figures.latency_ns.add(static_cast<uint64_t>(
          std::chrono::duration_cast<std::chrono::nanoseconds>(took).count()));
      figures.encoded_bytes += *done;
      return;
    }
    ++figures.errors[std::string(errc_name(done.error().code))];
    if (figures.first_error.empty()) figures.first_error = done.error().to_string();
  }

  const LoadOptions& options_;
  Keys& keys_;
  Client client_;
  std::mt19937_64 random_;
  Contents contents_;
  LoadReport report_;
};

using LoadClients = std::vector<std::unique_ptr<LoadClient>>;

// One thread for each client. Returns the first error.
template <class Work>
Status on_every_client(LoadClients& clients, const Work& work) {
  std::vector<Status> results(clients.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < clients.size(); ++i) {
    threads.emplace_back([&, i] { results[i] = work(*clients[i], i); });
  }
  for (std::thread& thread : threads) thread.join();
  for (Status& result : results) BALLAST_TRY_STATUS(std::move(result));
  return {};
}

Result<LoadClients> connect(const LoadOptions& options, Keys& keys, const Uuid& run) {
  uint64_t seed = 0;
  std::memcpy(&seed, run.bytes.data(), sizeof seed);
  LoadClients clients;
  for (unsigned i = 0; i < options.clients; ++i) {
    client::Options connection;
    connection.endpoints = options.endpoints;
    connection.deadline = options.deadline;
    BALLAST_TRY(auto connected, Client::connect(connection));
    clients.push_back(std::make_unique<LoadClient>(options, keys, std::move(connected), seed + i));
  }
  return clients;
}

// Looks at a disk's counters when the calls begin and end to count.
class DiskMeter {
 public:
  DiskMeter(const std::string& path, Window window)
      : thread_([this, path, window] {
          if (path.empty()) return;
          std::this_thread::sleep_until(window.begin);
          const auto before = written_to_disk(path);
          std::this_thread::sleep_until(window.end);
          const auto after = written_to_disk(path);
          if (before && after) bytes_ = *after - *before;
        }) {}
  // When the window has ended.
  std::optional<uint64_t> bytes() {
    thread_.join();
    return bytes_;
  }

 private:
  std::optional<uint64_t> bytes_;
  std::jthread thread_;  // last: it uses the other
};

// Reads need something to read.
Status fill(LoadClients& clients, const LoadOptions& options) {
  if (options.mix == Mix::kPut) return {};
  return on_every_client(clients, [&](LoadClient& client, size_t first) -> Status {
    for (size_t key = first; key < options.keys; key += clients.size()) {
      BALLAST_TRY([[maybe_unused]] const uint64_t encoded, client.put(key));
    }
    return {};
  });
}

}  // namespace

uint64_t CallFigures::failed() const {
  uint64_t sum = 0;
  for (const auto& [code, count] : errors) sum += count;
  return sum;
}

void CallFigures::merge(const CallFigures& other) {
  latency_ns.merge(other.latency_ns);
  encoded_bytes += other.encoded_bytes;
  for (const auto& [code, count] : other.errors) errors[code] += count;
  if (first_error.empty()) first_error = other.first_error;
}

Result<LoadReport> run_load(const LoadOptions& options) {
  if (!options.disk.empty() && !written_to_disk(options.disk))
    return fail(Errc::kInvalidArgument, "the disk that '{}' lies on has no counters", options.disk);
  const Uuid run = Uuid::random();
  Keys keys(run.to_string().substr(0, 8), options.keys);
  BALLAST_TRY(auto clients, connect(options, keys, run));
  const Status filled = fill(clients, options);

  LoadReport report;
  if (filled) {
    const auto start = Clock::now();
    const auto begin = start + options.warm_up;
    const Window window{start, begin, begin + options.time};
    DiskMeter disk(options.disk, window);
    BALLAST_TRY_STATUS(on_every_client(clients, [&](LoadClient& client, size_t i) -> Status {
      client.run(window, i);
      return {};
    }));
    report.disk_bytes = disk.bytes();
    report.seconds = std::chrono::duration<double>(options.time).count();
  }
  const Status removed = on_every_client(clients, [&](LoadClient& client, size_t first) {
    return client.remove(first, clients.size());
  });
  if (!filled) return fail_within(filled.error(), "cannot write the keys to be read");
  if (!removed) report.clean_up_error = removed.error().to_string();
  for (const auto& client : clients) {
    report.put.merge(client->report().put);
    report.get.merge(client->report().get);
  }
  return report;
}

}  // namespace ballast::load
