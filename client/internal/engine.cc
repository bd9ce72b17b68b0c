#include "client/internal/engine.h"

#include <algorithm>

#include "client/internal/convert.h"
#include "proto/base/limits.h"

namespace ballast::client {
namespace {

unsigned thread_count(unsigned asked) {
  return asked != 0 ? asked : std::clamp(std::thread::hardware_concurrency(), 1u, 8u);
}

asio::awaitable<Status> to_status(asio::awaitable<Result<Response>> call) {
  const Result<Response> response = co_await std::move(call);
  if (!response) co_return std::unexpected(response.error());
  co_return Status{};
}

}  // namespace

Engine::Engine(Options options)
    : options_(std::move(options)),
      threads_(thread_count(options_.threads)),
      workers_(threads_),
      router_(io_.get_executor(), options_),
      thread_([this] { io_.run(); }) {}

Engine::~Engine() {
  // Connections close on their own thread; what is still under way ends with an error.
  asio::post(io_, [this] {
    router_.close();
    work_.reset();
    io_.stop();
  });
  thread_.join();
  workers_.join();
}

template <class T>
T Engine::run(asio::awaitable<T> coroutine) {
  return asio::co_spawn(io_, std::move(coroutine), asio::use_future).get();
}

Status Engine::connect() {
  if (options_.endpoints.empty())
    return fail(Errc::kInvalidArgument, "no endpoints: give at least one HOST:PORT");
  std::vector<net::Endpoint> endpoints;
  for (const std::string& text : options_.endpoints) {
    BALLAST_TRY(net::Endpoint endpoint, net::parse_endpoint(text));
    endpoints.push_back(std::move(endpoint));
  }
  const auto patience = std::min(options_.deadline, milliseconds(5000));
  return run(router_.connect(std::move(endpoints), Clock::now() + patience));
}

Result<Response> Engine::at_leader(pb::Request request, Clock::time_point deadline) {
  return run(router_.at_leader(std::move(request), {}, {}, deadline));
}

Result<Response> Engine::at_any(pb::Request request, Clock::time_point deadline) {
  return run(router_.at_any(std::move(request), deadline));
}

Result<Response> Engine::at_member(uint64_t member, pb::Request request,
                                   Clock::time_point deadline) {
  return run(router_.at_member(member, std::move(request), deadline));
}

std::future<Status> Engine::stage(const BlockId& block, Bytes bytes, Ack ack,
                                  Clock::time_point deadline) {
  pb::Request request;
  request.set_ack(to_wire(ack));
  *request.mutable_stage_block()->mutable_block() = to_wire(block);
  return asio::co_spawn(
      io_,
      to_status(router_.at_leader(std::move(request), std::move(bytes), block.crc32c, deadline)),
      asio::use_future);
}

std::future<Result<Bytes>> Engine::fetch(const BlockId& block, Clock::time_point deadline) {
  return asio::co_spawn(io_, router_.block(block, workers_, deadline), asio::use_future);
}

asio::awaitable<Result<Bytes>> Engine::block(BlockId id) {
  return router_.block(id, workers_, deadline({}));
}

Result<std::vector<Digest>> Engine::missing(std::span<const Digest> digests,
                                            Clock::time_point deadline) {
  std::vector<Digest> missing;
  while (!digests.empty()) {
    const auto part = digests.first(std::min(digests.size(), limits::kDigestsPerQueryMax));
    digests = digests.subspan(part.size());
    pb::Request request;
    for (const Digest& digest : part)
      request.mutable_missing_blocks()->add_digests(std::string(digest.text()));
    BALLAST_TRY(const Response response, at_leader(std::move(request), deadline));
    for (const std::string& raw : response.reply.missing_blocks().digests()) {
      BALLAST_TRY(const Digest digest, Digest::from_raw(raw));
      missing.push_back(digest);
    }
  }
  return missing;
}

// A session has one commit under way at a time, so as many sessions exist as commits do at once.
Engine::Session Engine::take_session() {
  const std::lock_guard lock(sessions_mutex_);
  if (idle_sessions_.empty()) return {.id = Uuid::random()};
  Session session = idle_sessions_.back();
  idle_sessions_.pop_back();
  return session;
}

void Engine::return_session(Session session) {
  const std::lock_guard lock(sessions_mutex_);
  idle_sessions_.push_back(session);
}

Result<pb::WriteReply> Engine::commit(std::vector<pb::Operation> operations,
                                      std::vector<pb::Precondition> preconditions, Ack ack,
                                      Clock::time_point deadline,
                                      std::optional<StagedBlock> block) {
  Session session = take_session();
  pb::Request request;
  request.set_ack(to_wire(ack));
  pb::Commit& commit = *request.mutable_commit();
  commit.set_session(session.id.raw());
  commit.set_sequence(++session.sequence);
  for (pb::Operation& operation : operations) *commit.add_operations() = std::move(operation);
  for (pb::Precondition& condition : preconditions)
    *commit.add_preconditions() = std::move(condition);
  Bytes payload;
  std::optional<uint32_t> payload_crc;
  if (block) {
    *commit.mutable_block() = to_wire(block->id);
    payload = std::move(block->bytes);
    payload_crc = block->id.crc32c;
  }
  Result<Response> response =
      run(router_.at_leader(std::move(request), std::move(payload), payload_crc, deadline));
  return_session(session);
  if (!response) return std::unexpected(std::move(response).error());
  pb::WriteReply reply = std::move(*response->reply.mutable_write());
  if (reply.result().code() != 0)
    return std::unexpected(
        Error{static_cast<Errc>(reply.result().code()), reply.result().message()});
  return reply;
}

}  // namespace ballast::client
