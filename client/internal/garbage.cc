#include "client/internal/garbage.h"

#include <utility>

namespace ballast::client {
namespace {

constexpr uint32_t kRowsOfExpire = 1000;

// Adds what a reply says of the blocks behind those of the replies before it.
void add(GarbageReport& report, const pb::GarbageReply& reply) {
  report.blocks += reply.blocks();
  report.bytes += reply.bytes();
  report.due_blocks += reply.due_blocks();
  report.due_bytes += reply.due_bytes();
  report.due_sessions += reply.due_sessions();
  if (reply.next_lease_ms() == 0) return;
  if (!report.next_lease) report.next_lease = milliseconds(reply.next_lease_ms());
  report.last_lease = milliseconds(reply.last_lease_ms());
}

void set_log(GarbageReport& report, const pb::LogGarbage& log) {
  report.log_bytes = log.bytes();
  report.live_bytes = log.live_bytes();
  report.spare_bytes = log.spare_bytes();
  report.empty_segments = log.empty_segments();
  report.empty_bytes = log.empty_bytes();
  report.sparse_segments = log.sparse_segments();
  report.sparse_bytes = log.sparse_bytes();
  report.moving_bytes = log.moving_bytes();
}

GarbageReport garbage_of(Engine& engine, const Member& member) {
  GarbageReport report{.member = member};
  std::string after;
  do {
    pb::Request request;
    request.mutable_garbage()->set_after(after);
    const auto response = engine.at_member(member.id, std::move(request), engine.deadline({}));
    if (!response) return {.member = member, .error = response.error()};
    const pb::GarbageReply& reply = response->reply.garbage();
    add(report, reply);
    set_log(report, reply.log());
    after = reply.next();
  } while (!after.empty());
  return report;
}

// As an Expire of the primary itself, which it would write within a second.
Result<uint64_t> expire(Engine& engine) {
  uint64_t expired = 0;
  while (true) {
    std::vector<pb::Operation> operations(1);
    operations[0].mutable_expire()->set_rows_max(kRowsOfExpire);
    BALLAST_TRY(const pb::WriteReply reply,
                engine.commit(std::move(operations), {}, Ack::kSync, engine.deadline({})));
    const auto& results = reply.result().operations();
    const uint64_t rows = results.empty() ? 0 : results[0].rows();
    expired += rows;
    if (rows < kRowsOfExpire) return expired;
  }
}

GarbageReport let_go(Engine& engine, const Member& member) {
  bool more = true;
  while (more) {
    pb::Request request;
    request.mutable_collect_garbage();
    const auto response = engine.at_member(member.id, std::move(request), engine.deadline({}));
    if (!response) return {.member = member, .error = response.error()};
    more = response->reply.collect_garbage().more();
  }
  return garbage_of(engine, member);
}

}  // namespace

Result<std::vector<GarbageReport>> garbage(Engine& engine) {
  return engine.each_member([&](const Member& member) { return garbage_of(engine, member); });
}

Result<Collected> collect_garbage(Engine& engine) {
  BALLAST_TRY(const uint64_t expired, expire(engine));
  return Collected{.expired = expired, .nodes = engine.each_member([&](const Member& member) {
                     return let_go(engine, member);
                   })};
}

}  // namespace ballast::client
