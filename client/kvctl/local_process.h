// Processes that outlive the program that started them, and signals that can't hit another one.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proto/base/result.h"
#include "proto/base/unique_fd.h"

namespace ballast::kvctl {

// What /proc/PID/stat says of a process.
struct ProcessStat {
  char state = 0;           // 'R', 'S', ..., 'Z' for one that has exited and is not reaped
  uint64_t start_time = 0;  // in clock ticks since the machine booted

  bool operator==(const ProcessStat&) const = default;
};
std::optional<ProcessStat> parse_process_stat(std::string_view text);
std::optional<ProcessStat> process_stat(pid_t pid);

// A running process of ours, held by a descriptor: what is done through it can't hit another one.
struct Process {
  pid_t pid = 0;
  UniqueFd handle;
  bool runs = false;  // else it is ending: its other threads still hold its port and its files
};

// The process that a pid file names, if it is the one that was meant and is not gone.
std::optional<Process> open_process(const std::filesystem::path& pid_path);
Status send_signal(const Process& process, int signal);

// Whether the process has exited, with all of its threads, when the deadline passes.
bool exits_until(int handle, std::chrono::steady_clock::time_point deadline);
// The same, and if it has exited and was our child, it is reaped.
bool wait_until_gone(int handle, std::chrono::steady_clock::time_point deadline);

// Starts a daemon: its own session, no terminal, none of our descriptors, masks or ignored signals;
// its output goes to the end of `log`. Errors: kIo.
Result<pid_t> start_daemon(const std::vector<std::string>& words, const std::filesystem::path& log);
// "was ended by signal 9", "exited with code 1"
std::string describe_exit(int status);

// The whole of a small file; nothing if it can't be read.
std::optional<std::string> read_text(const std::filesystem::path& path);

}  // namespace ballast::kvctl
