// member list|add|promote|remove|replace, drain, undrain.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "client/kvctl/arguments.h"

namespace ballast::kvctl {
namespace {

using client::MemberChange;
using client::MemberInfo;
using client::Membership;
using client::MemberStep;
using nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;
using Action = MemberChange::Action;

constexpr std::chrono::milliseconds kAskEvery{200};

// ---- list ----

struct NoArguments {};

std::string advice_for(const client::WaitingDisk& disk, const Membership& membership) {
  const bool known = std::ranges::any_of(membership.members, [&](const MemberInfo& one) {
    return one.member.name == disk.member.name;
  });
  return known ? fmt::format("kvctl member replace {}", disk.member.name)
               : fmt::format("kvctl member add {} --address {}", disk.member.name,
                             disk.member.address);
}

ordered_json membership_json(const Membership& membership) {
  ordered_json json = {{"configuration_index", membership.configuration_index},
                       {"settled", membership.settled},
                       {"leader", membership.leader},
                       {"members", ordered_json::array()},
                       {"waiting", ordered_json::array()}};
  for (const MemberInfo& one : membership.members)
    json["members"].push_back({{"id", one.member.id},
                               {"name", one.member.name},
                               {"address", one.member.address},
                               {"role", one.role},
                               {"disk", one.disk},
                               {"match", one.match},
                               {"lag_bytes", one.lag_bytes},
                               {"active", one.active},
                               {"drained", one.drained}});
  for (const client::WaitingDisk& one : membership.waiting)
    json["waiting"].push_back({{"id", one.member.id},
                               {"name", one.member.name},
                               {"address", one.member.address},
                               {"disk", one.disk},
                               {"seconds", one.seconds},
                               {"command", advice_for(one, membership)}});
  return json;
}

std::vector<std::string> member_row(const MemberInfo& one, const Membership& membership) {
  const bool led = membership.leader != 0;
  const bool leads = one.member.id == membership.leader;
  return {one.member.name,
          std::to_string(one.member.id),
          one.member.address,
          one.role,
          one.disk.empty() ? "unknown" : one.disk.substr(0, 8),
          !led ? "-" : std::to_string(one.match),
          !led || leads ? "-" : human_bytes(one.lag_bytes),
          fmt::format("{}{}",
                      leads        ? "leads"
                      : !led       ? "-"
                      : one.active ? "up"
                                   : "silent",
                      one.drained ? ", drained" : "")};
}

Status list(const Context& context, const NoArguments&) {
  BALLAST_TRY(client::Client client, context.connect());
  BALLAST_TRY(const Membership membership, client.membership());
  if (context.json) {
    print_json(membership_json(membership));
    return {};
  }
  fmt::print("members of log entry {}{}\n\n", membership.configuration_index,
             membership.settled ? "" : ", whose change is under way");
  Table table{.header = {"NAME", "ID", "ADDRESS", "ROLE", "DISK", "MATCH", "LAG", "STATE"},
              .rows = {}};
  for (const MemberInfo& one : membership.members)
    table.rows.push_back(member_row(one, membership));
  table.print();
  for (const client::WaitingDisk& one : membership.waiting)
    fmt::print("\n{} at {} asks to be let in with disk {}: {}\n", one.member.name,
               one.member.address, one.disk.substr(0, 8), advice_for(one, membership));
  return {};
}

// ---- changes ----

struct ChangeArguments {
  MemberChange change;
  double wait_seconds = 600;
};

std::string nothing_to_do(const MemberChange& change) {
  switch (change.action) {
    case Action::kAdd: return fmt::format("'{}' is a member already", change.name);
    case Action::kPromote: return fmt::format("'{}' votes already", change.name);
    case Action::kRemove: return fmt::format("'{}' is no member", change.name);
    case Action::kReplace:
      return fmt::format("'{}' is a member with the disk that it has", change.name);
  }
  return {};
}

void note(const std::string& text) {
  if (::isatty(STDERR_FILENO) != 0) fmt::print(stderr, "{}\n", text);
}

// Asks for one step after the other until nothing is left. `plan` is what there was to do.
Result<MemberStep> carry_out(client::Client& client, MemberChange change, const MemberStep& plan,
                             Clock::time_point deadline) {
  size_t left = plan.steps.size();
  std::string waiting;
  for (;;) {
    BALLAST_TRY(const MemberStep step, client.change_members(change));
    for (; left > step.steps.size(); --left)
      note(fmt::format("done: {}", plan.steps[plan.steps.size() - left]));
    if (step.done) return step;
    if (Clock::now() > deadline)
      return fail(Errc::kDeadline, "still to do: {}{}", fmt::join(step.steps, "; "),
                  step.waiting.empty() ? "" : "; it waits: " + step.waiting);
    if (step.waiting.empty()) {
      change.expect_configuration_index = 0;  // it was the one that the caller meant
      continue;
    }
    if (step.waiting != waiting) note(fmt::format("waiting: {}", step.waiting));
    waiting = step.waiting;
    std::this_thread::sleep_for(kAskEvery);
  }
}

void report(const Context& context, const MemberChange& change, const MemberStep& plan,
            const MemberStep& end) {
  if (context.json) {
    print_json({{"done", end.done},
                {"dry_run", change.dry_run},
                {"configuration_index", end.configuration_index},
                {"steps", plan.steps},
                {"waiting", end.waiting}});
    return;
  }
  if (plan.steps.empty()) fmt::print("{}: nothing to do\n", nothing_to_do(change));
  for (const std::string& step : plan.steps)
    fmt::print("{}{}\n", change.dry_run ? "would " : "done: ", step);
  if (change.dry_run && !end.waiting.empty()) fmt::print("it would wait: {}\n", end.waiting);
}

// First the plan, so that what is refused is refused before anything has changed.
Status change_members(const Context& context, const ChangeArguments& arguments) {
  BALLAST_TRY(client::Client client, context.connect());
  MemberChange rehearsal = arguments.change;
  rehearsal.dry_run = true;
  BALLAST_TRY(const MemberStep plan, client.change_members(rehearsal));
  MemberStep end = plan;
  if (!plan.done && !arguments.change.dry_run) {
    const auto wait =
        std::chrono::milliseconds(static_cast<int64_t>(arguments.wait_seconds * 1000));
    BALLAST_TRY(end, carry_out(client, arguments.change, plan, Clock::now() + wait));
  }
  report(context, arguments.change, plan, end);
  return {};
}

Command<ChangeArguments> add_change(CLI::App& parent, Context& context, const std::string& name,
                                    const std::string& description, Action action) {
  auto command = add_command(parent, context, name, description, change_members);
  command.arguments->change.action = action;
  MemberChange& change = command.arguments->change;
  command.app->add_option("NAME", change.name, "The node's name")->required();
  command.app->add_flag("--dry-run", change.dry_run, "Say what would be done, and do nothing");
  command.app->add_option("--expect", change.expect_configuration_index,
                          "Only if the members are those of this log entry (see member list)");
  command.app
      ->add_option("--wait", command.arguments->wait_seconds,
                   "Seconds until it is given up; what was done stays, and the same command "
                   "goes on from there")
      ->check(CLI::Range(0.0, 86'400.0))
      ->capture_default_str();
  return command;
}

// ---- drain ----

struct DrainArguments {
  std::string node;
};

Status set_drained(const Context& context, const DrainArguments& arguments, bool undo) {
  BALLAST_TRY(client::Client client, context.connect());
  BALLAST_TRY(const client::Member leader, client.drain(arguments.node, undo));
  if (context.json)
    print_json({{"name", arguments.node}, {"drained", !undo}, {"leader", leader.name}});
  else
    fmt::print("{} {}; {} leads\n", arguments.node,
               undo ? "may lead again" : "does not lead until `kvctl undrain` or its restart",
               leader.name.empty() ? "nobody" : leader.name);
  return {};
}

Status drain(const Context& context, const DrainArguments& arguments) {
  return set_drained(context, arguments, false);
}
Status undrain(const Context& context, const DrainArguments& arguments) {
  return set_drained(context, arguments, true);
}

}  // namespace

void add_member_commands(CLI::App& app, Context& context) {
  CLI::App* member = app.add_subcommand("member", "who belongs to the cluster");
  member->require_subcommand(1);
  add_command(*member, context, "list", "the members, and the disks that wait to become some",
              list);
  const auto add = add_change(*member, context, "add",
                              "let a new node in, as a learner without vote", Action::kAdd);
  add.app->add_option("--address", add.arguments->change.address, "HOST:PORT where it runs")
      ->required();
  add_change(*member, context, "promote", "let a learner vote, once it has caught up",
             Action::kPromote);
  add_change(*member, context, "remove", "take a member out", Action::kRemove);
  const auto replace =
      add_change(*member, context, "replace",
                 "let a member in again whose disk was lost: the old one goes, the new one comes",
                 Action::kReplace);
  replace.app->add_option("--address", replace.arguments->change.address,
                          "HOST:PORT where the new one runs (default: where it asks from)");
  replace.app->add_flag("--learner", replace.arguments->change.learner, "It gets no vote");

  const auto drain_command = add_command(
      app, context, "drain", "hand leadership away from a node and keep it away", drain);
  drain_command.app->add_option("NAME", drain_command.arguments->node, "The node")->required();
  const auto undrain_command =
      add_command(app, context, "undrain", "let a drained node lead again", undrain);
  undrain_command.app->add_option("NAME", undrain_command.arguments->node, "The node")->required();
}

}  // namespace ballast::kvctl
