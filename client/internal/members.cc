#include "client/internal/members.h"

#include <algorithm>

#include "client/internal/convert.h"

namespace ballast::client {
namespace {

constexpr milliseconds kHandOverTime{10'000};
constexpr milliseconds kFindTime{5'000};

std::string uuid_text(const std::string& raw) {
  const auto uuid = Uuid::from_raw(raw);
  return raw.empty() || !uuid ? std::string() : uuid->to_string();
}

Result<Member> by_name(Engine& engine, const std::string& name) {
  const std::vector<Member> members = engine.members();
  const auto found = std::ranges::find(members, name, &Member::name);
  if (found != members.end()) return *found;
  return fail(Errc::kInvalidArgument, "the cluster has no member '{}'", name);
}

// With its number alone if this client does not know it yet.
Member by_id(Engine& engine, uint64_t id) {
  const std::vector<Member> members = engine.members();
  const auto found = std::ranges::find(members, id, &Member::id);
  return found != members.end() ? *found : Member{.id = id};
}

pb::ChangeMembers::Action to_wire(MemberChange::Action action) {
  switch (action) {
    case MemberChange::Action::kAdd: return pb::ChangeMembers::ADD;
    case MemberChange::Action::kPromote: return pb::ChangeMembers::PROMOTE;
    case MemberChange::Action::kRemove: return pb::ChangeMembers::REMOVE;
    case MemberChange::Action::kReplace: return pb::ChangeMembers::REPLACE;
  }
  return pb::ChangeMembers::ADD;
}

}  // namespace

Result<Membership> membership(Engine& engine) {
  pb::Request request;
  request.mutable_list_members();
  // Only the primary knows how far the others are, but without one the members are of use, too.
  auto response = engine.at_leader(request, engine.deadline(kFindTime));
  request.set_read(pb::READ_ANY);
  if (!response) response = engine.at_any(std::move(request), engine.deadline(kFindTime));
  if (!response) return std::unexpected(std::move(response).error());
  const pb::ListMembersReply& reply = response->reply.list_members();
  Membership result{.configuration_index = reply.configuration_index(),
                    .settled = reply.settled(),
                    .leader = reply.leader()};
  for (const pb::MemberStatus& one : reply.members())
    result.members.push_back({.member = member_from_wire(one),
                              .disk = uuid_text(one.disk()),
                              .role = one.role(),
                              .match = one.match(),
                              .lag_bytes = one.lag_bytes(),
                              .active = one.active(),
                              .drained = one.drained()});
  for (const pb::WaitingDisk& one : reply.waiting())
    result.waiting.push_back({.member = {one.id(), one.name(), one.address()},
                              .disk = uuid_text(one.disk()),
                              .seconds = one.seconds()});
  return result;
}

Result<MemberStep> change_members(Engine& engine, const MemberChange& change) {
  pb::Request request;
  pb::ChangeMembers& wire = *request.mutable_change_members();
  wire.set_action(to_wire(change.action));
  wire.set_name(change.name);
  wire.set_address(change.address);
  wire.set_learner(change.learner);
  wire.set_expect_configuration_index(change.expect_configuration_index);
  wire.set_dry_run(change.dry_run);
  BALLAST_TRY(const Response response,
              engine.at_leader(std::move(request), engine.deadline(std::nullopt)));
  const pb::ChangeMembersReply& reply = response.reply.change_members();
  return MemberStep{.configuration_index = reply.configuration_index(),
                    .done = reply.done(),
                    .steps = {reply.steps().begin(), reply.steps().end()},
                    .waiting = reply.waiting()};
}

Result<Member> transfer_leadership(Engine& engine, const std::string& to) {
  pb::Request request;
  request.mutable_transfer_leader();
  if (!to.empty()) {
    BALLAST_TRY(const Member target, by_name(engine, to));
    request.mutable_transfer_leader()->set_to(target.id);
  }
  BALLAST_TRY(const Response response,
              engine.at_leader(std::move(request), engine.deadline(kHandOverTime)));
  return by_id(engine, response.reply.transfer_leader().leader());
}

Result<Member> drain(Engine& engine, const std::string& node, bool undo) {
  BALLAST_TRY(const Member member, by_name(engine, node));
  pb::Request request;
  request.mutable_drain()->set_undo(undo);
  BALLAST_TRY(const Response response,
              engine.at_member(member.id, std::move(request), engine.deadline(kHandOverTime)));
  return by_id(engine, response.reply.drain().leader());
}

}  // namespace ballast::client
