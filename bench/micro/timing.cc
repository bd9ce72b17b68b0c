#include "bench/micro/timing.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <ctime>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace ballast::micro {
namespace {

constexpr double kTurnSecondsMin = 0.002;
constexpr size_t kCallsMax = 100'000;

// The time that this thread ran: while another program has the core, nothing is measured.
double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double seconds_of(const Contender& contender, size_t calls) {
  const double start = thread_seconds();
  for (size_t call = 0; call < calls; ++call) contender.work();
  return std::max(thread_seconds() - start, 1e-9);
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

// Kept apart so that the compiler can't see that a filled buffer is filled again.
[[gnu::noinline]] void stream_fill(std::span<std::byte> to) {
#if defined(__x86_64__)
  const __m128i value = _mm_set1_epi8(3);
  for (size_t at = 0; at < to.size(); at += 64) {
    auto* line = reinterpret_cast<__m128i*>(to.data() + at);
    for (int part = 0; part < 4; ++part) _mm_stream_si128(line + part, value);
  }
  _mm_sfence();
#else
  std::memset(to.data(), 3, to.size());
#endif
}

}  // namespace

Result<int> pin_to_core(int core) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
    return fail(Errc::kIo, "can't ask for the cores of this process: {}", std::strerror(errno));
  }
  for (int i = 0; core < 0 && i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(CPU_SETSIZE - 1 - i, &allowed)) core = CPU_SETSIZE - 1 - i;
  }
  cpu_set_t one;
  CPU_ZERO(&one);
  if (core >= 0 && core < CPU_SETSIZE) CPU_SET(core, &one);
  if (sched_setaffinity(0, sizeof one, &one) != 0) {
    return fail(Errc::kIo, "can't stay on core {}: {}", core, std::strerror(errno));
  }
  return core;
}

double RaceResult::rate(size_t contender) const { return median(rates_[contender]); }

double RaceResult::ratio(size_t contender, size_t to) const {
  std::vector<double> ratios;
  for (size_t round = 0; round < rates_[contender].size(); ++round) {
    ratios.push_back(rates_[contender][round] / rates_[to][round]);
  }
  return median(std::move(ratios));
}

RaceResult race(std::span<const Contender> contenders, size_t rounds) {
  std::vector<size_t> calls;
  for (const Contender& contender : contenders) {
    seconds_of(contender, 1);
    const double turns = std::ceil(kTurnSecondsMin / seconds_of(contender, 1));
    calls.push_back(std::clamp<size_t>(static_cast<size_t>(turns), 1, kCallsMax));
  }
  std::vector<std::vector<double>> rates(contenders.size());
  for (size_t round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < contenders.size(); ++i) {
      const double seconds = seconds_of(contenders[i], calls[i]) / static_cast<double>(calls[i]);
      rates[i].push_back(contenders[i].bytes / seconds * 1e-9);
    }
  }
  return RaceResult(std::move(rates));
}

std::vector<Contender> memory_contenders(std::span<const std::byte> from, std::span<std::byte> to) {
  const auto bytes = static_cast<double>(to.size());
  return {
      {"memcpy", bytes, [=] { std::memcpy(to.data(), from.data(), to.size()); }},
      {"memset", bytes, [=] { std::memset(to.data(), 2, to.size()); }},
      {"stream fill", bytes, [=] { stream_fill(to); }},
  };
}

}  // namespace ballast::micro
