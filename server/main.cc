// ballastd: one node of a cluster, as a process.

#include <malloc.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <random>

#include "proto/base/check.h"
#include "server/config.h"
#include "server/inspect.h"
#include "server/node/log_events.h"
#include "server/node/node.h"
#include "server/repair/block_repairs.h"
#include "server/repair/other_replicas.h"
#include "server/repair/scrub.h"
#include "server/service/listener.h"
#include "server/service/service.h"
#include "server/snapshot/restore.h"
#include "server/snapshot/snapshot_fetch.h"
#include "server/transport/peer_transport.h"
#include "server/version.h"
#include "storage/identity.h"
#include "storage/io/space.h"
#include "storage/snapshot/incoming.h"
#include "storage/store.h"

namespace ballast::server {
namespace {

using std::chrono::milliseconds;

// Together below the five seconds that a SIGTERM may take.
constexpr milliseconds kTransferTime{1000};
constexpr milliseconds kDrainTime{1500};
// Nodes that are damaged ask each other, and look again when they are asked.
constexpr auto kAskForRowsPeriod = std::chrono::seconds(5);

// They wait for the disk, mostly.
constexpr size_t kBackgroundThreads = 4;

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

void set_up_memory() {
  // Buffers of about 1 MiB come and go: mapped and unmapped each time, as glibc does above 128 KiB,
  // their page faults cost more than their use.
  ::mallopt(M_MMAP_THRESHOLD, 64 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 128 << 20);
  ::mallopt(M_ARENA_MAX, 4);
}

// As many descriptors as the system allows: connections and RocksDB's files share them.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

void set_up_logging(const std::string& level) {
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::stderr_sink_mt>()));
  spdlog::set_level(spdlog::level::from_str(level));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);
  spdlog::flush_on(spdlog::level::info);
}

// What a node is made of, in the order in which it is built.
struct Daemon {
  explicit Daemon(Config loaded)
      : config(std::move(loaded)),
        threads(static_cast<size_t>(config.worker_threads), kBackgroundThreads),
        signals(io, SIGTERM, SIGINT) {}

  Status open();
  // Nothing of the store may be open any more; to be called when the loop has ended.
  void close();
  NodeOptions node_options();
  asio::awaitable<void> run();
  asio::awaitable<void> hand_over();
  asio::awaitable<void> shut_down();
  void begin_again();
  asio::awaitable<void> give_rows_up(Error why);
  storage::OnDamage on_damage();
  FetchOptions fetch_options() const;

  Config config;
  asio::io_context io{1};
  net::WorkerThreads threads;
  asio::signal_set signals;
  // The node ends in order to begin again: with a snapshot that is whole, or without the rows.
  bool again = false;
  bool rows_given_up = false;
  Clock::time_point ask_for_rows_at;
  std::optional<storage::DataDirectory> directory;
  std::unique_ptr<Node> node;
  std::unique_ptr<LogEvents> log_events;
  std::unique_ptr<PeerTransport> transport;
  std::unique_ptr<Service> service;
  std::unique_ptr<Listener> listener;
  std::unique_ptr<OtherReplicas> others;
  std::unique_ptr<BlockRepairs> repairs;
  std::unique_ptr<Scrub> scrub;
  std::unique_ptr<SnapshotFetch> snapshot_fetch;
};

// Measures, and holds something back for the next start while there is plenty.
SpaceOptions space_options(const Config& config) {
  SpaceOptions options{.name = config.cluster.find(config.cluster.self)->name,
                       .directory = config.data_directory,
                       .segment_bytes = config.segment_bytes,
                       .write_buffer_bytes = config.write_buffer_bytes,
                       .measure = {}};
  options.measure = [directory = config.data_directory,
                     plenty = options.beside_segment_bytes()]() -> Result<storage::Space> {
    BALLAST_TRY(const storage::Space space, storage::space_of(directory));
    if (space.free >= plenty + storage::kHeldBackBytes) {
      BALLAST_TRY_STATUS(storage::hold_space_back(directory));
    }
    return space;
  };
  return options;
}

NodeOptions Daemon::node_options() {
  const storage::Identity& identity = directory->identity();
  NodeOptions options{.raft = {.id = config.cluster.self, .seed = std::random_device{}()},
                      .disk = identity.disk.raw(),
                      .address = config.cluster.find(config.cluster.self)->address.to_string(),
                      .cache_bytes = config.entry_cache_bytes,
                      .log_keep_bytes = config.log_keep_bytes,
                      .on_snapshot_needed = [this](Index index) { snapshot_fetch->need(index); },
                      .fetch_block = [this](Digest digest) { return others->block(digest); },
                      .space = space_options(config)};
  // Those that were put aside could perhaps be made again of the log, but for what made them be.
  options.rows_lost = directory->has_rows_put_aside();
  for (const storage::Founder& founder : identity.founders) {
    pb::ConfigurationMember& member = *options.founding.add_members();
    member.set_id(founder.id.value());
    member.set_name(founder.name);
    member.set_address(founder.address);
    member.set_voter(true);
  }
  return options;
}

void Daemon::begin_again() {
  again = true;
  signals.cancel();
}

// Not before another member has shown that it has some to give: damage may be everywhere.
asio::awaitable<void> Daemon::give_rows_up(Error why) {
  if (rows_given_up || Clock::now() < ask_for_rows_at) co_return;
  ask_for_rows_at = Clock::now() + kAskForRowsPeriod;
  const Status others_have = co_await others->has_rows();
  if (!others_have) {
    spdlog::error("{}; nobody has rows to take instead: {}", why.message,
                  others_have.error().message);
    co_return;
  }
  rows_given_up = true;
  spdlog::error("{}; the rows are given up for those of another member", why.message);
  begin_again();
}

// Called on any thread.
storage::OnDamage Daemon::on_damage() {
  return [this](const std::optional<Digest>& block, const Error& error) {
    asio::post(io, [this, block, error] {
      if (!repairs) return;  // it is only starting, or gone already
      if (block)
        repairs->need(*block);
      else
        asio::co_spawn(io, give_rows_up(error), asio::detached);
    });
  };
}

storage::StateOptions state_options(const Config& config, std::string path) {
  return {.directory = std::move(path),
          .write_buffer_bytes = config.write_buffer_bytes,
          .block_cache_bytes = config.block_cache_bytes,
          .info_log = [](std::string_view line) { spdlog::debug("rocksdb: {}", line); },
          .on_damage = nullptr};
}

storage::IncomingOptions incoming_options(const Config& config,
                                          const storage::IncomingPaths& paths) {
  return {.rows = state_options(config, paths.rows),
          .blocks = {
              .directory = paths.blocks, .log = paths.log, .segment_bytes = config.segment_bytes}};
}

// The node, which goes on meanwhile, has a right to the space that it needs.
FetchOptions Daemon::fetch_options() const {
  FetchOptions options{
      .incoming = incoming_options(config, directory->incoming()),
      .bytes_per_second = config.snapshot_bytes_per_second,
      .measure = [path = config.data_directory] { return storage::space_of(path); }};
  options.incoming.blocks.may_take = [space = space_options(config)](uint64_t bytes) {
    return space.may_take(bytes);
  };
  return options;
}

// What a new cluster begins with; nothing if no directory is given.
struct BackupChoice {
  std::string directory;
  std::string name;  // empty: the newest
};

Status bootstrap(const Config& config, const BackupChoice& choice) {
  std::vector<storage::Founder> founders;
  for (const MemberConfig& member : config.cluster.members)
    founders.push_back({member.id, member.name, member.address.to_string()});
  const auto format = [&](const storage::BeginWith* with) {
    return storage::DataDirectory::bootstrap(config.data_directory, config.cluster.id,
                                             config.cluster.self, founders, with);
  };
  if (choice.directory.empty()) return format(nullptr);
  const backup::BackupDirectory directory(choice.directory);
  BALLAST_TRY(const backup::Manifest manifest, directory.find(choice.name));
  // Nodes of the old one that come back would be taken for members.
  if (manifest.cluster == config.cluster.id)
    return fail(Errc::kRefused,
                "backup '{}' is of the cluster {} itself, and a restore makes a new one: give "
                "[cluster] another id, the same to all founders",
                manifest.name, config.cluster.id.to_string());
  const storage::BeginWith with{
      .origin = manifest.rows.sha256, .bring = [&](const storage::IncomingPaths& incoming) {
        return restore(directory, manifest, incoming_options(config, incoming));
      }};
  return format(&with);
}

// A snapshot that became whole just before the process ended is installed now. What one has taken
// the place of is removed, and so is one that nobody needs any more.
Status settle_incoming(const storage::DataDirectory& directory) {
  if (!std::filesystem::exists(directory.incoming().rows)) return directory.remove_incoming();
  const auto incoming = storage::look_at_rows(directory.incoming().rows);
  if (!incoming) {
    spdlog::warn("{}; the snapshot will be fetched anew", incoming.error().message);
    return directory.remove_incoming();
  }
  const auto state = storage::look_at_rows(directory.state_path());
  if (!state && state.error().code != Errc::kCorrupt) return {};
  // Rows that can't be read are older than a snapshot that is whole: it ended the node that had
  // them. Beside half of one, opening them says what to do.
  const bool installs = storage::supersedes(*incoming, state.value_or(storage::RowsAt()));
  if (!installs && (!state || incoming->index > state->index)) return {};
  if (installs) BALLAST_TRY_STATUS(directory.install_incoming());
  return directory.remove_incoming();
}

void warn_of_restored(const storage::RestoredHead& head) {
  spdlog::warn("a head in '{}' at offset {} had rotted; it was restored from its second place",
               head.path, head.offset);
}

Status Daemon::open() {
  BALLAST_TRY(directory, storage::DataDirectory::open(config.data_directory, config.cluster.id,
                                                      config.cluster.self));
  BALLAST_TRY_STATUS(settle_incoming(*directory));
  storage::StateOptions state = state_options(config, directory->state_path());
  state.on_damage = on_damage();
  storage::GiveRowsUp give_up;
  if (config.cluster.members.size() > 1) {
    give_up = [this](const Error& why) {
      spdlog::error("{}; the rows are given up for those of another member", why.message);
      return directory->put_rows_aside();
    };
  }
  const SpaceOptions space = space_options(config);
  BALLAST_TRY(const storage::Space at_start, space.measure());
  if (at_start.free < storage::kHeldBackBytes) {
    BALLAST_TRY_STATUS(storage::give_space_up(config.data_directory));
  }
  BALLAST_TRY(
      auto store,
      storage::open_store({.directory = directory->log_path(),
                           .segment_bytes = config.segment_bytes,
                           .may_take = [space](uint64_t bytes) { return space.may_take(bytes); },
                           .on_restored = warn_of_restored},
                          std::move(state), give_up));
  const Index applied = store.state->applied().index;
  if (applied != Index()) BALLAST_TRY_STATUS(directory->remove_rows_put_aside());
  spdlog::info("node {} of cluster {}: log from {} to {}, applied up to {}", config.cluster.self,
               config.cluster.id.to_string(), store.log->base().index + 1, store.log->last(),
               applied);
  const auto executor = io.get_executor();
  const net::Workers workers = threads.workers();
  node = std::make_unique<Node>(executor, workers, node_options(), std::move(store.log),
                                std::move(store.state));
  log_events = std::make_unique<LogEvents>(executor, *node);
  transport = std::make_unique<PeerTransport>(executor, config.cluster, *node);
  service = std::make_unique<Service>(*node, config.cluster, directory->identity(),
                                      config.data_directory, workers, config.upload_lease);
  listener = std::make_unique<Listener>(executor, *service, *transport);
  others = std::make_unique<OtherReplicas>(executor, workers.background, *node, config.cluster);
  repairs = std::make_unique<BlockRepairs>(executor, *node, *others);
  scrub = std::make_unique<Scrub>(executor, workers.background, *node, config.scrub);
  snapshot_fetch = std::make_unique<SnapshotFetch>(executor, workers.background, *node, *others,
                                                   fetch_options(), [this] { begin_again(); });
  service->set_keepers({repairs.get(), scrub.get(), snapshot_fetch.get()});
  if (node->rows_lost())
    spdlog::warn(
        "there are no rows for the log up to entry {}: a snapshot will bring those of another "
        "member",
        node->log().last());
  if (node->membership().newest().members().empty())
    spdlog::info("this disk is new to the cluster: it waits to be let in, see `kvctl member list`");
  return listener->open(config.listen);
}

// A primary that ends on purpose leaves no gap: somebody else takes the writes first.
asio::awaitable<void> Daemon::hand_over() {
  if (node->core().role() != raft::Role::kLeader || node->core().view().peers.empty()) co_return;
  const auto leader = co_await node->transfer_leadership(NodeId{}, Clock::now() + kTransferTime);
  if (leader)
    spdlog::info("node {} leads now", *leader);
  else
    spdlog::warn("leadership was not handed over: {}", leader.error().message);
}

asio::awaitable<void> Daemon::shut_down() {
  co_await hand_over();
  listener->close();
  co_await listener->drain(Clock::now() + kDrainTime);
  others->stop();
  co_await snapshot_fetch->stop();
  co_await node->stop();
  co_await scrub->stop();
  co_await repairs->stop();
  co_await log_events->stop();
  co_await transport->stop();
  co_await listener->stop();
}

asio::awaitable<void> Daemon::run() {
  auto [error, number] = co_await signals.async_wait(kToken);
  if (error)
    spdlog::info("beginning again {}", rows_given_up ? "without the rows" : "with the snapshot");
  else
    spdlog::info("signal {}: shutting down", number);
  // A signal that comes while it ends, before the node begins again, is not to be missed.
  if (error)
    signals.async_wait([this](const error_code& failed, int) {
      if (!failed) again = false;
    });
  co_await shut_down();
}

void Daemon::close() {
  snapshot_fetch.reset();
  listener.reset();
  service.reset();
  scrub.reset();
  repairs.reset();
  others.reset();
  transport.reset();
  log_events.reset();
  node.reset();
}

void serve(Daemon& daemon) {
  daemon.node->start(*daemon.transport);
  daemon.log_events->start();
  daemon.transport->start();
  daemon.listener->start();
  daemon.scrub->start();
  asio::co_spawn(daemon.io, daemon.run(), [&](std::exception_ptr error) {
    BALLAST_CHECK(!error, "the daemon threw");
    daemon.io.stop();
  });
  spdlog::info("ready on {}", daemon.config.listen.to_string());
  daemon.io.run();
  daemon.threads.join();
  daemon.close();
}

// A node that was brought a snapshot begins again with it: by the same way as after a crash.
Result<bool> serve_once(const Config& config) {
  Daemon daemon(config);
  BALLAST_TRY_STATUS(daemon.open());
  serve(daemon);
  if (daemon.rows_given_up) BALLAST_TRY_STATUS(daemon.directory->put_rows_aside());
  return daemon.again;  // opening installs what is whole
}

int report(const Error& error) {
  std::fprintf(stderr, "ballastd: %s\n", error.message.c_str());
  return error.code == Errc::kInvalidArgument ? kExitUsage : kExitFailed;
}

// ballastd inspect DIR
class Inspection {
 public:
  explicit Inspection(CLI::App& app)
      : command_(app.add_subcommand(
            "inspect",
            "Show what the data directory of a stopped node holds, and what of it is "
            "damaged; changes nothing. Exit code 1 if anything is")) {
    command_->add_option("DIR", directory_, "The data directory")->required();
    command_->add_option("-o,--output", output_, "How it is shown")
        ->check(CLI::IsMember({"table", "json"}))
        ->capture_default_str();
  }

  bool wanted() const { return command_->parsed(); }
  int run() const {
    const auto inspected = inspect(directory_, output_ == "json");
    if (!inspected) return report(inspected.error());
    std::fputs(inspected->text.c_str(), stdout);
    return inspected->whole ? 0 : kExitFailed;
  }

 private:
  CLI::App* command_;
  std::string directory_;
  std::string output_ = "table";
};

int main_checked(int argc, char** argv) {
  CLI::App app{"One node of a Ballast cluster: a replicated store for model weights."};
  std::string path, data_directory, listen, level = "info";
  bool check_only = false, founds = false;
  BackupChoice from;
  app.set_version_flag("--version", std::string("ballastd ") + kVersion);
  app.add_option("--config", path, "The TOML file (docs/configuration.md)");
  app.add_option("--data-dir", data_directory, "In place of [node] data_dir");
  app.add_option("--listen", listen, "HOST:PORT in place of [node] listen");
  app.add_option("--log-level", level, "What is logged on stderr")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
  app.add_flag("--check", check_only, "Check the configuration and end");
  app.add_flag("--bootstrap", founds,
               "Format the data directory for a new cluster, of the members in the file, and end. "
               "Never for one whose data was lost: without this it joins and waits to be let in");
  app.add_option("--from-backup", from.directory,
                 "With --bootstrap: the cluster begins with what a backup in this directory holds. "
                 "All founders must begin with the same one");
  app.add_option("--backup", from.name, "Its name; default: the newest");
  Inspection inspection(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  set_up_memory();
  raise_descriptor_limit();
  if (inspection.wanted()) return inspection.run();
  if (path.empty()) return report({Errc::kInvalidArgument, "--config is required"});
  if (!founds && !from.directory.empty())
    return report({Errc::kInvalidArgument, "--from-backup goes with --bootstrap alone"});
  if (from.directory.empty() && !from.name.empty())
    return report({Errc::kInvalidArgument, "--backup goes with --from-backup alone"});
  set_up_logging(level);
  auto config = load_config(path);
  if (!config) return report(config.error());
  if (!data_directory.empty()) config->data_directory = data_directory;
  if (!listen.empty()) {
    auto endpoint = net::parse_endpoint(listen);
    if (!endpoint) return report(endpoint.error());
    if (const Status status = check_listen(*endpoint); !status) return report(status.error());
    config->listen = *std::move(endpoint);
  }
  if (check_only) return 0;
  if (founds) {
    const Status status = bootstrap(*config, from);
    return status ? 0 : report(status.error());
  }
  std::signal(SIGPIPE, SIG_IGN);
  while (true) {
    const Result<bool> again = serve_once(*config);
    if (!again) return report(again.error());
    if (!*again) break;
  }
  spdlog::info("stopped");
  return 0;
}

}  // namespace
}  // namespace ballast::server

int main(int argc, char** argv) {
  try {
    return ballast::server::main_checked(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ballastd: %s\n", error.what());
    return ballast::server::kExitFailed;
  }
}
