#include "server/transport/peer_transport.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <random>
#include <utility>

#include "proto/base/check.h"
#include "proto/base/limits.h"
#include "proto/net/greeting.h"
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

// Whom to dial, and where; the addresses are tried in turn.
struct PeerTransport::Peer {
  NodeId id;
  std::string name;
  std::string disk;  // empty: not known
  std::vector<net::Endpoint> addresses;
};

// One outgoing connection and what waits for it.
struct PeerTransport::Link {
  Link(Peer whom, pb::ConnectionKind connection_kind, const asio::any_io_executor& executor)
      : peer(std::move(whom)), kind(connection_kind), signal(executor), retry_timer(executor) {}

  Peer peer;
  pb::ConnectionKind kind;
  std::deque<raft::Message> queue;
  net::Signal signal;  // queue grew, connection broke, or the transport stops
  Timer retry_timer;
  std::shared_ptr<net::Connection> connection;
  std::string greeted_disk;  // what the greeting of the connection took the peer's disk for
  std::string shown_disk;    // what the peer answered, if it is a founder's
  size_t dials = 0;
  std::string reported;  // why it can't be reached, as it was logged
  bool closing = false;

  const net::Endpoint& address() const { return peer.addresses[dials % peer.addresses.size()]; }
  // Whether the connection is to the peer as the configuration has it now. A founder's disk may
  // become known while it is open.
  bool greeted_right() const {
    return greeted_disk == peer.disk || (greeted_disk.empty() && shown_disk == peer.disk);
  }
  bool connected() const { return connection != nullptr && !connection->closed(); }
  std::string name() const {
    return fmt::format("{} ({}, {})", peer.name, address().to_string(),
                       kind == pb::CONNECTION_BULK ? "bulk" : "control");
  }
};

PeerTransport::PeerTransport(asio::any_io_executor executor, const ClusterConfig& cluster,
                             Node& node)
    : executor_(executor), cluster_(cluster), node_(node), ended_signal_(executor) {}

PeerTransport::~PeerTransport() = default;

void PeerTransport::start() { follow_members(); }

asio::awaitable<void> PeerTransport::stop() {
  stopping_ = true;
  for (const auto& [key, link] : links_) close_link(*link);
  for (const auto& [number, inbound] : inbound_) {
    if (const auto connection = inbound.connection.lock()) connection->close();
  }
  while (running_ > 0) co_await ended_signal_.wait_until(Clock::time_point::max());
}

// ---- members ----------------------------------------------------------------------------------

void PeerTransport::members_changed() {
  if (stopping_ || std::exchange(follow_posted_, true)) return;
  // Not from within the node.
  asio::post(executor_, [this] {
    follow_posted_ = false;
    if (stopping_) return;
    follow_members();
    check_inbound();
  });
}

std::vector<PeerTransport::Peer> PeerTransport::wanted_peers() const {
  std::vector<Peer> peers;
  for (const pb::ConfigurationMember& member : node_.membership().newest().members()) {
    if (NodeId(member.id()) == cluster_.self) continue;
    Peer peer{NodeId(member.id()), member.name(), member.disk(), {}};
    if (auto address = net::parse_endpoint(member.address()))
      peer.addresses.push_back(*std::move(address));
    // It may have moved with the whole cluster, so that nobody could tell us.
    if (const MemberConfig* config = cluster_.find(peer.id);
        config != nullptr && config->address.to_string() != member.address())
      peer.addresses.push_back(config->address);
    if (!peer.addresses.empty()) peers.push_back(std::move(peer));
  }
  if (!node_.membership().newest().members().empty()) return peers;
  for (const MemberConfig& seed : cluster_.members) {
    if (seed.id != cluster_.self) peers.push_back({seed.id, seed.name, {}, {seed.address}});
  }
  return peers;
}

// Opens what is missing, and closes what is not wanted. A connection that is still right stays,
// whatever else has changed: followers take its end for the death of their primary.
void PeerTransport::follow_members() {
  const std::vector<Peer> wanted = wanted_peers();
  std::erase_if(links_, [&](const auto& entry) {
    Link& link = *entry.second;
    const auto peer = std::ranges::find(wanted, link.peer.id, &Peer::id);
    if (peer == wanted.end()) {
      close_link(link);
      return true;
    }
    link.peer = *peer;
    if (link.connected() && !link.greeted_right()) link.connection->close();
    return false;
  });
  for (const Peer& peer : wanted) {
    for (const auto kind : {pb::CONNECTION_CONTROL, pb::CONNECTION_BULK})
      if (!links_.contains({peer.id, kind})) open_link(peer, kind);
  }
}

void PeerTransport::open_link(const Peer& peer, pb::ConnectionKind kind) {
  const auto link = std::make_shared<Link>(peer, kind, executor_);
  links_[{peer.id, kind}] = link;
  ++running_;
  asio::co_spawn(executor_, dial_loop(link), [this](std::exception_ptr error) {
    BALLAST_CHECK(!error, "a peer connection threw");
    --running_;
    ended_signal_.notify();
  });
}

void PeerTransport::close_link(Link& link) {
  link.closing = true;
  if (link.connection) link.connection->close();
  link.retry_timer.cancel();
  link.signal.notify();
}

// What was right when a peer greeted may not be any more.
void PeerTransport::check_inbound() {
  for (auto& [number, inbound] : inbound_) {
    const auto connection = inbound.connection.lock();
    if (!connection) continue;
    if (const auto trust = node_.trust(inbound.greeting)) {
      inbound.trust = *trust;
    } else {
      spdlog::info("{}: {}", connection->peer(), trust.error().message);
      connection->close();
    }
  }
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
  while (!link->closing) {
    link->connection = co_await dial(link);
    if (link->closing) break;
    // The configuration may have changed while the peer was greeted.
    if (link->connected() && !link->greeted_right()) link->connection->close();
    if (link->connection == nullptr) {
      ++link->dials;
      link->retry_timer.expires_after(with_jitter(delay));
      delay = std::min(delay * 2, kRetryMax);
      co_await link->retry_timer.async_wait(kToken);
      continue;
    }
    delay = kRetryMin;
    link->reported.clear();
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
    if (!link->closing) {
      spdlog::info("lost the connection to {}", link->name());
      node_.link_reset(link->peer.id);
    }
  }
  if (link->connection) link->connection->close();
}

pb::Hello PeerTransport::hello_to(const Link& link) const {
  pb::Hello hello;
  hello.set_kind(link.kind);
  hello.set_cluster(cluster_.id.raw());
  hello.set_from(cluster_.self.value());
  hello.set_to(link.peer.id.value());
  hello.set_from_disk(node_.own_disk().uuid);
  hello.set_joined(node_.own_disk().joined);
  hello.set_to_disk(link.peer.disk);
  hello.set_configuration_index(node_.membership().newest_index().value());
  if (const MemberConfig* self = cluster_.find(cluster_.self)) {
    hello.set_from_name(self->name);
    hello.set_from_address(self->address.to_string());
  }
  return hello;
}

Greeting PeerTransport::greeting_of(const pb::Hello& hello) {
  return {NodeId(hello.from()), hello.from_disk(), hello.to_disk(),
          Index(hello.configuration_index()), hello.joined()};
}

asio::awaitable<std::shared_ptr<net::Connection>> PeerTransport::dial(std::shared_ptr<Link> link) {
  const auto deadline = Clock::now() + kConnectTimeout;
  const auto connected = co_await net::Connection::connect(executor_, link->address(), deadline);
  Error problem;
  if (connected) {
    link->greeted_disk = link->peer.disk;
    const auto reply = co_await net::greet(*connected, hello_to(*link), deadline);
    if (reply) {
      // One that joined later takes nothing from whoever does not know it: it is greeted again.
      link->shown_disk = reply->joined() ? std::string() : reply->disk();
      node_.learn(link->peer.id, {reply->disk(), {}, reply->joined()});
      co_return *connected;
    }
    problem = reply.error();
  } else {
    problem = connected.error();
  }
  // Once, however often it is tried.
  if (link->reported != problem.message && link->kind == pb::CONNECTION_CONTROL)
    spdlog::log(problem.code == Errc::kUnavailable ? spdlog::level::info : spdlog::level::warn,
                "{}: {}", link->name(), problem.message);
  link->reported = problem.message;
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
  while (!link->closing && link->connected()) {
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
  const Greeting greeting = greeting_of(hello);
  const auto trust = node_.trust(greeting);
  if (!trust) co_return;
  const uint64_t number = ++inbound_count_;
  inbound_[number] = {connection, greeting, *trust, control};
  if (control) inbound_control_[from] = connection;
  node_.learn(from, {hello.from_disk(), hello.from_address(), hello.joined()});
  redial(from);
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
    const auto gone = [&] { return connection->closed() || superseded(number, control); };
    if (!co_await node_.room_for(received->entries, gone)) break;
    if (may_take(inbound_[number].trust, received->message))
      node_.step(received->message, std::move(received->entries));
    if (!control) co_await node_.admit();
  }
  connection->close();
  inbound_.erase(number);
  // A newer connection of this peer may have taken over already.
  const auto current = inbound_control_.find(from);
  if (control && current != inbound_control_.end() && current->second.lock() == connection)
    inbound_control_.erase(current);
  // An Append of a primary that died may be handled after the end of its control connection, and
  // make it known again: whichever ends last tells.
  if (!stopping_ && !inbound_control_.contains(from)) node_.peer_lost(from);
}

// A connection that nobody reads from does not tell that it is broken; a newer one of the same peer
// does.
bool PeerTransport::superseded(uint64_t number, bool control) const {
  const auto mine = inbound_.find(number);
  return mine == inbound_.end() ||
         std::any_of(std::next(mine), inbound_.end(), [&](const auto& later) {
           return later.second.greeting.from == mine->second.greeting.from &&
                  later.second.control == control;
         });
}

// Whoever dials us can be dialled: waiting for the next try would be time without heartbeats.
void PeerTransport::redial(NodeId peer) {
  for (const auto kind : {pb::CONNECTION_CONTROL, pb::CONNECTION_BULK}) {
    const auto link = links_.find({peer, kind});
    if (link != links_.end()) link->second->retry_timer.cancel();
  }
}

}  // namespace ballast::server
