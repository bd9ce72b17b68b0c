#include "client/kvctl/local_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <utility>

extern char** environ;

namespace ballast::kvctl {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

bool alive(const ProcessStat& stat) { return stat.state != 'Z' && stat.state != 'X'; }

// posix_spawn() and its attributes. It is used instead of fork() because the drill has threads.
class Spawn {
 public:
  Spawn() {
    ::posix_spawn_file_actions_init(&files_);
    ::posix_spawnattr_init(&attributes_);
  }
  ~Spawn() {
    ::posix_spawn_file_actions_destroy(&files_);
    ::posix_spawnattr_destroy(&attributes_);
  }
  Spawn(const Spawn&) = delete;
  Spawn& operator=(const Spawn&) = delete;

  // A daemon: its own session, no terminal, none of our descriptors, masks or ignored signals.
  Result<pid_t> daemon(const std::vector<std::string>& words, const fs::path& log) {
    ::posix_spawn_file_actions_addopen(&files_, 0, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_addopen(&files_, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND,
                                       0644);
    ::posix_spawn_file_actions_adddup2(&files_, 1, 2);
    ::posix_spawn_file_actions_addclosefrom_np(&files_, 3);
    sigset_t none;
    sigset_t all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    ::posix_spawnattr_setsigdefault(&attributes_, &all);
    ::posix_spawnattr_setflags(&attributes_,
                               POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    std::vector<char*> arguments;
    for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    pid_t pid = 0;
    const int number = ::posix_spawn(&pid, words.front().c_str(), &files_, &attributes_,
                                     arguments.data(), environ);
    if (number != 0) return os_failure("start", words.front(), number);
    return pid;
  }

 private:
  posix_spawn_file_actions_t files_{};
  posix_spawnattr_t attributes_{};
};

}  // namespace

std::optional<std::string> read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::optional<ProcessStat> parse_process_stat(std::string_view text) {
  // "PID (NAME) STATE ...": the name may hold spaces and parentheses, so its end is the last one.
  const size_t name_end = text.rfind(')');
  if (name_end == std::string_view::npos) return std::nullopt;
  text.remove_prefix(name_end + 1);
  constexpr int kStateField = 3;
  constexpr int kStartTimeField = 22;
  ProcessStat stat;
  for (int field = kStateField; field <= kStartTimeField; ++field) {
    const size_t begin = text.find_first_not_of(' ');
    if (begin == std::string_view::npos) return std::nullopt;
    text.remove_prefix(begin);
    const std::string_view word = text.substr(0, text.find_first_of(" \n"));
    if (field == kStateField) stat.state = word.front();
    if (field == kStartTimeField) {
      const auto parsed = std::from_chars(word.data(), word.data() + word.size(), stat.start_time);
      if (parsed.ec != std::errc{} || parsed.ptr != word.data() + word.size()) return std::nullopt;
    }
    text.remove_prefix(word.size());
  }
  return stat;
}

std::optional<ProcessStat> process_stat(pid_t pid) {
  const auto text = read_text(fmt::format("/proc/{}/stat", pid));
  return text ? parse_process_stat(*text) : std::nullopt;
}

bool exits_until(int handle, Clock::time_point deadline) {
  pollfd entry{.fd = handle, .events = POLLIN, .revents = 0};
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
    const int ready = ::poll(&entry, 1, static_cast<int>(std::max<int64_t>(left.count(), 0)));
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

bool wait_until_gone(int handle, Clock::time_point deadline) {
  if (!exits_until(handle, deadline)) return false;
  siginfo_t unused{};
  ::waitid(P_PIDFD, static_cast<id_t>(handle), &unused, WEXITED | WNOHANG);
  return true;
}

std::optional<Process> open_process(const fs::path& pid_path) {
  const auto text = read_text(pid_path);
  if (!text) return std::nullopt;
  pid_t pid = 0;
  uint64_t start_time = 0;
  const char* const end = text->data() + text->size();
  const auto first = std::from_chars(text->data(), end, pid);
  if (first.ec != std::errc{} || first.ptr == end || pid <= 0) return std::nullopt;
  const auto second = std::from_chars(first.ptr + 1, end, start_time);
  if (second.ec != std::errc{}) return std::nullopt;

  // The descriptor first and the check afterwards: from here on the pid can't change its owner.
  UniqueFd handle(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)), pid_path.string());
  if (!handle.valid()) return std::nullopt;
  const auto stat = process_stat(pid);
  if (!stat || stat->start_time != start_time) return std::nullopt;
  Process process{pid, std::move(handle), alive(*stat)};
  // Not reaped: check_started() wants to know how it ended.
  if (exits_until(process.handle.get(), Clock::now())) return std::nullopt;
  return process;
}

Status send_signal(const Process& process, int signal) {
  if (::syscall(SYS_pidfd_send_signal, process.handle.get(), signal, nullptr, 0) != 0 &&
      errno != ESRCH) {
    return fail(Errc::kIo, "cannot signal process {}: {}", process.pid, std::strerror(errno));
  }
  return {};
}

Result<pid_t> start_daemon(const std::vector<std::string>& words, const fs::path& log) {
  return Spawn().daemon(words, log);
}

std::string describe_exit(int status) {
  if (WIFSIGNALED(status)) return fmt::format("was ended by signal {}", WTERMSIG(status));
  return fmt::format("exited with code {}", WEXITSTATUS(status));
}

}  // namespace ballast::kvctl
