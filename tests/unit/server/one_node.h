// A node in this process, with everything but ballastd's main() around it, and the test on its
// loop: what the test awaits is awaited by the node's own thread, so nothing races.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "proto/net/connection.h"
#include "proto/peer.pb.h"
#include "server/node/log_events.h"
#include "server/node/node.h"
#include "server/service/listener.h"
#include "server/service/service.h"
#include "server/transport/peer_transport.h"
#include "storage/identity.h"
#include "storage/kv/database.h"
#include "storage/log/segment_log.h"
#include "tests/unit/storage/temporary_directory.h"

namespace ballast::server {

inline Clock::time_point soon() { return Clock::now() + std::chrono::seconds(20); }

// The other members of the cluster, as far as the node can tell: they vote for it, and acknowledge
// what it sends while they are told to.
class FakePeers : public PeerSender {
 public:
  explicit FakePeers(asio::any_io_executor executor) : executor_(std::move(executor)) {}

  bool acknowledge = true;
  bool full = false;  // their disks
  Node* node = nullptr;

  void send(raft::Message message) override {
    if (const auto* vote = std::get_if<raft::VoteRequest>(&message.body))
      answer(message, raft::VoteReply{.pre_vote = vote->pre_vote, .granted = true});
    if (const auto* append = std::get_if<raft::Append>(&message.body); append && acknowledge)
      answer(message, raft::AppendReply{.index = append->previous_index + append->entries.size()});
    if (const auto* beat = std::get_if<raft::Heartbeat>(&message.body); beat && acknowledge)
      answer(message, raft::HeartbeatReply{.round = beat->round, .full = full});
  }

 private:
  void answer(const raft::Message& asked, decltype(raft::Message::body) body) {
    raft::Message reply{
        .from = asked.to, .to = asked.from, .term = asked.term, .body = std::move(body)};
    asio::post(executor_, [this, reply = std::move(reply)] { node->step(reply, {}); });
  }

  asio::any_io_executor executor_;
};

// Rows that find no space while they are told so.
class RefusingRows final : public storage::RowStore {
 public:
  RefusingRows(std::unique_ptr<RowStore> rows, const std::atomic<bool>& full)
      : rows_(std::move(rows)), full_(full) {}
  Result<std::optional<std::string>> get(const std::string& key) const override {
    return rows_->get(key);
  }
  std::unique_ptr<storage::RowCursor> scan(const std::string& lower,
                                           const std::string& upper) const override {
    return rows_->scan(lower, upper);
  }
  Result<std::optional<std::string>> last_key(const std::string& lower,
                                              const std::string& upper) const override {
    return rows_->last_key(lower, upper);
  }
  std::unique_ptr<storage::RowView> snapshot() const override { return rows_->snapshot(); }
  Status write(std::span<const storage::RowChange> changes) override {
    if (full_) return fail(Errc::kNoSpace, "cannot write a batch");
    return rows_->write(changes);
  }
  Status verify() const override { return rows_->verify(); }
  Status flush() override { return rows_->flush(); }
  uint64_t disk_bytes() const override { return rows_->disk_bytes(); }

 private:
  std::unique_ptr<RowStore> rows_;
  const std::atomic<bool>& full_;
};

class OneNode {
 public:
  using Body = std::function<asio::awaitable<void>()>;

  // Member 1 of so many.
  explicit OneNode(unsigned members = 1, ListenerOptions options = {}, SpaceOptions space = {})
      : peers(io.get_executor()) {
    cluster.id = Uuid::random();
    cluster.self = NodeId(1);
    for (unsigned id = 1; id <= members; ++id)
      cluster.members.push_back({NodeId(id), fmt::format("n{}", id), {"127.0.0.1", 1}});
    directory = must(storage::DataDirectory::open(directory_.path(), cluster.id, cluster.self));
    storage::LogOptions log_options{.directory = directory->log_path(), .segment_bytes = 16 << 20};
    if (space.measure)
      log_options.may_take = [space](uint64_t bytes) { return space.may_take(bytes); };
    auto log = must(storage::open_segment_log(std::move(log_options)));
    auto rows = must(storage::open_database({.directory = directory->state_path(),
                                             .write_buffer_bytes = 8 << 20,
                                             .block_cache_bytes = 8 << 20}));
    auto state = must(storage::StateMachine::over(
        std::make_unique<RefusingRows>(std::move(rows), rows_full), log->payloads()));
    raft::Options raft{.id = cluster.self, .seed = 1};
    raft.heartbeat_ticks = 1;
    raft.election_ticks_min = 5;
    raft.election_ticks_max = 10;
    pb::ConfigurationEntry founding;
    for (const MemberConfig& member : cluster.members) {
      founding.add_members()->set_id(member.id.value());
      founding.mutable_members()->rbegin()->set_voter(true);
    }
    const auto executor = io.get_executor();
    node = std::make_unique<Node>(
        executor, threads.workers(),
        NodeOptions{.raft = raft, .founding = founding, .space = std::move(space)}, std::move(log),
        std::move(state));
    log_events = std::make_unique<LogEvents>(executor, *node);
    peers.node = node.get();
    transport = std::make_unique<PeerTransport>(executor, cluster, *node);
    service = std::make_unique<Service>(*node, cluster, directory->identity(), directory_.path(),
                                        threads.workers());
    listener = std::make_unique<Listener>(executor, *service, *transport, options);
    if (const Status opened = listener->open({"127.0.0.1", 0}); !opened)
      throw std::runtime_error(opened.error().to_string());
  }

  // Runs the body once the node leads and has applied its first entry, and takes the node down
  // behind it.
  void run(const Body& body) {
    node->start(peers);
    log_events->start();
    listener->start();
    const auto main = [&]() -> asio::awaitable<void> {
      while (!node->core().ready_to_serve() || node->state().applied().index == Index())
        co_await turn();
      co_await body();
      listener->close();
      co_await node->stop();
      co_await log_events->stop();
      co_await transport->stop();
      co_await listener->stop();
    };
    asio::co_spawn(io, main, [this](std::exception_ptr error) {
      io.stop();
      if (error) std::rethrow_exception(error);
    });
    io.run();
    threads.join();
  }

  // Lets the node do what it has to do.
  asio::awaitable<void> turn() { co_await asio::post(io, kToken); }

  // A connection whose greeting was answered.
  asio::awaitable<std::shared_ptr<net::Connection>> client() {
    pb::Hello hello;
    hello.set_protocol(wire::kProtocolVersion);
    auto [connection, reply] = co_await greet(hello);
    EXPECT_TRUE(reply && !reply->has_failure());
    co_return connection;
  }
  struct Greeted {
    std::shared_ptr<net::Connection> connection;
    std::optional<pb::HelloReply> reply;  // none: the node has closed the connection
  };
  asio::awaitable<Greeted> greet(pb::Hello hello, std::vector<Bytes> payload = {}) {
    auto connected = co_await net::Connection::connect(io.get_executor(),
                                                       {"127.0.0.1", listener->port()}, soon());
    Greeted greeted{.connection = must(std::move(connected)), .reply = std::nullopt};
    greeted.connection->send(
        net::make_frame(wire::FrameType::kHello, 0, hello, std::move(payload)));
    const auto frame = co_await greeted.connection->receive(soon());
    pb::HelloReply reply;
    if (frame && net::parse_frame(*frame, reply)) greeted.reply = reply;
    co_return greeted;
  }
  // One request and its reply; none if the node has closed the connection.
  asio::awaitable<std::optional<pb::Reply>> ask(std::shared_ptr<net::Connection> connection,
                                                pb::Request request, Bytes payload = {}) {
    request.set_deadline_ms(10'000);
    std::vector<Bytes> parts;
    if (!payload.empty()) parts.push_back(std::move(payload));
    connection->send(net::make_frame(wire::FrameType::kRequest, 1, request, std::move(parts)));
    const auto frame = co_await connection->receive(soon());
    pb::Reply reply;
    if (!frame || !net::parse_frame(*frame, reply)) co_return std::nullopt;
    co_return reply;
  }
  // Whether the node answers: it lives, and has room for this connection.
  asio::awaitable<bool> answers(std::shared_ptr<net::Connection> connection) {
    pb::Request request;
    request.mutable_get_status();
    const auto reply = co_await ask(std::move(connection), std::move(request));
    co_return reply && reply->status().id() == 1;
  }

 private:
  template <class T>
  static T must(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().to_string());
    return *std::move(result);
  }

  storage::TemporaryDirectory directory_;

 public:
  std::atomic<bool> rows_full = false;
  asio::io_context io{1};
  net::WorkerThreads threads{2, 1};
  ClusterConfig cluster;
  FakePeers peers;
  std::optional<storage::DataDirectory> directory;
  std::unique_ptr<Node> node;
  std::unique_ptr<LogEvents> log_events;
  std::unique_ptr<PeerTransport> transport;
  std::unique_ptr<Service> service;
  std::unique_ptr<Listener> listener;
};

}  // namespace ballast::server
