#include "server/transport/peer_transport.h"

#include <spdlog/spdlog.h>

#include <random>

#include "proto/base/check.h"
#include "proto/base/limits.h"
#include "server/transport/codec.h"

namespace ballast::server {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kConnectTimeout{1000};
constexpr milliseconds kRetryMin{20};
constexpr milliseconds kRetryMax{300};
constexpr size_t kQueuedMessagesMax = 4096;
constexpr size_t kBulkQueueBytes = 8 * limits::kMiB;  // handed to the socket's queue at once

milliseconds with_jitter(milliseconds delay) {
  static thread_local std::minstd_rand random{std::random_device{}()};
  return delay / 2 + milliseconds(random() % static_cast<unsigned>(delay.count() + 1));
}

}  // namespace

// One outgoing connection and what waits for it.
struct PeerTransport::Link {
  Link(const MemberConfig& config, pb::ConnectionKind connection_kind,
       const asio::any_io_executor& executor)
      : peer(config), kind(connection_kind), signal(executor), retry_timer(executor) {}

  MemberConfig peer;
  pb::ConnectionKind kind;
  std::deque<raft::Message> queue;
  net::Signal signal;  // queue grew, connection broke, or the transport stops
  Timer retry_timer;
  std::shared_ptr<net::Connection> connection;
  bool reported_down = false;

  bool connected() const { return connection != nullptr && !connection->closed(); }
  std::string name() const {
    return fmt::format("{} ({}, {})", peer.name, peer.address.to_string(),
                       kind == pb::CONNECTION_BULK ? "bulk" : "control");
  }
};

PeerTransport::PeerTransport(asio::any_io_executor executor, const ClusterConfig& cluster,
                             Node& node)
    : executor_(executor), cluster_(cluster), node_(node), ended_signal_(executor) {
  for (const MemberConfig& member : cluster_.members) {
    if (member.id == cluster_.self) continue;
    for (const auto kind : {pb::CONNECTION_CONTROL, pb::CONNECTION_BULK})
      links_[{member.id, kind}] = std::make_shared<Link>(member, kind, executor_);
  }
}

PeerTransport::~PeerTransport() = default;

void PeerTransport::start() {
  for (const auto& [key, link] : links_) {
    ++running_;
    asio::co_spawn(executor_, dial_loop(link), [this](std::exception_ptr error) {
      BALLAST_CHECK(!error, "a peer connection threw");
      --running_;
      ended_signal_.notify();
    });
  }
}

asio::awaitable<void> PeerTransport::stop() {
  stopping_ = true;
  for (const auto& [key, link] : links_) {
    if (link->connection) link->connection->close();
    link->retry_timer.cancel();
    link->signal.notify();
  }
  for (const auto& [number, inbound] : inbound_) {
    if (const auto connection = inbound.lock()) connection->close();
  }
  while (running_ > 0) co_await ended_signal_.wait_until(Clock::time_point::max());
}

void PeerTransport::send(raft::Message message) {
  const bool append = std::holds_alternative<raft::Append>(message.body);
  const auto kind = append ? pb::CONNECTION_BULK : pb::CONNECTION_CONTROL;
  const auto found = links_.find({message.to, kind});
  if (found == links_.end()) return;
  Link& link = *found->second;
  // Raft repeats what is lost: nothing is kept for a peer that is not there.
  if (!link.connected() || link.queue.size() >= kQueuedMessagesMax) return;
  link.queue.push_back(std::move(message));
  link.signal.notify();
}

// ---- outgoing ---------------------------------------------------------------------------------

asio::awaitable<void> PeerTransport::dial_loop(std::shared_ptr<Link> link) {
  milliseconds delay = kRetryMin;
  while (!stopping_) {
    link->connection = co_await dial(link);
    if (stopping_) break;
    if (link->connection == nullptr) {
      link->retry_timer.expires_after(with_jitter(delay));
      delay = std::min(delay * 2, kRetryMax);
      co_await link->retry_timer.async_wait(kToken);
      continue;
    }
    delay = kRetryMin;
    link->reported_down = false;
    spdlog::debug("connected to {}", link->name());
    ++running_;
    asio::co_spawn(executor_, watch(link), [this](std::exception_ptr) {
      --running_;
      ended_signal_.notify();
    });
    // Whatever was thought to be on its way is not.
    node_.link_reset(link->peer.id);
    co_await send_loop(link);
    link->queue.clear();
    if (!stopping_) {
      spdlog::info("lost the connection to {}", link->name());
      node_.link_reset(link->peer.id);
    }
  }
  if (link->connection) link->connection->close();
}

asio::awaitable<std::shared_ptr<net::Connection>> PeerTransport::dial(std::shared_ptr<Link> link) {
  const auto deadline = Clock::now() + kConnectTimeout;
  auto connected = co_await net::Connection::connect(executor_, link->peer.address, deadline);
  if (!connected) {
    if (!link->reported_down) spdlog::info("{}: {}", link->name(), connected.error().message);
    link->reported_down = true;
    co_return nullptr;
  }
  const auto connection = *std::move(connected);
  pb::Hello hello;
  hello.set_protocol(wire::kProtocolVersion);
  hello.set_kind(link->kind);
  hello.set_cluster(cluster_.id.raw());
  hello.set_from(cluster_.self.value());
  hello.set_to(link->peer.id.value());
  connection->send(net::make_frame(wire::FrameType::kHello, 0, hello));
  const auto frame = co_await connection->receive(deadline);
  pb::HelloReply reply;
  std::string problem;
  if (!frame)
    problem = frame.error().message;
  else if (frame->header.type != wire::FrameType::kHelloReply || !net::parse_frame(*frame, reply))
    problem = "its greeting is malformed";
  else if (reply.has_failure())
    problem = reply.failure().message();
  if (problem.empty()) co_return connection;
  if (!link->reported_down) spdlog::warn("{}: {}", link->name(), problem);
  link->reported_down = true;
  connection->close();
  co_return nullptr;
}

// The peer sends nothing on our connection: reading from it tells when it breaks.
asio::awaitable<void> PeerTransport::watch(std::shared_ptr<Link> link) {
  const auto connection = link->connection;
  static_cast<void>(co_await connection->receive(Clock::time_point::max()));
  connection->close();
  link->signal.notify();
}

asio::awaitable<void> PeerTransport::send_loop(std::shared_ptr<Link> link) {
  while (!stopping_ && link->connected()) {
    if (link->queue.empty()) {
      co_await link->signal.wait_until(Clock::time_point::max());
      continue;
    }
    raft::Message message = std::move(link->queue.front());
    link->queue.pop_front();
    if (std::holds_alternative<raft::Append>(message.body)) {
      if (!co_await send_append(link, std::move(message))) break;
    } else {
      link->connection->send(net::make_frame(wire::FrameType::kPeer, 0, to_wire(message, {})));
    }
  }
  link->connection->close();
}

// False if the connection is gone.
asio::awaitable<bool> PeerTransport::send_append(std::shared_ptr<Link> link,
                                                 raft::Message message) {
  const auto connection = link->connection;
  const auto& append = std::get<raft::Append>(message.body);
  const std::vector<Entry> entries = co_await node_.entries_for(append.entries);
  // The log was overwritten since the core spoke: its next message will say something else.
  if (entries.size() != append.entries.size()) co_return true;
  std::vector<Bytes> payload;
  for (const Entry& entry : entries) {
    if (!entry.payload.empty()) payload.push_back(entry.payload);
  }
  // Blocks wait here, on their entries' account, and not in the socket's queue.
  if (!co_await connection->drained(kBulkQueueBytes, Clock::time_point::max())) co_return false;
  co_return connection->send(
      net::make_frame(wire::FrameType::kPeer, 0, to_wire(message, entries), std::move(payload)));
}

// ---- incoming ---------------------------------------------------------------------------------

asio::awaitable<void> PeerTransport::serve(std::shared_ptr<net::Connection> connection,
                                           pb::Hello hello) {
  const NodeId from(hello.from());
  const bool control = hello.kind() == pb::CONNECTION_CONTROL;
  const uint64_t number = ++inbound_count_;
  inbound_[number] = connection;
  if (control) inbound_control_[from] = connection;
  while (!stopping_) {
    auto frame = co_await connection->receive(Clock::time_point::max());
    if (!frame) break;
    pb::PeerMessage message;
    if (frame->header.type != wire::FrameType::kPeer || !net::parse_frame(*frame, message)) {
      spdlog::warn("{} sent a frame that is no peer message", connection->peer());
      break;
    }
    auto received = from_wire(message, from, cluster_.self, frame->payload);
    if (!received) {
      spdlog::warn("{}: {}", connection->peer(), received.error().message);
      break;
    }
    node_.step(received->message, std::move(received->entries));
    if (!control) co_await node_.admit();
  }
  connection->close();
  inbound_.erase(number);
  // A newer connection of this peer may have taken over already.
  const auto current = inbound_control_.find(from);
  if (control && current != inbound_control_.end() && current->second.lock() == connection) {
    inbound_control_.erase(current);
    if (!stopping_) node_.peer_lost(from);
  }
}

}  // namespace ballast::server
