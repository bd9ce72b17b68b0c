#include "client/internal/channel.h"

#include <algorithm>
#include <utility>

#include "proto/base/limits.h"
#include "proto/net/greeting.h"

namespace ballast::client {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kConnectTimeout{1000};
constexpr milliseconds kDownTime{100};
// After a failure that took a second to notice: the next attempt might take as long.
constexpr milliseconds kStoppedTime{1000};
// Of silence while requests are pending, before the node is asked whether it lives; and then,
// before it counts as stopped.
constexpr milliseconds kSilenceMax{300};
constexpr milliseconds kPingPatience{700};
constexpr milliseconds kLookPeriod{50};
// Before the verdict no byte of ours has been acknowledged for so long. A little less than the
// patience, since the ping itself is acknowledged by the system of a node whose process is frozen.
constexpr milliseconds kTakenPatience{600};
constexpr size_t kDeadlineBytes = 16;  // what the deadline adds to a request, at most

}  // namespace

Channel::Channel(asio::any_io_executor executor, net::Endpoint endpoint)
    : executor_(executor), endpoint_(std::move(endpoint)), connected_signal_(executor) {}

void Channel::close() {
  if (connection_) connection_->close();
}

asio::awaitable<Status> Channel::ensure_connected(Clock::time_point deadline) {
  const bool waited = connecting_;
  while (connecting_) {
    if (!co_await connected_signal_.wait_until(deadline))
      co_return fail(Errc::kUnavailable, "cannot connect to {} in time", endpoint_.to_string());
  }
  if (connection_ && !connection_->closed()) co_return Status{};
  // One attempt is enough for all who waited for it.
  if (waited && down())
    co_return fail(Errc::kUnavailable, "cannot connect to {}", endpoint_.to_string());
  connecting_ = true;
  const auto self = shared_from_this();
  const auto begin = Clock::now();
  Status status = co_await connect(std::min(deadline, begin + kConnectTimeout));
  connecting_ = false;
  stopped_ = !status && Clock::now() - begin >= kConnectTimeout / 2;
  if (!status) down_until_ = Clock::now() + (stopped_ ? kStoppedTime : kDownTime);
  connected_signal_.notify();
  co_return status;
}

asio::awaitable<Status> Channel::connect(Clock::time_point deadline) {
  BALLAST_CO_TRY(const auto connection,
                 co_await net::Connection::connect(executor_, endpoint_, deadline));
  auto reply = co_await net::greet(connection, net::client_hello(), deadline);
  // With its code: an overloaded node has room later, and another one may have it now.
  if (!reply) co_return fail_within(std::move(reply).error(), "{}", endpoint_.to_string());
  greeting_ = *std::move(reply);
  leader_hint_ = greeting_.leader();
  configuration_index_ = greeting_.configuration_index();
  connection_ = connection;
  asio::co_spawn(
      executor_, [self = shared_from_this(), connection] { return self->read_loop(connection); },
      asio::detached);
  co_return Status{};
}

asio::awaitable<Result<pb::HelloReply>> Channel::greet(Clock::time_point deadline) {
  BALLAST_CO_TRY_STATUS(co_await ensure_connected(deadline));
  co_return greeting_;
}

asio::awaitable<void> Channel::read_loop(std::shared_ptr<net::Connection> connection) {
  std::string reason;
  while (reason.empty()) {
    const auto frame = co_await connection->receive(Clock::time_point::max());
    if (!frame)
      reason = frame.error().message;
    else
      deliver(*frame);
  }
  connection->close();
  if (connection == connection_) fail_pending(fmt::format("no answer: {}", reason));
}

void Channel::fail_pending(const std::string& reason) {
  for (auto& [stream, promise] : pending_) promise->set(fail(Errc::kUnknownOutcome, "{}", reason));
  pending_.clear();
}

// Runs while requests are pending.
asio::awaitable<void> Channel::watch() {
  const auto self = shared_from_this();
  Timer timer(executor_);
  auto pinged_at = Clock::time_point::max();
  auto last_look = Clock::now();
  auto awake_since = last_look;
  while (!pending_.empty()) {
    timer.expires_at(last_look + kLookPeriod);
    co_await timer.async_wait(kToken);
    const auto now = Clock::now();
    // It was this process that did not run: what came meanwhile is still to be read.
    if (now - last_look > 4 * kLookPeriod) awake_since = now;
    last_look = now;
    if (pending_.empty() || !connection_ || connection_->closed()) continue;
    if (look(pinged_at, std::max(pending_since_, awake_since))) continue;
    down_until_ = now + kStoppedTime;
    stopped_ = true;
    connection_->close();
  }
  watching_ = false;
}

// False if the node counts as stopped: pending calls have then failed. `since` is when its silence
// may begin to count; `pinged_at` is when it was asked, if it was.
bool Channel::look(Clock::time_point& pinged_at, Clock::time_point since) {
  const auto now = Clock::now();
  const net::Connection::Progress progress = connection_->progress();
  const auto silence = now - std::max(progress.heard, since);
  if (silence < kSilenceMax) {
    pinged_at = Clock::time_point::max();
    return true;
  }
  if (pinged_at == Clock::time_point::max()) {
    pinged_at = now;
    send_ping();
    return true;
  }
  if (now - pinged_at < kPingPatience || now - progress.taken < kTakenPatience) return true;
  fail_pending(fmt::format("{} has not answered for {:.1f} s", endpoint_.to_string(),
                           std::chrono::duration<double>(silence).count()));
  return false;
}

// The answer matters as a sign of life alone: nobody waits for its stream.
void Channel::send_ping() {
  pb::Request ping;
  ping.mutable_ping();
  ping.set_deadline_ms(static_cast<uint32_t>(kPingPatience.count()));
  connection_->send(net::make_frame(wire::FrameType::kRequest, ++next_stream_, ping));
}

void Channel::deliver(const wire::Frame& frame) {
  const auto found = pending_.find(frame.header.stream);
  if (found == pending_.end()) return;  // its caller has given up
  Response response{.payload = frame.payload};
  const bool parsed =
      frame.header.type == wire::FrameType::kReply && net::parse_frame(frame, response.reply);
  if (parsed) configuration_index_ = response.reply.configuration_index();
  if (!parsed) {
    found->second->set(
        fail(Errc::kUnknownOutcome, "{} sent a malformed reply", endpoint_.to_string()));
  } else if (response.reply.has_failure()) {
    const pb::Failure& failure = response.reply.failure();
    leader_hint_ = failure.leader();
    found->second->set(
        std::unexpected(Error{static_cast<Errc>(failure.code()), failure.message()}));
  } else {
    found->second->set(std::move(response));
  }
  pending_.erase(found);
}

asio::awaitable<Result<Response>> Channel::call(pb::Request request, Bytes payload,
                                                std::optional<uint32_t> payload_crc,
                                                Clock::time_point deadline) {
  const auto self = shared_from_this();
  if (request.ByteSizeLong() + kDeadlineBytes > limits::kFrameHeaderBytesMax)
    co_return fail(Errc::kInvalidArgument, "a request of {} bytes; the limit is {}",
                   request.ByteSizeLong(), limits::kFrameHeaderBytesMax);
  BALLAST_CO_TRY_STATUS(co_await ensure_connected(deadline));
  const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
  if (left <= milliseconds(0))
    co_return fail(Errc::kUnavailable, "no time left to ask {}", endpoint_.to_string());
  request.set_deadline_ms(static_cast<uint32_t>(left.count()));
  const uint64_t stream = ++next_stream_;
  const auto promise = std::make_shared<net::Promise<Outcome>>(executor_);
  std::vector<Bytes> parts;
  if (!payload.empty()) parts.push_back(std::move(payload));
  if (pending_.empty()) pending_since_ = Clock::now();
  pending_.emplace(stream, promise);
  if (!connection_->send(net::make_frame(wire::FrameType::kRequest, stream, request,
                                         std::move(parts), payload_crc))) {
    pending_.erase(stream);
    co_return fail(Errc::kUnavailable, "the connection to {} is closed or full",
                   endpoint_.to_string());
  }
  if (!std::exchange(watching_, true))
    asio::co_spawn(executor_, [self] { return self->watch(); }, asio::detached);
  // The node answers by the deadline, too; its answer gets a little time to arrive.
  constexpr milliseconds kGrace{200};
  std::optional<Outcome> outcome = co_await promise->get(deadline + kGrace);
  if (outcome) co_return *std::move(outcome);
  pending_.erase(stream);
  co_return fail(Errc::kUnknownOutcome, "{} did not answer in time", endpoint_.to_string());
}

}  // namespace ballast::client
