#include "tests/sim/client.h"

#include <array>
#include <chrono>
#include <utility>

#include "proto/base/crc32c.h"
#include "proto/base/digest.h"
#include "tests/sim/staleness.h"
#include "tests/sim/world.h"

namespace ballast::sim {
namespace {

constexpr uint64_t kLeaseMs = 1'000;  // short, so that blocks go when their keys do

constexpr uint64_t kKeys = 5;
constexpr uint64_t kAttemptUs = 700'000;
constexpr int kTries = 12;
constexpr std::array<uint64_t, 4> kBoundsUs = {2'000, 10'000, 50'000, 300'000};
constexpr std::chrono::seconds kPatience{1};

}  // namespace

Client::Client(World& world, uint64_t number, raft::Prng chance)
    : world_(world), chance_(chance), session_(fmt::format("client {:09}", number)) {}

void Client::start() { next(); }

void Client::next() {
  busy_ = world_.wants_more_requests();
  if (!busy_) return;
  begin_bounded_read();
  if (chance_.below(3) == 0) {
    begin_read();
  } else {
    begin_write();
  }
}

void Client::pause_then_next() {
  world_.scheduler().after(1'000 + chance_.below(30'000), [this] { next(); });
}

std::string Client::pick_key() { return fmt::format("key{}", chance_.below(kKeys)); }

NodeId Client::pick_node() {
  if (leader_ && chance_.below(8) != 0) return leader_;
  return NodeId(1 + chance_.below(world_.nodes()));
}

// ---- writes -----------------------------------------------------------------------------------

void Client::begin_write() {
  operation_ = {};
  operation_.key = pick_key();
  operation_.erase = chance_.below(6) == 0;
  const auto seen = seen_.find(operation_.key);
  if (seen != seen_.end() && chance_.below(3) == 0) operation_.expect = seen->second;
  const uint64_t dice = chance_.below(10);
  operation_.ack = dice < 2 ? pb::ACK_ASYNC : dice < 4 ? pb::ACK_SYNC_ALL : pb::ACK_SYNC;
  ++sequence_;
  if (!operation_.erase) {
    // No two payloads are equal: a block that is there already would not be written.
    std::string text = fmt::format("{} {} ", session_, sequence_);
    const uint64_t size = chance_.below(20) == 0 ? 20'000 : 200;
    text.resize(text.size() + chance_.below(size), 'x');
    operation_.payload = Bytes::copy_of(text);
  }
  record_ = world_.history().writes.size();
  world_.history().writes.push_back({.session = session_,
                                     .sequence = sequence_,
                                     .invoked_us = world_.scheduler().now_us(),
                                     .code = {}});
  tries_left_ = kTries;
  attempt_write();
}

std::vector<server::Node::Draft> Client::drafts() const {
  std::vector<server::Node::Draft> drafts;
  pb::CommitEntry commit;
  commit.set_session(session_);
  commit.set_sequence(sequence_);
  commit.set_time_ms(wall_clock_ms());
  if (operation_.expect) {
    auto& wanted = *commit.add_preconditions()->mutable_key_revision();
    wanted.set_key(operation_.key);
    wanted.set_revision(*operation_.expect);
  }
  if (operation_.erase) {
    commit.add_operations()->mutable_delete_key()->set_key(operation_.key);
  } else {
    pb::BlockEntry block;
    block.mutable_block()->set_digest(std::string(sha256(operation_.payload.span()).text()));
    block.mutable_block()->set_length(static_cast<uint32_t>(operation_.payload.size()));
    block.mutable_block()->set_crc32c(crc32c(operation_.payload.span()));
    block.set_time_ms(wall_clock_ms());
    block.set_lease_ms(kLeaseMs);
    drafts.push_back({.kind = EntryKind::kBlock,
                      .header = Bytes::copy_of(block.SerializeAsString()),
                      .payload = operation_.payload});
    auto& put = *commit.add_operations()->mutable_put_key();
    put.set_key(operation_.key);
    *put.mutable_tensor()->add_blocks() = block.block();
    pb::Tensor& tensor = *put.mutable_tensor();
    tensor.set_dtype(1);
    tensor.mutable_codec()->set_id(1);
    tensor.add_shape(operation_.payload.size());
    tensor.set_values_per_block(operation_.payload.size());
    tensor.set_encoded_bytes(operation_.payload.size());
  }
  drafts.push_back(
      {.kind = EntryKind::kCommit, .header = Bytes::copy_of(commit.SerializeAsString())});
  return drafts;
}

void Client::attempt_write() {
  const uint64_t attempt = ++attempt_;
  if (tries_left_-- == 0) {  // its outcome stays unknown; a later sequence puts an end to it
    leader_ = NodeId();
    pause_then_next();
    return;
  }
  SimNode& node = world_.node(pick_node());
  world_.scheduler().after(world_.client_delay_us(), [this, attempt, &node] {
    if (attempt != attempt_ || !node.reachable()) return;
    asio::co_spawn(node.io(), write_at(node, attempt), asio::detached);
    node.run();
  });
  world_.scheduler().after(kAttemptUs, [this, attempt] {
    if (attempt != attempt_) return;
    leader_ = NodeId();
    attempt_write();
  });
}

asio::awaitable<void> Client::write_at(SimNode& node, uint64_t attempt) {
  const pb::AckLevel ack = operation_.ack;
  const uint64_t life = node.life();
  const auto deadline = Clock::now() + std::chrono::seconds(2);
  Reply reply{co_await node.node().write(drafts(), ack, deadline)};
  if (node.life() != life) co_return;  // the process died: nobody hears this
  if (reply.written && ack != pb::ACK_ASYNC) world_.on_ack(node, *reply.written);
  const NodeId leader = node.node().core().leader();
  world_.scheduler().after(world_.client_delay_us(),
                           [this, attempt, leader, reply = std::move(reply)] {
                             if (attempt != attempt_) return;
                             leader_ = leader;
                             on_reply(attempt, reply);
                           });
}

void Client::on_reply(uint64_t attempt, const Reply& reply) {
  if (!reply.written) {
    // Whatever it was, the same sequence again is safe.
    world_.scheduler().after(10'000 + chance_.below(100'000), [this, attempt] {
      if (attempt == attempt_) attempt_write();
    });
    return;
  }
  ++attempt_;  // no time-out any more
  if (reply.written->reached == pb::ACK_ASYNC) {
    pause_then_next();
    return;
  }
  finish(reply.written->result);
}

void Client::finish(const pb::ApplyResult& result) {
  WriteRecord& record = world_.history().writes[record_];
  record.completed_us = world_.scheduler().now_us();
  record.code = result.code();
  record.index = result.index();
  if (result.code() == 0) seen_[operation_.key] = operation_.erase ? 0 : result.index();
  pause_then_next();
}

// ---- reads --------------------------------------------------------------------------------------

void Client::begin_read() {
  const std::string key = pick_key();
  const uint64_t invoked_us = world_.scheduler().now_us();
  const uint64_t attempt = ++attempt_;
  // Backups serve them too.
  SimNode& node = world_.node(NodeId(1 + chance_.below(world_.nodes())));
  world_.scheduler().after(world_.client_delay_us(), [this, attempt, &node, key, invoked_us] {
    if (attempt != attempt_ || !node.reachable()) return;
    asio::co_spawn(node.io(), read_at(node, key, invoked_us, attempt), asio::detached);
    node.run();
  });
  world_.scheduler().after(kAttemptUs, [this, attempt] {
    if (attempt == attempt_) pause_then_next();
  });
}

// On the side: nobody waits for its answer.
void Client::begin_bounded_read() {
  SimNode& node = world_.node(NodeId(1 + chance_.below(world_.nodes())));
  const uint64_t bound_us = kBoundsUs[chance_.below(kBoundsUs.size())];
  world_.scheduler().after(world_.client_delay_us(), [this, &node, key = pick_key(), bound_us] {
    if (!node.reachable()) return;
    asio::co_spawn(node.io(), bounded_read_at(node, key, bound_us), asio::detached);
    node.run();
  });
}

void Client::probe(SimNode& node) {
  if (!node.reachable()) return;
  asio::co_spawn(node.io(), read_at(node, pick_key(), world_.scheduler().now_us(), 0),
                 asio::detached);
  asio::co_spawn(node.io(), bounded_read_at(node, pick_key(), kBoundsUs.back()), asio::detached);
  node.run();
}

asio::awaitable<void> Client::read_at(SimNode& node, std::string key, uint64_t invoked_us,
                                      uint64_t attempt) {
  const uint64_t life = node.life();
  const Status ready = co_await node.node().linearize(Clock::now() + kPatience);
  if (node.life() != life) co_return;
  if (ready) note_read(node, {.key = std::move(key), .shows_us = invoked_us});
  if (attempt != attempt_) co_return;
  ++attempt_;
  world_.scheduler().after(world_.client_delay_us(), [this] { pause_then_next(); });
}

asio::awaitable<void> Client::bounded_read_at(SimNode& node, std::string key, uint64_t bound_us) {
  const uint64_t life = node.life();
  const uint64_t judged_us = world_.scheduler().now_us();
  const Status ready =
      co_await node.node().freshen(std::chrono::microseconds(bound_us), Clock::now() + kPatience);
  if (node.life() != life || !ready) co_return;
  const uint64_t shows_us = bounded_from_us(judged_us, bound_us, node.clock_rate_ppm());
  note_read(node, {.key = std::move(key), .bounded = true, .shows_us = shows_us});
}

void Client::note_read(SimNode& node, ReadRecord read) {
  read.applied = node.node().state().applied().index;
  if (const auto row = node.node().state().key(read.key)) {
    read.revision = row->revision();
    read.digest = row->tensor().blocks(0).digest();
    if (!read.bounded) seen_[read.key] = row->revision();
    world_.check_block(node, read.digest);
  }
  world_.history().reads.push_back(std::move(read));
}

}  // namespace ballast::sim
