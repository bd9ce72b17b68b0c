#include "tests/sim/counts.h"

#include <fmt/format.h>

#include <string_view>

namespace ballast::sim {
namespace {

struct Counted {
  std::string_view name;
  uint64_t Counts::* count;
};

constexpr Counted kCounted[] = {
    {"frames", &Counts::frames},
    {"lost", &Counts::lost},
    {"partitions", &Counts::partitions},
    {"stranded", &Counts::stranded},
    {"pauses", &Counts::pauses},
    {"crashes", &Counts::crashes},
    {"torn recoveries", &Counts::torn_recoveries},
    {"rotten", &Counts::rotten},
    {"misplaced", &Counts::misplaced},
    {"refused", &Counts::refused},
    {"wiped", &Counts::wiped},
    {"hangs", &Counts::hangs},
    {"full", &Counts::full},
    {"late segments", &Counts::late_segments},
    {"reused", &Counts::reused},
    {"snapshots", &Counts::snapshots},
    {"write errors", &Counts::write_errors},
    {"read errors", &Counts::read_errors},
    {"changes", &Counts::changes},
    {"writes", &Counts::writes},
    {"acks", &Counts::acks},
    {"reads", &Counts::reads},
    {"entries", &Counts::entries},
};
static_assert(sizeof(Counts) == std::size(kCounted) * sizeof(uint64_t), "one of them is missing");

}  // namespace

Counts& Counts::operator+=(const Counts& other) {
  for (const Counted& counted : kCounted) this->*counted.count += other.*counted.count;
  return *this;
}

std::string Counts::to_string() const {
  std::string text;
  for (const Counted& counted : kCounted)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", this->*counted.count, counted.name);
  return text;
}

}  // namespace ballast::sim
