// Accepts connections and hands each to the peers' transport or to a client's session.
#pragma once

#include <chrono>
#include <map>
#include <memory>

#include "proto/base/limits.h"
#include "proto/net/asio.h"
#include "proto/net/connection.h"
#include "server/service/service.h"
#include "server/transport/peer_transport.h"

namespace ballast::server {

struct ListenerOptions {
  size_t clients_max = limits::kConnectionsMax;
  std::chrono::milliseconds reply_stall{30'000};  // a client must take a reply within this time
};

class Listener {
 public:
  Listener(asio::any_io_executor executor, Service& service, PeerTransport& transport,
           ListenerOptions options = {});

  // Errors: kIo if the address can't be bound, with what to do.
  Status open(const net::Endpoint& address);
  // The port that it listens on, which the system chose if that of the address was 0.
  uint16_t port() const { return port_; }
  // Clients whose requests are answered now.
  size_t clients() const { return clients_; }
  void start();
  // No new connections, no new requests.
  void close();
  // Waits until the requests that are under way have been answered, or the deadline passes.
  asio::awaitable<void> drain(Clock::time_point deadline);
  // Breaks what is left and waits for its end.
  asio::awaitable<void> stop();

 private:
  asio::awaitable<void> accept_loop();
  asio::awaitable<void> serve(tcp::socket socket);
  void log_refusal(const std::string& peer, const std::string& why);
  asio::awaitable<void> serve_client(std::shared_ptr<net::Connection> connection);
  asio::awaitable<void> admit(const std::shared_ptr<net::Connection>& connection,
                              const size_t& under_way, net::Signal& finished);
  asio::awaitable<void> answer(std::shared_ptr<net::Connection> connection, wire::Frame frame,
                               std::shared_ptr<size_t> under_way,
                               std::shared_ptr<net::Signal> finished);
  asio::awaitable<void> reply(std::shared_ptr<net::Connection> connection, uint64_t stream,
                              pb::Request request, Bytes payload, uint32_t payload_crc);
  template <class Coroutine>
  void spawn(Coroutine coroutine);

  asio::any_io_executor executor_;
  Service& service_;
  PeerTransport& transport_;
  ListenerOptions options_;
  tcp::acceptor acceptor_;
  uint16_t port_ = 0;
  std::map<uint64_t, std::weak_ptr<net::Connection>> connections_;
  std::map<std::string, Clock::time_point> refusals_;  // that were logged: by the reason, when
  uint64_t accepted_ = 0;
  size_t requests_ = 0;       // under way, of all connections
  size_t payload_bytes_ = 0;  // that they carry
  size_t reply_bytes_ = 0;    // of blocks that are read for clients or on their way to them
  size_t clients_ = 0;
  int running_ = 0;
  bool closing_ = false;
  net::Signal ended_signal_;
};

}  // namespace ballast::server
