#include "server/service/members.h"

#include <algorithm>
#include <utility>

#include "proto/net/connection.h"
#include "server/transport/probe.h"

namespace ballast::server {
namespace {

constexpr size_t kWaitingMax = 64;
constexpr auto kWaitingTime = std::chrono::seconds(10);  // since a disk asked last
constexpr auto kProbeTime = std::chrono::seconds(2);

std::string role_of(const pb::ConfigurationMember& member, bool joint) {
  if (!member.voter() && !member.outgoing()) return "learner";
  if (!member.voter()) return "leaving";
  return joint && !member.outgoing() ? "joining" : "voter";
}

// Refusals that may pass by themselves: another change ends, a learner that is to vote catches up.
bool will_pass(Errc code, const pb::ConfigurationEntry& now, const pb::ConfigurationEntry& target) {
  if (code == Errc::kConflict || code == Errc::kUnavailable) return true;
  const auto voters = [](const pb::ConfigurationEntry& entry) {
    return std::ranges::count_if(entry.members(), &pb::ConfigurationMember::voter);
  };
  return code == Errc::kRefused && voters(target) > voters(now);
}

}  // namespace

std::vector<pb::Member> MemberRequests::members() const {
  std::vector<pb::Member> members;
  const auto add = [&](uint64_t id, std::string name, std::string address, bool learner) {
    pb::Member& member = members.emplace_back();
    member.set_id(id);
    member.set_name(std::move(name));
    member.set_address(std::move(address));
    member.set_learner(learner);
  };
  for (const pb::ConfigurationMember& member : node_.membership().newest().members())
    add(member.id(), member.name(), member.address(), !member.voter() && !member.outgoing());
  if (!members.empty()) return members;
  for (const MemberConfig& seed : cluster_.members)
    add(seed.id.value(), seed.name, seed.address.to_string(), false);
  return members;
}

std::string MemberRequests::refuse(const pb::Hello& hello, const Error& why) {
  if (!hello.joined() || why.code != Errc::kNotFound) return why.message;
  const auto now = Clock::now();
  std::erase_if(waiting_,
                [&](const auto& entry) { return entry.second.seen + kWaitingTime < now; });
  if (waiting_.size() < kWaitingMax || waiting_.contains(hello.from_disk()))
    waiting_[hello.from_disk()] = {
        {NodeId(hello.from()), hello.from_name(), hello.from_address(), hello.from_disk(), true},
        now};
  if (find_member(node_.membership().newest(), NodeId(hello.from())) != nullptr) return why.message;
  return fmt::format("{}: `kvctl member add {} --address {}` lets it in", why.message,
                     hello.from_name(), hello.from_address());
}

pb::ListMembersReply MemberRequests::list() const {
  const raft::View view = node_.core().view();
  const pb::ConfigurationEntry& newest = node_.membership().newest();
  pb::ListMembersReply reply;
  reply.set_configuration_index(node_.membership().newest_index().value());
  reply.set_settled(node_.members_settled());
  reply.set_leader(view.leader.value());
  for (const pb::ConfigurationMember& member : newest.members()) {
    pb::MemberStatus& out = *reply.add_members();
    out.set_id(member.id());
    out.set_name(member.name());
    out.set_address(member.address());
    out.set_disk(member.disk());
    out.set_role(role_of(member, view.configuration.joint()));
    if (NodeId(member.id()) == view.id) {
      out.set_match(view.stable.value());
      out.set_active(true);
      out.set_drained(node_.drained());
    }
    const auto peer = std::ranges::find(view.peers, NodeId(member.id()), &raft::PeerView::id);
    if (peer == view.peers.end()) continue;
    out.set_match(peer->match.value());
    out.set_lag_bytes(node_.bytes_after(peer->match));
    out.set_active(peer->active);
    out.set_drained(peer->resigned);
  }
  const auto now = Clock::now();
  for (const auto& [disk, waiting] : waiting_) {
    const bool member = std::ranges::any_of(
        newest.members(), [&](const pb::ConfigurationMember& one) { return one.disk() == disk; });
    if (member || waiting.seen + kWaitingTime < now) continue;
    pb::WaitingDisk& out = *reply.add_waiting();
    out.set_id(waiting.node.id.value());
    out.set_name(waiting.node.name);
    out.set_address(waiting.node.address);
    out.set_disk(disk);
    out.set_seconds(static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::seconds>(now - waiting.seen).count()));
  }
  return reply;
}

// Where the node stands that is to be let in; empty: nobody knows.
std::string MemberRequests::address_of(const pb::ChangeMembers& request) const {
  if (!request.address().empty()) return request.address();
  for (const auto& [disk, waiting] : waiting_)
    if (waiting.node.name == request.name()) return waiting.node.address;
  const auto* member = find_member(node_.membership().newest(), request.name());
  return member == nullptr ? std::string() : member->address();
}

asio::awaitable<Result<std::optional<FoundNode>>> MemberRequests::find_node(
    const pb::ChangeMembers& request, Clock::time_point deadline) {
  const std::string address = address_of(request);
  if (address.empty()) co_return std::nullopt;
  BALLAST_CO_TRY(const net::Endpoint endpoint, net::parse_endpoint(address));
  const auto executor = co_await asio::this_coro::executor;
  const auto reply =
      co_await probe(executor, endpoint, std::min(deadline, Clock::now() + kProbeTime));
  if (!reply && request.address().empty()) co_return std::nullopt;
  // Not kUnavailable: it is not the primary that does not answer.
  if (!reply) co_return fail(Errc::kRefused, "{}: start the node first", reply.error().message);
  if (reply->cluster() != cluster_.id.raw())
    co_return fail(Errc::kRefused, "the node at {} belongs to another cluster", address);
  co_return FoundNode{NodeId(reply->id()), reply->name(), endpoint.to_string(), reply->disk(),
                      reply->joined()};
}

// Why no change can begin now; empty: it can.
std::string MemberRequests::not_ready() const {
  if (!node_.core().ready_to_serve()) return "the primary has not committed an entry of its term";
  if (!node_.members_settled()) return "another change of the members is under way";
  for (const pb::ConfigurationMember& member : node_.membership().newest().members())
    if (member.disk().empty())
      return fmt::format(
          "the disk of '{}' is not known yet: it has not been up since the cluster "
          "was made",
          member.name());
  return {};
}

asio::awaitable<Result<pb::ChangeMembersReply>> MemberRequests::change(pb::ChangeMembers request,
                                                                       Clock::time_point deadline) {
  if (node_.core().role() != raft::Role::kLeader)
    co_return fail(Errc::kNotLeader, "the members are changed at the primary");
  std::optional<FoundNode> found;
  if (request.action() == pb::ChangeMembers::ADD ||
      request.action() == pb::ChangeMembers::REPLACE) {
    BALLAST_CO_TRY(found, co_await find_node(request, deadline));
  }
  // From here on nothing is waited for until the change is in the log.
  const Index index = node_.membership().newest_index();
  if (request.expect_configuration_index() != 0 &&
      Index(request.expect_configuration_index()) != index)
    co_return fail(Errc::kConflict, "the members are those of entry {}, not {}", index,
                   request.expect_configuration_index());
  BALLAST_CO_TRY(ChangePlan plan, plan_change(node_.membership().newest(), request, found));
  pb::ChangeMembersReply reply;
  reply.set_waiting(plan.target ? not_ready() : std::string());
  if (plan.target && reply.waiting().empty()) {
    const pb::ConfigurationEntry before = node_.membership().newest();
    const Status status = request.dry_run() ? node_.may_change_members(*plan.target)
                                            : co_await node_.change_members(*plan.target, deadline);
    if (!status && !will_pass(status.error().code, before, *plan.target))
      co_return std::unexpected(status.error());
    if (!status) reply.set_waiting(status.error().message);
    if (status && !request.dry_run()) {
      BALLAST_CO_TRY(plan, plan_change(node_.membership().newest(), request, found));
    }
  }
  for (const std::string& step : plan.steps) reply.add_steps(step);
  reply.set_done(!plan.target.has_value());
  reply.set_configuration_index(node_.membership().newest_index().value());
  co_return reply;
}

}  // namespace ballast::server
