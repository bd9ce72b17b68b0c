// A process that is killed under load: what it acknowledged over a pipe is there afterwards.
// BALLAST_KILLS=200 for more rounds than 15.
#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdlib>
#include <random>

#include "tests/unit/storage/log_testing.h"

namespace ballast::storage {
namespace {

struct Acknowledged {
  uint64_t index = 0;
  uint64_t term = 0;
};

// What is killed: a log that keeps everything, or one that forgets, and writes over what it forgot.
struct Course {
  bool forgets = false;
  size_t large_payload = 150'000;
};

size_t payload_of(const Course& course, uint64_t index) {
  return index % 7 == 0 ? course.large_payload : index * 37 % 9000;
}

// Lets go of all but the last segments, whose files are the next ones.
void forget(LogStore& log) {
  const Index base = log.may_begin_behind(log.durable());
  if (base <= log.base().index) return;
  const Term term = log.entries()[base - log.base().index - 1].term;
  bool done = false;
  log.begin_behind({base, term, 0}, [&] { done = true; });
  poll_until(log, [&] { return done; });
  for (const LogStore::Home& home : log.homes()) log.retire_home(home.segment);
}

// Appends until it is killed; some rounds replace the last entries under the next term.
[[noreturn]] void append_forever(const std::string& directory, const Course& course, int pipe,
                                 uint64_t term) {
  auto opened = open_segment_log(small_log(directory));
  if (!opened) _exit(3);
  LogStore& log = **opened;
  uint64_t index = log.last().value();
  if (index > log.base().index.value() + 10) index -= term % 3;
  const auto append_next = [&](std::optional<HardState> state) {
    ++index;
    const Acknowledged acknowledged{index, term};
    log.append(state, {make_entry(index, term, payload_of(course, index))}, [=] {
      if (::write(pipe, &acknowledged, sizeof acknowledged) != sizeof acknowledged) _exit(4);
    });
  };
  append_next(HardState{Term(term), NodeId(term % 3 + 1)});
  while (true) {
    for (int i = 0; i < 8; ++i) append_next(std::nullopt);
    const Index target(index - 4);
    poll_until(log, [&] { return log.durable() >= target; });
    if (course.forgets) forget(log);
  }
}

// Each round reads all of the log, which grows with each.
constexpr uint64_t kKillsOfALog = 15;

void kill_again_and_again(unsigned seed, const Course& course) {
  const TemporaryDirectory directory;
  std::mt19937 random(seed);
  std::vector<uint64_t> terms;  // acknowledged, of index 1, 2, ...
  for (uint64_t term = 1; term <= kKillsOfALog; ++term) {
    int pipe[2];
    ASSERT_EQ(::pipe(pipe), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(pipe[0]);
      append_forever(directory.path(), course, pipe[1], term);
    }
    ::close(pipe[1]);
    Acknowledged acknowledged;
    std::vector<Acknowledged> ledger;
    const size_t target = 1 + random() % 200;
    while (ledger.size() < target && ::read(pipe[0], &acknowledged, sizeof acknowledged) > 0)
      ledger.push_back(acknowledged);
    ::kill(child, SIGKILL);
    while (::read(pipe[0], &acknowledged, sizeof acknowledged) == sizeof acknowledged)
      ledger.push_back(acknowledged);
    ::close(pipe[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself with " << WEXITSTATUS(status);
    for (const Acknowledged& one : ledger) {
      terms.resize(one.index - 1);
      terms.push_back(one.term);
    }

    const auto log = open_log(small_log(directory.path()));
    ASSERT_TRUE(log);
    EXPECT_EQ(log->hard_state(), (HardState{Term(term), NodeId(term % 3 + 1)}));
    ASSERT_GE(log->last().value(), terms.size());
    const uint64_t base = log->base().index.value();
    // What was not acknowledged may be there too, and stays.
    terms.resize(log->last().value());
    for (const Entry& entry : read_from_base(*log)) {
      const uint64_t index = entry.index.value();
      uint64_t& known = terms[index - 1];
      if (known != 0) ASSERT_EQ(entry.term, Term(known)) << "index " << index;
      known = entry.term.value();
      ASSERT_TRUE(entry == make_entry(index, known, payload_of(course, index)));
    }
    if (course.forgets && term == kKillsOfALog) EXPECT_GT(base, 0u);
  }
}

void kill_logs(const Course& course) {
  const char* const text = std::getenv("BALLAST_KILLS");
  const uint64_t kills = text == nullptr ? kKillsOfALog : std::strtoull(text, nullptr, 10);
  for (uint64_t i = 0; i < kills && !testing::Test::HasFailure(); i += kKillsOfALog) {
    const auto seed = static_cast<unsigned>(7 + i);
    SCOPED_TRACE(fmt::format("seed {}", seed));
    kill_again_and_again(seed, course);
  }
}

TEST(LogCrash, acknowledged_entries_survive_kill_9) { kill_logs({}); }

TEST(LogCrash, acknowledged_entries_survive_kill_9_in_files_that_held_others) {
  kill_logs({.forgets = true, .large_payload = 1'500'000});
}

// The limit gives a short write first, whose rest fails.
void append_beyond_the_limit(const std::string& directory) {
  const auto log = open_log(small_log(directory));
  std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{24 * 4096, 24 * 4096};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  append_and_wait(*log, {make_entry(1, 1, 50'000)});
  append_and_wait(*log, {make_entry(2, 1, 200'000)});
}

TEST(LogCrash, a_failed_write_stops_the_process) {
  const TemporaryDirectory directory;
  EXPECT_DEATH(append_beyond_the_limit(directory.path()),
               "cannot write '.*00000000000000000001.log': File too large; the process stops");
  const auto log = open_log(small_log(directory.path()));
  EXPECT_TRUE(read_all(*log) == std::vector<Entry>{make_entry(1, 1, 50'000)});
}

}  // namespace
}  // namespace ballast::storage
