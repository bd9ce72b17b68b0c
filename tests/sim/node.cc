#include "tests/sim/node.h"

#include <utility>

#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "proto/peer.pb.h"
#include "server/transport/codec.h"
#include "storage/store.h"
#include "tests/sim/faulty_log.h"

namespace ballast::sim {
namespace {

constexpr uint64_t kWallStartMs = 1'800'000'000'000;

}  // namespace

SimNode::InItsTime::InItsTime(const SimNode& node)
    : time_{node.clock(), kWallStartMs + node.scheduler_.now_us() / 1000 +
                              static_cast<uint64_t>(10'000'000 + node.wall_offset_ms_)} {
  simulate_time(&time_);
}

SimNode::SimNode(NodeId id, std::string directory, Scheduler& scheduler, raft::Prng chance,
                 Hooks hooks)
    : id_(id),
      scheduler_(scheduler),
      hooks_(std::move(hooks)),
      disk_(directory, scheduler, raft::Prng(chance.next())),
      rows_(raft::Prng(chance.next())),
      incoming_(raft::Prng(chance.next())),
      arriving_(directory + ".incoming", raft::Prng(chance.next())) {
  disk_.on_error = [this] { hooks_.on_fatal("a log write failed"); };
}

SimNode::~SimNode() {
  if (running()) crash();
}

void SimNode::set_clock(uint64_t rate_ppm, int64_t wall_offset_ms) {
  rate_ppm_ = rate_ppm;
  wall_offset_ms_ = wall_offset_ms;
}

Clock::time_point SimNode::clock() const {
  const uint64_t own_us = scheduler_.now_us() * rate_ppm_ / 1'000'000;
  return Clock::time_point(std::chrono::hours(1) + std::chrono::microseconds(own_us));
}

// As ballastd does before it opens anything. Returns where the log of the rows begins, if they came
// as a snapshot.
Result<std::optional<storage::LogBase>> SimNode::settle_rows() {
  BALLAST_TRY(const auto current, storage::look_at_rows(*rows_.open()));
  BALLAST_TRY(const auto incoming, storage::look_at_rows(*incoming_.open()));
  const bool installs = storage::supersedes(incoming, current);
  if (installs) {
    BALLAST_TRY_STATUS(storage::take_over_segments(arriving_.directory(), disk_.directory()));
    rows_.exchange(incoming_);
  }
  if (installs || incoming.index <= current.index) {
    incoming_.wipe();
    arriving_.wipe();
  }
  return storage::installed_base(*rows_.open());
}

Result<std::unique_ptr<storage::IncomingSnapshot>> SimNode::open_incoming() {
  BALLAST_TRY(auto blocks, arriving_.open(disk_.directory(), disk_.faults.segment_bytes));
  return storage::IncomingSnapshot::over(incoming_.open(), std::move(blocks));
}

Status SimNode::start(const server::NodeOptions& given) {
  const InItsTime time(*this);
  ending_ = false;
  BALLAST_TRY(const auto installed, settle_rows());
  BALLAST_TRY(auto log, disk_.open(installed, [this] {
    log_ready_ = true;
    // The completion may come while the node runs: it is seen when that is done.
    scheduler_.after(0, [this, life = life_] {
      if (life == life_) run();
    });
  }));
  if (const std::string lost = disk_.recovered(*log); !lost.empty()) {
    disk_.crash();
    return fail(Errc::kInternal, "{}", lost);
  }
  auto state = storage::StateMachine::over(rows_.open(), log->payloads());
  BALLAST_CHECK(state.has_value());
  if (auto together = storage::check_together((*state)->applied().index, *log, "rows"); !together) {
    disk_.crash();
    return fail(Errc::kInternal, "{}", together.error().message);
  }
  // What it reads while it is made, recovery has just read.
  log = with_read_errors(std::move(log), [this] { return running() && disk_.read_fails(); });
  server::NodeOptions options = given;
  options.raft.id = id_;
  options.disk = disk_uuid();
  options.on_fatal = [this](const Error& error) { hooks_.on_fatal(error.message); };
  options.on_snapshot_needed = hooks_.on_snapshot_needed;
  io_ = std::make_unique<asio::io_context>(1);
  node_ = std::make_unique<server::Node>(io_->get_executor(),
                                         net::Workers{io_->get_executor(), io_->get_executor()},
                                         options, std::move(log), *std::move(state));
  node_->start(*this);
  return {};
}

void SimNode::crash() {
  ++life_;
  disk_.crash();
  rows_.crash();
  incoming_.crash();
  arriving_.crash();
  // What the node still says or stores goes nowhere. Its coroutines must end before it does.
  ending_ = true;
  const InItsTime time(*this);
  bool ended = false;
  asio::co_spawn(*io_, node_->stop(), [&ended](std::exception_ptr) { ended = true; });
  while (poll()) {
  }
  BALLAST_CHECK(ended, "node {} did not end", id_);
  node_.reset();
  io_.reset();
  paused_ = false;
}

void SimNode::wipe() {
  BALLAST_CHECK(!running());
  disk_.wipe();
  rows_.wipe();
  incoming_.wipe();
  arriving_.wipe();
  ++disks_;
}

std::string SimNode::disk_uuid() const { return fmt::format("node {:03} disk {:02}", id_, disks_); }

bool SimNode::poll() {
  bool did = false;
  if (std::exchange(log_ready_, false)) {
    node_->poll_log();
    did = true;
  }
  io_->restart();
  return io_->poll() > 0 || did;
}

void SimNode::run() {
  if (!reachable()) return;
  bool did = false;
  {
    const InItsTime time(*this);
    while (poll()) did = true;
  }
  if (did) hooks_.after_run();
}

void SimNode::peer_lost(NodeId peer) {
  if (!reachable()) return;
  {
    const InItsTime time(*this);
    node_->peer_lost(peer);
  }
  run();
}

// ---- frames -----------------------------------------------------------------------------------

void SimNode::send(raft::Message message) {
  if (ending_) return;
  hooks_.on_message(message);
  if (std::holds_alternative<raft::Append>(message.body)) {
    asio::co_spawn(*io_, send_append(std::move(message)), asio::detached);
  } else {
    transmit(message, {});
  }
}

asio::awaitable<void> SimNode::send_append(raft::Message message) {
  const auto& append = std::get<raft::Append>(message.body);
  const std::vector<Entry> entries = co_await node_->entries_for(append.entries);
  if (ending_ || entries.size() != append.entries.size()) co_return;
  transmit(message, entries);
}

void SimNode::transmit(const raft::Message& message, const std::vector<Entry>& entries) {
  size_t bytes = 0;
  for (const Entry& entry : entries) bytes += entry.payload.size();
  MutableBytes payload(bytes);
  size_t at = 0;
  for (const Entry& entry : entries) {
    if (entry.payload.empty()) continue;
    std::memcpy(payload.data() + at, entry.payload.data(), entry.payload.size());
    at += entry.payload.size();
  }
  std::string text = server::to_wire(message, entries).SerializeAsString();
  const wire::FrameHeader header{.type = wire::FrameType::kPeer,
                                 .message_bytes = static_cast<uint32_t>(text.size()),
                                 .payload_bytes = static_cast<uint32_t>(payload.size()),
                                 .message_crc = crc32c(as_byte_span(text)),
                                 .payload_crc = crc32c(payload.span())};
  const auto* receiver = server::find_member(node_->membership().newest(), message.to);
  const server::Greeting greeting{id_, disk_uuid(), receiver ? receiver->disk() : std::string(),
                                  node_->membership().newest_index(), node_->own_disk().joined};
  hooks_.transmit({id_, message.to, greeting, wire::encode_frame_header(header), std::move(text),
                   Bytes(std::move(payload))});
}

void SimNode::receive(Frame frame) {
  if (!reachable()) return;
  asio::co_spawn(*io_, take(std::move(frame)), asio::detached);
  run();
}

asio::awaitable<void> SimNode::take(Frame frame) {
  co_await node_->admit();
  const auto trust = node_->trust(frame.greeting);
  if (!trust) co_return;
  // As a connection does: what the checksums refuse never gets further.
  const auto header = wire::decode_frame_header(frame.header);
  if (!header || header->message_crc != crc32c(as_byte_span(frame.message)) ||
      header->payload_crc != crc32c(frame.payload.span()))
    co_return;
  pb::PeerMessage message;
  BALLAST_CHECK(message.ParseFromString(frame.message));
  auto received = server::from_wire(message, frame.from, id_, frame.payload);
  BALLAST_CHECK(received.has_value(), "a frame can't be read: {}", received.error().message);
  if (!ending_ && server::may_take(*trust, received->message))
    node_->step(received->message, std::move(received->entries));
}

}  // namespace ballast::sim
