// ballast_sim: runs the cluster in a simulation, one seed after the other.

#include <malloc.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "proto/base/check.h"
#include "proto/base/planted.h"
#include "tests/sim/world.h"

namespace ballast::sim {
namespace {

struct Arguments {
  uint64_t seed = 1;
  uint64_t count = 1;
  std::string profile = "lite";
  bool once = false;
  bool first = false;
  bool progress = false;
  bool verbose = false;
#ifdef BALLAST_PLANTED_BUGS
  int bug = 0;
#endif
};

struct Outcome {
  std::vector<std::string> wrong;
  uint64_t hash = 0;
  Counts counts;
};

// New, whatever an earlier process with the same number left behind when it was killed.
std::string new_directory() {
  const bool memory = std::filesystem::exists("/dev/shm");
  std::string path = memory ? "/dev/shm/ballast_sim.XXXXXX" : "/tmp/ballast_sim.XXXXXX";
  BALLAST_CHECK(::mkdtemp(path.data()) != nullptr, "can't make {}", path);
  return path;
}

Outcome run_seed(const Arguments& arguments, uint64_t seed) {
  raft::Prng chance(seed ^ 0x5EED);
  const Faults faults = arguments.profile == "swarm" ? swarm(chance) : lite(chance);
  World world(new_directory(), seed, faults, arguments.verbose);
  Outcome outcome;
  outcome.wrong = world.run();
  outcome.hash = world.hash();
  outcome.counts = world.counts();
  return outcome;
}

// False if something was wrong. Adds what happened to `total`.
bool check_seed(const Arguments& arguments, uint64_t seed, Counts& total) {
  Outcome outcome = run_seed(arguments, seed);
  if (outcome.wrong.empty() && !arguments.once) {
    const Outcome again = run_seed(arguments, seed);
    if (again.hash != outcome.hash)
      outcome.wrong.push_back("the second run of the same seed was another one");
  }
  total += outcome.counts;
  if (arguments.count == 1)
    std::printf("seed %lu: hash %016lx, %s\n", seed, outcome.hash,
                outcome.counts.to_string().c_str());
  for (const std::string& what : outcome.wrong) std::printf("seed %lu: %s\n", seed, what.c_str());
  if (!outcome.wrong.empty())
    std::printf("again: ballast_sim --profile %s --seed %lu --verbose\n", arguments.profile.c_str(),
                seed);
  std::fflush(stdout);
  return outcome.wrong.empty();
}

int run(int argc, char** argv) {
  CLI::App app{
      "Runs a Ballast cluster in a simulation: real nodes, simulated time, network and "
      "disks. The same seed gives the same run."};
  Arguments arguments;
  app.add_option("--seed", arguments.seed, "The first seed");
  app.add_option("--count", arguments.count, "How many seeds, one after the other");
  app.add_option("--profile", arguments.profile, "Which faults")
      ->check(CLI::IsMember({"lite", "swarm"}));
  app.add_flag("--once", arguments.once, "Do not run each seed twice to compare the runs");
  app.add_flag("--first", arguments.first, "End with the first seed that fails");
  app.add_flag("--progress", arguments.progress, "Name each seed on stderr before it runs");
  app.add_flag("--verbose", arguments.verbose, "Say what happens");
#ifdef BALLAST_PLANTED_BUGS
  app.add_option("--bug", arguments.bug, "Which planted bug (proto/base/planted.h)");
#endif
  CLI11_PARSE(app, argc, argv);
#ifdef BALLAST_PLANTED_BUGS
  planted_bug = static_cast<PlantedBug>(arguments.bug);
#endif
  spdlog::set_level(arguments.verbose ? spdlog::level::info : spdlog::level::off);
  // Recovery's buffers come and go: mapped anew each time, their page faults would cost the most.
  ::mallopt(M_MMAP_THRESHOLD, 64 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 256 << 20);
  const auto begin = std::chrono::steady_clock::now();
  uint64_t failed = 0;
  Counts total;
  for (uint64_t i = 0; i < arguments.count; ++i) {
    if (arguments.progress) std::fprintf(stderr, "seed %lu\n", arguments.seed + i);
    if (check_seed(arguments, arguments.seed + i, total)) continue;
    ++failed;
    if (arguments.first) break;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  if (arguments.count > 1) std::printf("%s\n", total.to_string().c_str());
  std::printf("%lu seeds of %s, %lu failed, %.1f s, %.0f seeds a minute\n", arguments.count,
              arguments.profile.c_str(), failed, took.count(),
              60 * static_cast<double>(arguments.count) / took.count());
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace ballast::sim

int main(int argc, char** argv) { return ballast::sim::run(argc, argv); }
