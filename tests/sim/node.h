// A node in the simulation: the real server::Node over the real segment log and the real apply
// code, with a simulated disk, an own clock, and frames of bytes to and from the others.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "proto/net/asio.h"
#include "proto/wire/frame.h"
#include "server/node/node.h"
#include "server/raft/prng.h"
#include "storage/snapshot/incoming.h"
#include "tests/sim/arriving.h"
#include "tests/sim/disk.h"
#include "tests/sim/memory_rows.h"

namespace ballast::sim {

// What a frame on its way is made of.
struct Frame {
  NodeId from;
  NodeId to;
  server::Greeting greeting;  // of its connection
  std::array<std::byte, wire::kFrameHeaderBytes> header;
  std::string message;  // pb::PeerMessage
  Bytes payload;
};

class SimNode final : public server::PeerSender {
 public:
  struct Hooks {
    std::function<void(Frame)> transmit;
    // A message leaves the node, in the moment in which it does.
    std::function<void(const raft::Message&)> on_message;
    // The node can't go on (a disk error, a log that can't be read): it ends after this event.
    std::function<void(const std::string& why)> on_fatal;
    std::function<void()> after_run;
    // The others' logs do not reach back to where the node's ends.
    std::function<void(Index)> on_snapshot_needed;
  };

  SimNode(NodeId id, std::string directory, Scheduler& scheduler, raft::Prng chance, Hooks hooks);
  ~SimNode() override;

  // Starts with what the disk holds. Errors: those of SimDisk::open(), and kInternal if the disk
  // has lost what it had.
  Status start(const server::NodeOptions& options);
  // The process dies, now.
  void crash();
  // The process stops for a while: no event reaches it, its clock goes on.
  void set_paused(bool paused) { paused_ = paused; }
  // A new, empty disk, and with it a new identity. REQUIRES: the node is down.
  void wipe();
  // The disk's identity, 16 bytes.
  std::string disk_uuid() const;

  // Lets the node do what it can do at this moment. To be called when time has passed or something
  // has arrived. REQUIRES: not from within the node.
  void run();
  void receive(Frame frame);
  void peer_lost(NodeId peer);

  NodeId id() const { return id_; }
  bool running() const { return node_ != nullptr; }
  bool paused() const { return paused_; }
  bool reachable() const { return running() && !paused_; }
  server::Node& node() { return *node_; }
  const server::Node& node() const { return *node_; }
  asio::io_context& io() { return *io_; }
  SimDisk& disk() { return disk_; }
  const SimDisk& disk() const { return disk_; }
  MemoryRows& rows() { return rows_; }
  // Where a snapshot is brought to; installed by the next start if it is whole then.
  Result<std::unique_ptr<storage::IncomingSnapshot>> open_incoming();
  uint64_t life() const { return life_; }

  // How fast its clock goes, in parts of a million of the true time, and how wrong its calendar is.
  void set_clock(uint64_t rate_ppm, int64_t wall_offset_ms);
  uint64_t clock_rate_ppm() const { return rate_ppm_; }
  Clock::time_point clock() const;
  // While this lives, Clock::now() says the node's time.
  class InItsTime {
   public:
    explicit InItsTime(const SimNode& node);
    ~InItsTime() { simulate_time(nullptr); }
    InItsTime(const InItsTime&) = delete;
    InItsTime& operator=(const InItsTime&) = delete;

   private:
    SimulatedTime time_;
  };

 private:
  Result<std::optional<storage::LogBase>> settle_rows();
  void send(raft::Message message) override;
  asio::awaitable<void> send_append(raft::Message message);
  void transmit(const raft::Message& message, const std::vector<Entry>& entries);
  asio::awaitable<void> take(Frame frame);
  bool poll();

  const NodeId id_;
  Scheduler& scheduler_;
  Hooks hooks_;
  SimDisk disk_;
  MemoryRows rows_;
  MemoryRows incoming_;
  ArrivingFiles arriving_;
  std::unique_ptr<asio::io_context> io_;
  std::unique_ptr<server::Node> node_;
  bool log_ready_ = false;
  bool paused_ = false;
  bool ending_ = false;
  uint64_t life_ = 0;
  uint64_t disks_ = 1;  // that this node has had
  uint64_t rate_ppm_ = 1'000'000;
  int64_t wall_offset_ms_ = 0;
};

}  // namespace ballast::sim
