#include "client/kvctl/local_cluster.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "client/kvctl/local_process.h"
#include "proto/base/unique_fd.h"
#include "proto/base/uuid.h"

namespace ballast::kvctl {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr unsigned kNodesMax = 9;
constexpr unsigned kPortMax = 65'535;
constexpr size_t kLogTailBytes = 8192;
// A killed process may still have to wait for its disk before it is gone.
constexpr milliseconds kKillPatience{60'000};
constexpr milliseconds kFormatPatience{30'000};
constexpr milliseconds kRestorePatience{24 * 3'600'000};  // as much as a backup may hold

// ---- files ----

Status write_all(const UniqueFd& file, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(file.get(), text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return os_failure("write", file.path());
    text.remove_prefix(static_cast<size_t>(written));
  }
  return {};
}

// The file is there as a whole or not at all, whatever interrupts us.
Status write_file(const fs::path& path, std::string_view text) {
  const fs::path draft = path.string() + ".new";
  {
    UniqueFd file(::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644),
                  draft.string());
    if (!file.valid()) return os_failure("create", file.path());
    BALLAST_TRY_STATUS(write_all(file, text));
  }
  if (::rename(draft.c_str(), path.c_str()) != 0) return os_failure("create", path.string());
  return {};
}

Status make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return os_failure("make the folder", path.string(), error.value());
  return {};
}

std::string toml_string(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      quoted += fmt::format("\\u{:04X}", byte);
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

// ---- the plan ----

std::vector<LocalNode> plan_nodes(const LocalPlan& plan) {
  std::vector<LocalNode> nodes;
  for (unsigned i = 0; i < plan.nodes; ++i) {
    const unsigned port = plan.base_port + i;
    nodes.push_back({.id = i + 1,
                     .name = fmt::format("n{}", i + 1),
                     .address = fmt::format("127.0.0.1:{}", port),
                     .port = static_cast<uint16_t>(port)});
  }
  return nodes;
}

Status check_plan(const LocalPlan& plan) {
  if (plan.nodes < 1 || plan.nodes > kNodesMax) {
    return fail(Errc::kInvalidArgument, "a local cluster has 1 to {} nodes, not {}", kNodesMax,
                plan.nodes);
  }
  if (plan.base_port < 1 || plan.base_port + plan.nodes - 1 > kPortMax) {
    return fail(Errc::kInvalidArgument,
                "base port {} leaves no {} ports up to {}: choose a smaller --base-port",
                plan.base_port, plan.nodes, kPortMax);
  }
  if (plan.segment_mib < 1) {
    return fail(Errc::kInvalidArgument, "a log segment of 0 MiB holds nothing: choose 1 or more");
  }
  return {};
}

// Tries what ballastd will do. SO_REUSEADDR lets connections that linger after a restart not count;
// a socket that listens still does.
bool port_is_free(uint16_t port) {
  UniqueFd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "");
  const int on = 1;
  ::setsockopt(probe.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return ::bind(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
         ::listen(probe.get(), 1) == 0;
}

Json describe(const std::string& uuid, const LocalPlan& plan, bool formatted,
              const std::vector<LocalNode>& nodes) {
  Json list = Json::array();
  for (const LocalNode& node : nodes) {
    list.push_back({{"id", node.id}, {"name", node.name}, {"address", node.address}});
  }
  return {{"cluster", uuid},
          {"base_port", plan.base_port},
          {"segment_mib", plan.segment_mib},
          {"backup_dir", plan.backup_dir},
          {"backup", plan.backup},
          {"formatted", formatted},
          {"nodes", std::move(list)}};
}

Status wait_killed(int handle, pid_t pid, const std::string& node) {
  if (wait_until_gone(handle, Clock::now() + kKillPatience)) return {};
  return fail(Errc::kIo, "process {} of node '{}' does not end after SIGKILL: is its disk stuck?",
              pid, node);
}

// The last line of what the file holds from `begin` on.
std::string last_line_since(const fs::path& path, uintmax_t begin) {
  std::error_code error;
  const uintmax_t size = fs::file_size(path, error);
  if (error || size <= begin) return {};
  const uintmax_t length = std::min<uintmax_t>(size - begin, kLogTailBytes);
  std::string tail(static_cast<size_t>(length), '\0');
  std::ifstream file(path, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(size - length));
  file.read(tail.data(), static_cast<std::streamsize>(tail.size()));
  tail.resize(static_cast<size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  return std::string(last_line(tail));
}

}  // namespace

// ---- the pure parts ----

std::string node_config(const fs::path& cluster_dir, const std::string& uuid, const LocalPlan& plan,
                        const std::vector<LocalNode>& nodes, const LocalNode& node) {
  std::vector<std::string> members;
  for (const LocalNode& member : nodes) {
    members.push_back(fmt::format("  {{ id = {}, name = {}, address = {} }}", member.id,
                                  toml_string(member.name), toml_string(member.address)));
  }
  return fmt::format(
      "# Written by `kvctl local up`, which leaves it alone from then on.\n"
      "[node]\n"
      "id = {}\n"
      "name = {}\n"
      "listen = {}\n"
      "data_dir = {}\n\n"
      "[cluster]\n"
      "id = {}\n"
      "members = [\n{}\n]\n\n"
      "[log]\n"
      "segment_mib = {}\n",
      node.id, toml_string(node.name), toml_string(node.address),
      toml_string((cluster_dir / node.name / "data").string()), toml_string(uuid),
      fmt::join(members, ",\n"), plan.segment_mib);
}

std::string_view last_line(std::string_view text) {
  const size_t end = text.find_last_not_of(" \t\r\n");
  if (end == std::string_view::npos) return {};
  text = text.substr(0, end + 1);
  const size_t before = text.rfind('\n');
  return before == std::string_view::npos ? text : text.substr(before + 1);
}

// ---- LocalCluster ----

bool LocalCluster::holds_cluster(const fs::path& dir) {
  std::error_code error;
  return fs::is_regular_file(dir / "cluster.json", error);
}

Result<LocalCluster> LocalCluster::create(const fs::path& dir, const LocalPlan& plan) {
  BALLAST_TRY_STATUS(check_plan(plan));
  std::error_code error;
  if (fs::exists(dir, error) && !fs::is_empty(dir, error)) {
    return fail(Errc::kRefused, "'{}' is not empty and holds no cluster: choose another --dir",
                dir.string());
  }
  LocalCluster cluster(fs::absolute(dir, error).lexically_normal());
  cluster.uuid_ = Uuid::random().to_string();
  cluster.plan_ = plan;
  cluster.nodes_ = plan_nodes(plan);
  for (const LocalNode& node : cluster.nodes_) {
    if (!port_is_free(node.port)) {
      return fail(Errc::kIo, "port {} is in use: choose another --base-port", node.port);
    }
  }
  BALLAST_TRY_STATUS(make_folder(cluster.dir_));
  // cluster.json comes first: a folder that was left half made is then still known as ours, and
  // start() writes what is missing.
  BALLAST_TRY_STATUS(cluster.write_description());
  for (const LocalNode& node : cluster.nodes_) BALLAST_TRY_STATUS(cluster.write_config(node));
  return cluster;
}

Result<LocalCluster> LocalCluster::load(const fs::path& dir) {
  std::error_code error;
  LocalCluster cluster(fs::absolute(dir, error).lexically_normal());
  const fs::path path = cluster.dir_ / "cluster.json";
  const auto text = read_text(path);
  if (!text) {
    return fail(Errc::kIo, "'{}' holds no cluster: make one with `kvctl local up --dir {}`",
                dir.string(), dir.string());
  }
  const Json json = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  const auto number = [&json](const char* name) -> unsigned {
    const auto field = json.find(name);
    const bool fits =
        field != json.end() && field->is_number_unsigned() && field->get<uint64_t>() <= kPortMax;
    return fits ? field->get<unsigned>() : 0;
  };
  // Not there in a folder of an earlier version.
  const auto text_of = [&json](const char* name) -> std::string {
    const auto field = json.find(name);
    return field != json.end() && field->is_string() ? field->get<std::string>() : std::string();
  };
  if (json.is_object() && json.contains("cluster") && json["cluster"].is_string() &&
      json.contains("nodes") && json["nodes"].is_array()) {
    cluster.uuid_ = json["cluster"].get<std::string>();
    cluster.plan_ = {.nodes = static_cast<unsigned>(json["nodes"].size()),
                     .base_port = number("base_port"),
                     .segment_mib = number("segment_mib"),
                     .backup_dir = text_of("backup_dir"),
                     .backup = text_of("backup")};
  }
  // Names and addresses follow from the plan, so they are derived and not believed.
  if (!Uuid::parse(cluster.uuid_) || !check_plan(cluster.plan_)) {
    return fail(Errc::kCorrupt, "'{}' is damaged: restore it, or remove the folder and start anew",
                path.string());
  }
  cluster.formatted_ = json.value("formatted", false);
  cluster.nodes_ = plan_nodes(cluster.plan_);
  return cluster;
}

Status LocalCluster::write_description() const {
  const Json json = describe(uuid_, plan_, formatted_, nodes_);
  return write_file(dir_ / "cluster.json", json.dump(2) + "\n");
}

Result<LocalNode> LocalCluster::add() {
  LocalPlan plan = plan_;
  ++plan.nodes;
  if (!check_plan(plan) || !formatted_) {
    return fail(Errc::kRefused, "'{}' takes no further node: {}", dir_.string(),
                formatted_ ? "it has as many as there may be" : "it was never started");
  }
  const std::vector<LocalNode> nodes = plan_nodes(plan);
  if (!port_is_free(nodes.back().port)) {
    return fail(Errc::kIo, "port {} is in use: free it first", nodes.back().port);
  }
  plan_ = plan;
  nodes_ = nodes;
  BALLAST_TRY_STATUS(write_config(nodes_.back()));
  BALLAST_TRY_STATUS(write_description());
  return nodes_.back();
}

std::vector<std::string> LocalCluster::endpoints() const {
  std::vector<std::string> endpoints;
  for (const LocalNode& node : nodes_) endpoints.push_back(node.address);
  return endpoints;
}

fs::path LocalCluster::config_path(const LocalNode& node) const {
  return node_dir(node) / "ballastd.toml";
}

fs::path LocalCluster::log_path(const LocalNode& node) const {
  return node_dir(node) / "ballastd.log";
}

Status LocalCluster::write_config(const LocalNode& node) const {
  std::error_code error;
  if (fs::exists(config_path(node), error)) return {};
  BALLAST_TRY_STATUS(make_folder(node_dir(node)));
  return write_file(config_path(node), node_config(dir_, uuid_, plan_, nodes_, node));
}

Status LocalCluster::format_founders(const fs::path& ballastd) {
  for (const LocalNode& node : nodes_) {
    BALLAST_TRY_STATUS(write_config(node));
    std::vector<std::string> words = {ballastd.string(), "--config", config_path(node),
                                      "--bootstrap"};
    const bool restores = !plan_.backup_dir.empty();
    if (restores)
      words.insert(words.end(), {"--from-backup", plan_.backup_dir, "--backup", plan_.backup});
    BALLAST_TRY(const pid_t pid, start_daemon(words, log_path(node)));
    const UniqueFd handle(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)), "");
    const milliseconds patience = restores ? kRestorePatience : kFormatPatience;
    if (!exits_until(handle.get(), Clock::now() + patience)) ::kill(pid, SIGKILL);
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    if (status != 0) {
      return fail(Errc::kIo, "the disk of node '{}' can't be formatted: {}", node.name,
                  last_log_line(node));
    }
  }
  formatted_ = true;
  return write_description();
}

Status LocalCluster::start(const LocalNode& node, const fs::path& ballastd) {
  if (running(node)) return {};
  if (!formatted_) BALLAST_TRY_STATUS(format_founders(ballastd));
  if (const auto ending = open_process(pid_path(node))) {
    wait_until_gone(ending->handle.get(), Clock::now() + kKillPatience);
  }
  BALLAST_TRY_STATUS(write_config(node));
  if (!port_is_free(node.port)) {
    return fail(Errc::kIo, "node '{}' can't listen on {}: port {} is in use by another process",
                node.name, node.address, node.port);
  }
  std::error_code error;
  const uintmax_t log_size = fs::file_size(log_path(node), error);
  BALLAST_TRY(const pid_t pid,
              start_daemon({ballastd.string(), "--config", config_path(node)}, log_path(node)));
  started_[node.id] = {.pid = pid, .log_begin = error ? 0 : log_size};
  // It is our child and nobody has reaped it, so its stat is there even if it has exited already.
  const auto stat = process_stat(pid);
  Status noted =
      write_file(pid_path(node), fmt::format("{} {}\n", pid, stat ? stat->start_time : 0));
  // Without its pid file nobody could stop it later. Our own child's pid can't be another's yet.
  if (!noted) ::kill(pid, SIGKILL);
  return noted;
}

Status LocalCluster::check_started() {
  for (const LocalNode& node : nodes_) {
    const auto entry = started_.find(node.id);
    if (entry == started_.end()) continue;
    int status = 0;
    if (::waitpid(entry->second.pid, &status, WNOHANG) != entry->second.pid) continue;
    std::string line = last_line_since(log_path(node), entry->second.log_begin);
    if (line.empty()) line = "(it logged nothing)";
    BALLAST_TRY_STATUS(forget(node));
    return fail(Errc::kIo, "node '{}' {}: {} (see {})", node.name, describe_exit(status), line,
                log_path(node).string());
  }
  return {};
}

Status LocalCluster::forget(const LocalNode& node) {
  started_.erase(node.id);
  if (::unlink(pid_path(node).c_str()) != 0 && errno != ENOENT) {
    return os_failure("remove", pid_path(node).string());
  }
  return {};
}

Result<std::vector<std::string>> LocalCluster::stop(const std::vector<LocalNode>& nodes,
                                                    milliseconds patience) {
  const auto deadline = Clock::now() + patience;
  std::vector<std::pair<LocalNode, Process>> running;
  for (const LocalNode& node : nodes) {
    auto process = open_process(pid_path(node));
    if (!process) {
      BALLAST_TRY_STATUS(forget(node));
      continue;
    }
    BALLAST_TRY_STATUS(send_signal(*process, SIGTERM));
    running.emplace_back(node, std::move(*process));
  }
  std::vector<std::string> killed;
  for (const auto& [node, process] : running) {
    if (!wait_until_gone(process.handle.get(), deadline)) {
      BALLAST_TRY_STATUS(send_signal(process, SIGKILL));
      BALLAST_TRY_STATUS(wait_killed(process.handle.get(), process.pid, node.name));
      killed.push_back(node.name);
    }
    BALLAST_TRY_STATUS(forget(node));
  }
  return killed;
}

Status LocalCluster::kill(const LocalNode& node) {
  BALLAST_TRY(const Target target, aim(node));
  BALLAST_TRY_STATUS(strike(target));
  return wait_gone(target);
}

Result<LocalCluster::Target> LocalCluster::aim(const LocalNode& node) const {
  auto process = open_process(pid_path(node));
  if (process) return Target{node, process->pid, std::move(process->handle)};
  return fail(Errc::kIo, "node '{}' does not run: start it with `kvctl local up --dir {}`",
              node.name, dir_.string());
}

Status LocalCluster::strike(const Target& target, int signal) const {
  if (::syscall(SYS_pidfd_send_signal, target.handle.get(), signal, nullptr, 0) == 0) return {};
  return fail(Errc::kIo, "cannot send signal {} to process {} of node '{}': {}", signal, target.pid,
              target.node.name, std::strerror(errno));
}

Status LocalCluster::wait_gone(const Target& target) {
  BALLAST_TRY_STATUS(wait_killed(target.handle.get(), target.pid, target.node.name));
  return forget(target.node);
}

std::optional<pid_t> LocalCluster::pid(const LocalNode& node) const {
  const auto process = open_process(pid_path(node));
  return process && process->runs ? std::optional(process->pid) : std::nullopt;
}

std::string LocalCluster::last_log_line(const LocalNode& node) const {
  return last_line_since(log_path(node), 0);
}

Result<bool> LocalCluster::purge() {
  std::error_code error;
  for (const LocalNode& node : nodes_) {
    fs::remove_all(node_dir(node), error);
    if (error) return os_failure("remove", node_dir(node).string(), error.value());
  }
  // Last, so that a purge that was interrupted can be repeated.
  fs::remove(dir_ / "cluster.json", error);
  if (error) return os_failure("remove", (dir_ / "cluster.json").string(), error.value());
  if (!fs::is_empty(dir_, error)) return false;
  fs::remove(dir_, error);
  if (error) return os_failure("remove", dir_.string(), error.value());
  return true;
}

Result<fs::path> find_ballastd(const std::string& given) {
  const char* const environment = std::getenv("BALLASTD");
  fs::path path;
  if (!given.empty()) {
    path = given;
  } else if (environment != nullptr && *environment != '\0') {
    path = environment;
  } else {
    std::error_code error;
    path = fs::read_symlink("/proc/self/exe", error).parent_path() / "ballastd";
  }
  std::error_code error;
  path = fs::absolute(path, error);
  if (!fs::is_regular_file(path, error) || ::access(path.c_str(), X_OK) != 0) {
    return fail(Errc::kIo, "'{}' is no program: say where ballastd is with --ballastd PATH",
                path.string());
  }
  return path;
}

}  // namespace ballast::kvctl
