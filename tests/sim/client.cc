#include "tests/sim/client.h"

#include <utility>

#include "proto/base/crc32c.h"
#include "proto/base/digest.h"
#include "tests/sim/world.h"

namespace ballast::sim {
namespace {

constexpr uint64_t kKeys = 5;
constexpr uint64_t kAttemptUs = 700'000;
constexpr int kTries = 12;

}  // namespace

Client::Client(World& world, uint64_t number, raft::Prng chance)
    : world_(world), chance_(chance), session_(fmt::format("client {:09}", number)) {}

void Client::start() { next(); }

void Client::next() {
  busy_ = world_.wants_more_requests();
  if (!busy_) return;
  if (chance_.below(3) == 0) {
    begin_read();
  } else {
    begin_write();
  }
}

void Client::pause_then_next() {
  world_.scheduler().after(1'000 + chance_.below(30'000), [this] { next(); });
}

NodeId Client::pick_node() {
  if (leader_ && chance_.below(8) != 0) return leader_;
  return NodeId(1 + chance_.below(world_.nodes()));
}

// ---- writes -----------------------------------------------------------------------------------

void Client::begin_write() {
  operation_ = {};
  operation_.key = fmt::format("key{}", chance_.below(kKeys));
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
    block.set_lease_ms(3'600'000);
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
  ReadRecord read{.key = fmt::format("key{}", chance_.below(kKeys)),
                  .invoked_us = world_.scheduler().now_us()};
  const uint64_t attempt = ++attempt_;
  // Backups serve them too.
  SimNode& node = world_.node(NodeId(1 + chance_.below(world_.nodes())));
  world_.scheduler().after(world_.client_delay_us(), [this, attempt, &node, read] {
    if (attempt != attempt_ || !node.reachable()) return;
    asio::co_spawn(node.io(), read_at(node, read, attempt), asio::detached);
    node.run();
  });
  world_.scheduler().after(kAttemptUs, [this, attempt] {
    if (attempt == attempt_) pause_then_next();
  });
}

void Client::probe(SimNode& node) {
  if (!node.reachable()) return;
  ReadRecord read{.key = fmt::format("key{}", chance_.below(kKeys)),
                  .invoked_us = world_.scheduler().now_us()};
  asio::co_spawn(node.io(), read_at(node, std::move(read), 0), asio::detached);
  node.run();
}

asio::awaitable<void> Client::read_at(SimNode& node, ReadRecord read, uint64_t attempt) {
  const uint64_t life = node.life();
  const Status ready = co_await node.node().linearize(Clock::now() + std::chrono::seconds(1));
  if (node.life() != life) co_return;
  if (ready) {
    read.applied = node.node().state().applied().index;
    if (const auto row = node.node().state().key(read.key)) {
      read.revision = row->revision();
      read.digest = row->tensor().blocks(0).digest();
      seen_[read.key] = row->revision();
      world_.check_block(node, read.digest);
    }
    world_.history().reads.push_back(std::move(read));
  }
  if (attempt != attempt_) co_return;
  ++attempt_;
  world_.scheduler().after(world_.client_delay_us(), [this] { pause_then_next(); });
}

}  // namespace ballast::sim
