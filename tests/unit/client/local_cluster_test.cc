#include "client/kvctl/local_cluster.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>

#include "client/kvctl/local_process.h"
#include "proto/base/unique_fd.h"

namespace ballast::kvctl {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

// A socket that listens on the port; not valid if somebody else has it.
UniqueFd listen_on(unsigned port) {
  UniqueFd holder(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::bind(holder.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(holder.get(), 1) != 0) {
    holder.reset();
  }
  return holder;
}

// Three ports in a row that are free, below those that the kernel gives to outgoing connections.
// Tests that run at the same time begin their search at different places.
unsigned free_base_port() {
  constexpr unsigned kFirst = 20'000;
  constexpr unsigned kTriples = 3'000;
  for (unsigned i = 0;; ++i) {
    const unsigned base = kFirst + 3 * ((static_cast<unsigned>(::getpid()) + i) % kTriples);
    if (listen_on(base).valid() && listen_on(base + 1).valid() && listen_on(base + 2).valid()) {
      return base;
    }
  }
}

class LocalClusterTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "local_cluster_test_XXXXXX";
    root_ = ::mkdtemp(pattern.data());
    base_port_ = free_base_port();
  }
  void TearDown() override {
    if (auto cluster = LocalCluster::load(dir())) {
      (void)cluster->stop(cluster->nodes(), 0ms);
    }
    fs::remove_all(root_);
  }

  fs::path dir() const { return root_ / "cluster"; }

  LocalCluster make(unsigned nodes = 3) {
    auto cluster = LocalCluster::create(dir(), {.nodes = nodes, .base_port = base_port_});
    if (!cluster) throw std::runtime_error(cluster.error().to_string());
    return *std::move(cluster);
  }

  // A program that stands in for ballastd.
  fs::path program(const std::string& script) {
    const fs::path path = root_ / "program";
    std::ofstream(path) << "#!/bin/sh\n[ \"$3\" = --bootstrap ] && exit 0\n" << script << "\n";
    fs::permissions(path, fs::perms::owner_all);
    return path;
  }

  static std::string text_of(const fs::path& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  // Until the program has come as far as writing this.
  static void wait_for_log(const LocalCluster& cluster, const LocalNode& node,
                           const std::string& line) {
    for (int i = 0; i < 500 && cluster.last_log_line(node) != line; ++i) {
      std::this_thread::sleep_for(10ms);
    }
    EXPECT_EQ(cluster.last_log_line(node), line);
  }

  static Status wait_for_exit(LocalCluster& cluster) {
    for (int i = 0; i < 500; ++i) {
      if (Status status = cluster.check_started(); !status) return status;
      std::this_thread::sleep_for(10ms);
    }
    return {};
  }

  fs::path root_;
  unsigned base_port_ = 0;
};

constexpr const char* kStays = "echo up; exec sleep 1000";

TEST(ProcessStat, reads_state_and_start_time) {
  const auto stat = parse_process_stat(
      "1234 (ballastd) S 1 1234 1234 0 -1 4194560 1000 0 0 0 5 6 0 0 20 0 9 0 8877665 123 45\n");
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->state, 'S');
  EXPECT_EQ(stat->start_time, 8877665U);
}

TEST(ProcessStat, is_not_misled_by_the_programs_name) {
  const auto stat = parse_process_stat(
      "1234 (a) Z 1 (b) R 1 1234 1234 0 -1 4194560 1000 0 0 0 5 6 0 0 20 0 9 0 42 123 45\n");
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->state, 'R');
  EXPECT_EQ(stat->start_time, 42U);
}

TEST(ProcessStat, refuses_what_is_cut_or_no_number) {
  EXPECT_FALSE(parse_process_stat(""));
  EXPECT_FALSE(parse_process_stat("1234 (x"));
  EXPECT_FALSE(parse_process_stat("1234 (x)"));
  EXPECT_FALSE(parse_process_stat("1234 (x) S 1 2 3"));
  EXPECT_FALSE(parse_process_stat("1 (x) S 1 1 1 0 -1 4 1 0 0 0 5 6 0 0 20 0 9 0 soon 123\n"));
}

TEST(LastLine, is_the_last_that_says_something) {
  EXPECT_EQ(last_line(""), "");
  EXPECT_EQ(last_line("\n \n"), "");
  EXPECT_EQ(last_line("one"), "one");
  EXPECT_EQ(last_line("one\ntwo\n\n  \n"), "two");
  EXPECT_EQ(last_line("one\r\ntwo\r\n"), "two");
}

TEST_F(LocalClusterTest, create_writes_what_load_reads) {
  const LocalCluster made = make();
  const auto loaded = LocalCluster::load(dir());
  ASSERT_TRUE(loaded) << loaded.error().to_string();
  EXPECT_EQ(loaded->uuid(), made.uuid());
  EXPECT_EQ(loaded->endpoints(), made.endpoints());
  EXPECT_EQ(loaded->plan().segment_mib, 256U);
  ASSERT_EQ(loaded->nodes().size(), 3U);
  EXPECT_EQ(loaded->nodes()[2].name, "n3");
  EXPECT_EQ(loaded->nodes()[2].id, 3U);
  EXPECT_EQ(loaded->nodes()[2].address, "127.0.0.1:" + std::to_string(base_port_ + 2));
  EXPECT_FALSE(loaded->running(loaded->nodes()[0]));
}

TEST_F(LocalClusterTest, config_names_the_node_and_all_members) {
  const LocalCluster cluster = make(2);
  const std::string port1 = std::to_string(base_port_);
  const std::string port2 = std::to_string(base_port_ + 1);
  EXPECT_EQ(text_of(cluster.config_path(cluster.nodes()[1])),
            "# Written by `kvctl local up`, which leaves it alone from then on.\n"
            "[node]\n"
            "id = 2\n"
            "name = \"n2\"\n"
            "listen = \"127.0.0.1:" +
                port2 +
                "\"\n"
                "data_dir = \"" +
                dir().string() +
                "/n2/data\"\n\n"
                "[cluster]\n"
                "id = \"" +
                cluster.uuid() +
                "\"\n"
                "members = [\n"
                "  { id = 1, name = \"n1\", address = \"127.0.0.1:" +
                port1 +
                "\" },\n"
                "  { id = 2, name = \"n2\", address = \"127.0.0.1:" +
                port2 +
                "\" }\n"
                "]\n\n"
                "[log]\n"
                "segment_mib = 256\n");
}

TEST(NodeConfig, quotes_a_path_as_toml_does) {
  const LocalNode node{.id = 1, .name = "n1", .address = "127.0.0.1:1", .port = 1};
  const std::string text = node_config("/a\"b\\c\td", "u", LocalPlan{}, {node}, node);
  EXPECT_NE(text.find("data_dir = \"/a\\\"b\\\\c\\u0009d/n1/data\""), std::string::npos) << text;
}

TEST_F(LocalClusterTest, create_leaves_a_strangers_folder_alone) {
  fs::create_directories(dir());
  std::ofstream(dir() / "thesis.tex") << "years of work";
  const auto cluster = LocalCluster::create(dir(), {.nodes = 3, .base_port = base_port_});
  ASSERT_FALSE(cluster);
  EXPECT_EQ(cluster.error().code, Errc::kRefused);
  EXPECT_FALSE(fs::exists(dir() / "cluster.json"));
}

TEST_F(LocalClusterTest, create_takes_an_empty_folder) {
  fs::create_directories(dir());
  EXPECT_TRUE(LocalCluster::create(dir(), {.nodes = 1, .base_port = base_port_}));
}

TEST_F(LocalClusterTest, create_says_which_port_is_in_use) {
  const UniqueFd holder = listen_on(base_port_ + 1);
  ASSERT_TRUE(holder.valid());
  const auto cluster = LocalCluster::create(dir(), {.nodes = 3, .base_port = base_port_});
  ASSERT_FALSE(cluster);
  EXPECT_EQ(cluster.error().code, Errc::kIo);
  EXPECT_EQ(cluster.error().message,
            "port " + std::to_string(base_port_ + 1) + " is in use: choose another --base-port");
  EXPECT_FALSE(fs::exists(dir())) << "nothing is made before all ports are free";
}

TEST_F(LocalClusterTest, create_refuses_impossible_plans) {
  for (const LocalPlan& plan :
       {LocalPlan{.nodes = 0}, LocalPlan{.nodes = 10}, LocalPlan{.nodes = 3, .base_port = 65'534},
        LocalPlan{.nodes = 1, .base_port = 0}, LocalPlan{.nodes = 1, .segment_mib = 0}}) {
    const auto cluster = LocalCluster::create(dir(), plan);
    ASSERT_FALSE(cluster);
    EXPECT_EQ(cluster.error().code, Errc::kInvalidArgument);
  }
}

TEST_F(LocalClusterTest, load_tells_nothing_there_from_damage) {
  auto none = LocalCluster::load(dir());
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, Errc::kIo);
  fs::create_directories(dir());
  for (const char* text : {"", "{", "[]", "{}", R"({"cluster":"x","nodes":[1],"base_port":1})",
                           R"({"cluster":7,"nodes":7})"}) {
    std::ofstream(dir() / "cluster.json") << text;
    const auto cluster = LocalCluster::load(dir());
    ASSERT_FALSE(cluster) << text;
    EXPECT_EQ(cluster.error().code, Errc::kCorrupt) << text;
  }
  fs::remove(dir() / "cluster.json");
}

TEST_F(LocalClusterTest, starts_once_and_stops) {
  LocalCluster cluster = make(2);
  const LocalNode node = cluster.nodes()[0];
  ASSERT_TRUE(cluster.start(node, program(kStays)));
  const auto pid = cluster.pid(node);
  ASSERT_TRUE(pid);
  ASSERT_TRUE(cluster.start(node, program(kStays)));
  EXPECT_EQ(cluster.pid(node), pid) << "it ran already";
  EXPECT_EQ(::getsid(*pid), *pid) << "it has its own session";
  EXPECT_TRUE(cluster.check_started());
  EXPECT_EQ(LocalCluster::load(dir())->pid(node), pid) << "any program can find it";
  wait_for_log(cluster, node, "up");

  const auto killed = cluster.stop(cluster.nodes(), 5000ms);
  ASSERT_TRUE(killed) << killed.error().to_string();
  EXPECT_TRUE(killed->empty()) << "SIGTERM was enough";
  EXPECT_FALSE(cluster.running(node));
  EXPECT_FALSE(fs::exists(dir() / "n1" / "pid"));
  EXPECT_TRUE(cluster.check_started()) << "it was stopped, it did not fail";
}

TEST_F(LocalClusterTest, gets_its_config_as_argument) {
  LocalCluster cluster = make(1);
  const LocalNode node = cluster.nodes()[0];
  ASSERT_TRUE(cluster.start(node, program("echo \"$1 $2\"; exec sleep 1000")));
  wait_for_log(cluster, node, "--config " + cluster.config_path(node).string());
}

TEST_F(LocalClusterTest, disks_are_formatted_once_and_a_node_that_is_added_is_not) {
  LocalCluster cluster = make(2);
  EXPECT_EQ(cluster.add().error().code, Errc::kRefused) << "it was never started";
  const fs::path notes = root_ / "formatted";
  const fs::path path = root_ / "noting";
  std::ofstream(path) << "#!/bin/sh\nif [ \"$3\" = --bootstrap ]; then echo \"$2\" >> " << notes
                      << "; exit 0; fi\necho up; exec sleep 1000\n";
  fs::permissions(path, fs::perms::owner_all);
  ASSERT_TRUE(cluster.start(cluster.nodes()[0], path));
  const std::string both = cluster.config_path(cluster.nodes()[0]).string() + "\n" +
                           cluster.config_path(cluster.nodes()[1]).string() + "\n";
  EXPECT_EQ(text_of(notes), both);

  const auto third = cluster.add();
  ASSERT_TRUE(third) << third.error().to_string();
  EXPECT_EQ(third->name, "n3");
  LocalCluster again = *LocalCluster::load(dir());
  ASSERT_EQ(again.nodes().size(), 3U);
  ASSERT_TRUE(again.start(*third, path));
  ASSERT_TRUE(again.start(again.nodes()[1], path));
  EXPECT_EQ(text_of(notes), both) << "a disk that is wiped later must not be a founder's again";
}

// Also if it is another program that goes on: all founders must begin with the same backup.
TEST_F(LocalClusterTest, every_founder_begins_with_the_backup_that_was_named_first) {
  const fs::path notes = root_ / "formatted";
  const fs::path path = root_ / "noting";
  std::ofstream(path) << "#!/bin/sh\nif [ \"$3\" = --bootstrap ]; then shift 3; echo \"$*\" >> "
                      << notes << "; [ -e " << root_ / "works" << " ]; exit; fi\nexec sleep 1000\n";
  fs::permissions(path, fs::perms::owner_all);
  {
    auto cluster = LocalCluster::create(
        dir(),
        {.nodes = 2, .base_port = base_port_, .backup_dir = "/the backups", .backup = "one"});
    ASSERT_TRUE(cluster) << cluster.error().to_string();
    EXPECT_FALSE(cluster->start(cluster->nodes()[0], path)) << "the first restore broke off";
  }
  std::ofstream(root_ / "works") << "";
  LocalCluster again = *LocalCluster::load(dir());
  const Status started = again.start(again.nodes()[0], path);
  ASSERT_TRUE(started) << started.error().to_string();
  const std::string words = "--from-backup /the backups --backup one\n";
  EXPECT_EQ(text_of(notes), words + words + words) << "once, and then for both";
}

TEST_F(LocalClusterTest, kills_what_does_not_listen_to_sigterm) {
  LocalCluster cluster = make(1);
  const LocalNode node = cluster.nodes()[0];
  ASSERT_TRUE(
      cluster.start(node, program("trap '' TERM; echo deaf; while :; do sleep 0.05; done")));
  wait_for_log(cluster, node, "deaf");
  const auto killed = cluster.stop(cluster.nodes(), 100ms);
  ASSERT_TRUE(killed) << killed.error().to_string();
  EXPECT_EQ(*killed, std::vector<std::string>{"n1"});
  EXPECT_FALSE(cluster.running(node));
}

TEST_F(LocalClusterTest, kill_waits_until_it_is_gone_and_it_can_be_started_again) {
  LocalCluster cluster = make(1);
  const LocalNode node = cluster.nodes()[0];
  ASSERT_TRUE(cluster.start(node, program(kStays)));
  const pid_t pid = *cluster.pid(node);
  ASSERT_TRUE(cluster.kill(node));
  EXPECT_EQ(::kill(pid, 0), -1) << "reaped";
  EXPECT_FALSE(cluster.running(node));
  const Status again = cluster.kill(node);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, Errc::kIo);
  ASSERT_TRUE(cluster.start(node, program(kStays)));
  EXPECT_TRUE(cluster.running(node));
}

TEST_F(LocalClusterTest, kill_in_steps_ends_the_process_that_was_aimed_at) {
  LocalCluster cluster = make(1);
  const LocalNode node = cluster.nodes()[0];
  EXPECT_EQ(cluster.aim(node).error().code, Errc::kIo) << "it does not run";
  ASSERT_TRUE(cluster.start(node, program(kStays)));
  const auto target = cluster.aim(node);
  ASSERT_TRUE(target) << target.error().to_string();
  EXPECT_EQ(target->pid, *cluster.pid(node));
  EXPECT_TRUE(cluster.running(node)) << "to aim does nothing to it";
  fs::rename(dir() / "n1" / "pid", root_ / "pid");  // looked up before, not at the signal
  ASSERT_TRUE(cluster.strike(*target));
  ASSERT_TRUE(cluster.wait_gone(*target));
  EXPECT_EQ(::kill(target->pid, 0), -1) << "reaped";
  const Status again = cluster.strike(*target);
  ASSERT_FALSE(again) << "a signal that hits nobody is not a kill";
  EXPECT_EQ(again.error().code, Errc::kIo);
}

// A process that was killed by somebody else may hold its port for a moment longer.
TEST_F(LocalClusterTest, start_waits_until_the_process_before_is_gone) {
  LocalCluster cluster = make(1);
  const LocalNode node = cluster.nodes()[0];
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(cluster.start(node, program(kStays)));
    const pid_t pid = *cluster.pid(node);
    ASSERT_EQ(::kill(pid, SIGKILL), 0);
    while (cluster.running(node)) std::this_thread::yield();
    ASSERT_TRUE(cluster.start(node, program(kStays)));
    EXPECT_NE(cluster.pid(node), pid);
    ASSERT_TRUE(cluster.kill(node));
  }
}

TEST_F(LocalClusterTest, reports_an_exit_with_the_logs_last_line) {
  LocalCluster cluster = make(2);
  const LocalNode node = cluster.nodes()[1];
  std::ofstream(cluster.log_path(node)) << "of an earlier run\n";
  ASSERT_TRUE(cluster.start(node, program("echo starting; echo 'no disk' >&2; exit 3")));
  const Status status = wait_for_exit(cluster);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message,
            "node 'n2' exited with code 3: no disk (see " + cluster.log_path(node).string() + ")");
  EXPECT_TRUE(cluster.check_started()) << "it is said once";
}

TEST_F(LocalClusterTest, does_not_blame_an_earlier_run_for_a_silent_exit) {
  LocalCluster cluster = make(1);
  const LocalNode node = cluster.nodes()[0];
  std::ofstream(cluster.log_path(node)) << "of an earlier run\n";
  ASSERT_TRUE(cluster.start(node, program("kill -ABRT $$")));
  const Status status = wait_for_exit(cluster);
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("was ended by signal 6: (it logged nothing)"),
            std::string::npos)
      << status.error().message;
}

TEST_F(LocalClusterTest, start_names_a_program_that_cannot_run) {
  LocalCluster cluster = make(1);
  const Status status = cluster.start(cluster.nodes()[0], "/nonexistent/ballastd");
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("/nonexistent/ballastd"), std::string::npos);
  EXPECT_FALSE(cluster.running(cluster.nodes()[0]));
}

TEST_F(LocalClusterTest, start_names_a_port_that_is_in_use) {
  LocalCluster cluster = make(1);
  const UniqueFd holder = listen_on(base_port_);
  ASSERT_TRUE(holder.valid());
  const Status status = cluster.start(cluster.nodes()[0], program(kStays));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Errc::kIo);
}

// The kernel gives pids to others. Here the pid is this test's own, as of another start.
TEST_F(LocalClusterTest, never_signals_a_process_that_has_got_its_pid) {
  LocalCluster cluster = make(1);
  const LocalNode node = cluster.nodes()[0];
  const auto own = parse_process_stat(text_of("/proc/self/stat"));
  ASSERT_TRUE(own);
  const fs::path pid_file = dir() / "n1" / "pid";
  std::ofstream(pid_file) << ::getpid() << ' ' << own->start_time + 1 << '\n';
  EXPECT_FALSE(cluster.running(node));
  EXPECT_FALSE(cluster.kill(node));
  const auto killed = cluster.stop(cluster.nodes(), 100ms);
  ASSERT_TRUE(killed);
  EXPECT_TRUE(killed->empty());
  EXPECT_FALSE(fs::exists(pid_file)) << "it says nothing true";

  std::ofstream(pid_file) << ::getpid() << ' ' << own->start_time << '\n';
  EXPECT_EQ(cluster.pid(node), ::getpid()) << "the same start is the same process";
  for (const char* text : {"", "x", "12", "-1 5", "0 5", "12 x"}) {
    std::ofstream(pid_file) << text;
    EXPECT_FALSE(cluster.running(node)) << text;
  }
}

TEST_F(LocalClusterTest, purge_removes_what_is_ours_alone) {
  LocalCluster cluster = make(2);
  std::ofstream(dir() / "notes.txt") << "mine";
  auto gone = cluster.purge();
  ASSERT_TRUE(gone) << gone.error().to_string();
  EXPECT_FALSE(*gone);
  EXPECT_TRUE(fs::exists(dir() / "notes.txt"));
  EXPECT_FALSE(fs::exists(dir() / "n1"));
  EXPECT_FALSE(LocalCluster::holds_cluster(dir()));
  fs::remove(dir() / "notes.txt");

  cluster = make(2);
  gone = cluster.purge();
  ASSERT_TRUE(gone) << gone.error().to_string();
  EXPECT_TRUE(*gone);
  EXPECT_FALSE(fs::exists(dir()));
}

TEST_F(LocalClusterTest, finds_the_server) {
  const fs::path path = program(kStays);
  EXPECT_EQ(*find_ballastd(path.string()), path);
  ::setenv("BALLASTD", path.c_str(), 1);
  EXPECT_EQ(*find_ballastd(""), path);
  ::unsetenv("BALLASTD");
  for (const std::string& wrong : {(root_ / "nothing").string(), root_.string()}) {
    const auto found = find_ballastd(wrong);
    ASSERT_FALSE(found) << wrong;
    EXPECT_EQ(found.error().code, Errc::kIo);
  }
}

}  // namespace
}  // namespace ballast::kvctl
