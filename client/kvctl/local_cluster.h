// A cluster of ballastd processes on this machine, in one folder:
//
//   DIR/cluster.json        who is in it; without this file DIR is no cluster
//   DIR/n1/ballastd.toml    written once, the owner may edit it
//   DIR/n1/ballastd.log     stdout and stderr, appended to
//   DIR/n1/pid              "PID START": while the process should run
//   DIR/n1/data/            the node's disk
//
// The processes are daemons: they outlive the program that started them. A pid file names the
// process's start time too, and signals go through a pidfd, so a pid that the kernel has given to
// somebody else meanwhile is never signalled.
//
// Knows processes and files alone; whether the nodes answer is the caller's to ask. Not
// thread-safe. REQUIRES: only one program at a time starts and stops nodes of a folder.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proto/base/result.h"
#include "proto/base/unique_fd.h"

namespace ballast::kvctl {

struct LocalNode {
  uint64_t id = 0;
  std::string name;     // "n1"
  std::string address;  // "127.0.0.1:7400"
  uint16_t port = 0;
};

struct LocalPlan {
  unsigned nodes = 3;
  unsigned base_port = 7400;   // node n listens on base_port + n - 1
  unsigned segment_mib = 256;  // of the log
  // What it begins with: a backup, by the directory and its name. Empty: nothing.
  std::string backup_dir = {};
  std::string backup = {};
};

class LocalCluster {
 public:
  // True if the folder holds a cluster.
  static bool holds_cluster(const std::filesystem::path& dir);
  // Makes the folder and its files; starts nothing. Errors: kRefused (the folder is not empty),
  // kInvalidArgument, kIo (a port is in use, and what the operating system reports).
  static Result<LocalCluster> create(const std::filesystem::path& dir, const LocalPlan& plan);
  // Errors: kIo (no cluster there), kCorrupt.
  static Result<LocalCluster> load(const std::filesystem::path& dir);

  const std::filesystem::path& dir() const { return dir_; }
  const std::string& uuid() const { return uuid_; }
  const LocalPlan& plan() const { return plan_; }
  const std::vector<LocalNode>& nodes() const { return nodes_; }
  std::vector<std::string> endpoints() const;

  std::filesystem::path config_path(const LocalNode& node) const;
  std::filesystem::path log_path(const LocalNode& node) const;

  // Adds a node to the folder, which waits to become a member when it is started. Errors: kRefused
  // (too many nodes), kIo.
  Result<LocalNode> add();

  // Starts a node's process in a session of its own; does nothing if it runs. Returns as soon as
  // the process exists: check_started() tells whether it stays.
  // Errors: kIo, also if its port is in use.
  Status start(const LocalNode& node, const std::filesystem::path& ballastd);
  // An error if a process that this object has started is gone without having been stopped or
  // killed; it names the node and the last line of its log.
  Status check_started();

  // SIGTERM to the nodes given, at once; SIGKILL to those that still run when `patience` has
  // passed. Returns the names of the latter. Those that do not run are passed over.
  Result<std::vector<std::string>> stop(const std::vector<LocalNode>& nodes,
                                        std::chrono::milliseconds patience);
  // SIGKILL, and waits until the process is gone. Errors: kIo, also if it does not run.
  Status kill(const LocalNode& node);

  // The same in steps, for who must know the moment of the signal: everything that takes time
  // before it is done by aim(), and strike() is one system call.
  struct Target {
    LocalNode node;
    pid_t pid = 0;
    UniqueFd handle;  // of the process: the signal can't hit another one
  };
  Result<Target> aim(const LocalNode& node) const;
  Status strike(const Target& target, int signal = SIGKILL) const;
  Status wait_gone(const Target& target);

  // Its process id; nothing if it does not run.
  std::optional<pid_t> pid(const LocalNode& node) const;
  bool running(const LocalNode& node) const { return pid(node).has_value(); }
  // What the node's log ends with; empty if it has no line.
  std::string last_log_line(const LocalNode& node) const;

  // Removes everything that create() and the nodes have made, and then the folder if nothing else
  // is left in it; returns whether it is gone. REQUIRES: no node runs.
  Result<bool> purge();

 private:
  struct Started {
    pid_t pid = 0;
    uintmax_t log_begin = 0;  // the log's length before: what comes after it is this run's
  };

  explicit LocalCluster(std::filesystem::path dir) : dir_(std::move(dir)) {}

  std::filesystem::path node_dir(const LocalNode& node) const { return dir_ / node.name; }
  std::filesystem::path pid_path(const LocalNode& node) const { return node_dir(node) / "pid"; }
  Status write_config(const LocalNode& node) const;
  Status write_description() const;
  Status format_founders(const std::filesystem::path& ballastd);
  Status forget(const LocalNode& node);

  std::filesystem::path dir_;  // absolute
  std::string uuid_;
  LocalPlan plan_;
  // False until the data directories of all nodes are formatted as founders'. A disk that is wiped
  // later must not be one again, so this is kept beside the folders of the nodes.
  bool formatted_ = false;
  std::vector<LocalNode> nodes_;
  std::map<uint64_t, Started> started_;  // by node id
};

// Where ballastd is: the path given, else the environment variable BALLASTD, else beside this
// program. Errors: kIo if there is no program.
Result<std::filesystem::path> find_ballastd(const std::string& given);

// ---- the pure parts ----

// A node's ballastd.toml.
std::string node_config(const std::filesystem::path& cluster_dir, const std::string& uuid,
                        const LocalPlan& plan, const std::vector<LocalNode>& nodes,
                        const LocalNode& node);

// The last line of a text that is not blank, without its end.
std::string_view last_line(std::string_view text);

}  // namespace ballast::kvctl
