// The connections between nodes.
//
// Each node dials each other member of its newest configuration twice: the control connection
// carries votes, heartbeats, acknowledgements and ReadIndex, the bulk connection Appends with their
// payloads, so that a heartbeat never waits behind a block. A connection carries messages one way;
// the answers take the other node's connections. Bytes are bounded by the core (inflight per
// follower) and, on the receiving side, by Node::admit().
//
// Members come and go with the configuration; a connection whose greeting the other side would not
// accept any more is closed. A node that no configuration names yet asks the members of its
// configuration file to let it in, and goes on asking.
//
// All on one executor.
#pragma once

#include <deque>
#include <map>
#include <memory>

#include "proto/net/connection.h"
#include "proto/peer.pb.h"
#include "server/cluster.h"
#include "server/node/node.h"
#include "server/node/transport_interface.h"

namespace ballast::server {

class PeerTransport : public PeerSender {
 public:
  // `cluster` outlives it.
  PeerTransport(asio::any_io_executor executor, const ClusterConfig& cluster, Node& node);
  ~PeerTransport() override;

  void start();
  // Closes all connections and waits until their coroutines have ended.
  asio::awaitable<void> stop();

  void send(raft::Message message) override;
  void members_changed() override;

  // What a peer's greeting says of it.
  static Greeting greeting_of(const pb::Hello& hello);
  // Serves a connection that a peer has opened, until it breaks. Node::trust() has accepted
  // `hello`.
  asio::awaitable<void> serve(std::shared_ptr<net::Connection> connection, pb::Hello hello);

 private:
  struct Link;
  struct Peer;
  struct Inbound {
    std::weak_ptr<net::Connection> connection;
    Greeting greeting;
    Trust trust;
    bool control = false;
  };
  std::vector<Peer> wanted_peers() const;
  void follow_members();
  void open_link(const Peer& peer, pb::ConnectionKind kind);
  static void close_link(Link& link);
  void check_inbound();
  bool superseded(uint64_t number, bool control) const;
  void redial(NodeId peer);
  pb::Hello hello_to(const Link& link) const;
  asio::awaitable<void> dial_loop(std::shared_ptr<Link> link);
  asio::awaitable<std::shared_ptr<net::Connection>> dial(std::shared_ptr<Link> link);
  asio::awaitable<void> send_loop(std::shared_ptr<Link> link);
  asio::awaitable<void> watch(std::shared_ptr<Link> link);
  asio::awaitable<bool> send_append(std::shared_ptr<Link> link, raft::Message message);

  asio::any_io_executor executor_;
  const ClusterConfig& cluster_;
  Node& node_;
  std::map<std::pair<NodeId, pb::ConnectionKind>, std::shared_ptr<Link>> links_;
  std::map<NodeId, std::weak_ptr<net::Connection>> inbound_control_;
  std::map<uint64_t, Inbound> inbound_;
  uint64_t inbound_count_ = 0;
  net::Signal ended_signal_;
  int running_ = 0;
  bool follow_posted_ = false;
  bool stopping_ = false;
};

}  // namespace ballast::server
