// What goes wrong in a world, and what its operator does about it.
#include <utility>

#include "tests/sim/world.h"

namespace ballast::sim {

void World::plan_faults() {
  plan(faults_.crash_ms, &World::crash_one);
  plan(faults_.pause_ms, &World::pause_one);
  plan(faults_.partition_ms, &World::partition);
  plan(faults_.strand_ms, &World::strand_primary);
  plan(faults_.transfer_ms, &World::transfer);
  plan(faults_.flush_ms, &World::flush_one);
  plan(faults_.rot_ms, &World::rot_one);
  plan(faults_.wipe_ms, &World::wipe_one);
  plan(faults_.misplace_ms, &World::misplace_one);
  plan(faults_.hang_ms, &World::hang_one);
  plan(faults_.full_ms, &World::fill_one);
  plan(faults_.change_ms, &World::change_membership);
}

void World::plan(uint64_t mean_ms, void (World::*happen)()) {
  if (mean_ms == 0) return;
  scheduler_.after(1 + chance_faults_.below(2 * mean_ms * kMs), [this, mean_ms, happen] {
    if (calm_) return;
    (this->*happen)();
    plan(mean_ms, happen);
  });
}

// At any moment, or in the middle of a log write.
void World::crash_one() {
  const NodeId id(1 + chance_faults_.below(nodes_.size()));
  if (chance_faults_.below(2) == 0) return crash_node(id, true);
  replicas_[id].doomed = true;
}

void World::pause_one() {
  SimNode& one = *nodes_[chance_faults_.below(nodes_.size())];
  if (!one.reachable()) return;
  ++counts_.pauses;
  say(fmt::format("node {} pauses", one.id()));
  one.set_paused(true);
  scheduler_.after(chance_faults_.below(2 * faults_.pause_length_ms * kMs), [this, &one] {
    one.set_paused(false);
    for (int i = 0; i < 3; ++i) probe(one);
  });
}

void World::partition() {
  ++counts_.partitions;
  cut_.clear();
  // Each node stands on one side; a cut goes both ways or one way.
  const bool one_way = chance_faults_.below(3) == 0;
  std::vector<bool> side;
  for (size_t i = 0; i < nodes_.size(); ++i) side.push_back(chance_faults_.below(2) == 0);
  if (chance_faults_.below(3) == 0) {  // one alone
    side.assign(side.size(), false);
    side[chance_faults_.below(side.size())] = true;
  }
  for (size_t a = 0; a < side.size(); ++a) {
    for (size_t b = 0; b < side.size(); ++b) {
      if (side[a] && !side[b]) {
        cut_.insert({NodeId(a + 1), NodeId(b + 1)});
        if (!one_way) cut_.insert({NodeId(b + 1), NodeId(a + 1)});
      }
    }
  }
  say(fmt::format("partition with {} cuts", cut_.size()));
  scheduler_.after(chance_faults_.below(2 * faults_.partition_heal_ms * kMs),
                   [this] { cut_.clear(); });
}

void World::cut_off(const std::set<NodeId>& side) {
  cut_.clear();
  for (const auto& one : nodes_) {
    if (side.contains(one->id())) continue;
    for (const NodeId id : side) {
      cut_.insert({one->id(), id});
      cut_.insert({id, one->id()});
    }
  }
}

// Trouble comes together: the primary and one other are cut off, their disks hang, and the primary
// dies of it. What the other one was sent meanwhile is in flight to its disk for so long that
// another primary replaces it first.
void World::strand_primary() {
  SimNode* leads = leader();
  SimNode& other = *nodes_[chance_faults_.below(nodes_.size())];
  if (leads == nullptr || leads == &other || !other.reachable()) return;
  ++counts_.stranded;
  say(fmt::format("node {}, which leads, is stranded with node {}", leads->id(), other.id()));
  cut_off({leads->id(), other.id()});
  leads->disk().hang(kStrandUs);
  other.disk().hang(kStrandUs);
  scheduler_.after(chance_faults_.below(500 * kMs), [this, id = leads->id()] {
    cut_.clear();
    if (calm_) return;
    node(id).disk().hang(0);
    crash_node(id, true);
  });
}

void World::transfer() {
  for (const auto& one : nodes_) {
    if (!one->reachable() || one->node().core().role() != raft::Role::kLeader) continue;
    const NodeId to(chance_faults_.below(nodes_.size() + 1));
    asio::co_spawn(
        one->io(),
        [&node = one->node(), to]() -> asio::awaitable<void> {
          static_cast<void>(
              co_await node.transfer_leadership(to, Clock::now() + std::chrono::seconds(2)));
        },
        asio::detached);
    one->run();
  }
}

// Where the promises allow it: a majority of the voters keeps its disks, and everything committed
// is on a majority of these voters, since their configuration itself is committed.
bool World::may_damage(const SimNode& one) {
  SimNode* leads = leader();
  if (leads == nullptr || leads == &one) return false;
  const raft::Core& core = leads->node().core();
  if (core.configuration().joint() || core.configuration_index() > core.commit()) return false;
  const pb::ConfigurationEntry& members = leads->node().membership().newest();
  size_t bad = 0;
  for (const pb::ConfigurationMember& member : members.members()) {
    const SimNode& its = node(NodeId(member.id()));
    const bool gone = member.disk() != its.disk_uuid() || replicas_[its.id()].damaged;
    if (member.voter() && (gone || &its == &one)) ++bad;
  }
  return bad <= (core.configuration().voters.size() - 1) / 2;
}

// Nobody lets a disk vote that is lost already, if the others could not outvote the lost ones.
bool World::has_intact_majority(const pb::ConfigurationEntry& members) {
  return raft::has_majority(server::configuration_of(members), [&](NodeId id) {
    return server::find_member(members, id)->disk() == node(id).disk_uuid() &&
           !replicas_[id].damaged;
  });
}

// The node finds out when it reads it, now or later, and then its disk is replaced.
void World::damage_one(bool (SimDisk::*damage)(), uint64_t Counts::* count, std::string_view what) {
  // Nobody would take a second new disk in.
  if (faults_.change_ms == 0 && counts_.rotten + counts_.misplaced > 0) return;
  SimNode& one = *nodes_[chance_faults_.below(nodes_.size())];
  // Once: a second damage might cover the traces of the first.
  if (replicas_[one.id()].damaged || !may_damage(one) || !(one.disk().*damage)()) return;
  ++(counts_.*count);
  say(fmt::format("the disk of node {} {}", one.id(), what));
  replicas_[one.id()].damaged = true;
  if (chance_faults_.below(2) == 0) crash_node(one.id(), true);
}

void World::rot_one() {
  const bool record = chance_faults_.below(6) != 0;
  damage_one(record ? &SimDisk::rot : &SimDisk::rot_hard_state, &Counts::rotten, "rots");
}

void World::misplace_one() {
  damage_one(&SimDisk::misplace, &Counts::misplaced, "writes to a wrong place");
}

void World::hang_one() {
  SimNode& one = *nodes_[chance_faults_.below(nodes_.size())];
  ++counts_.hangs;
  say(fmt::format("the disk of node {} hangs", one.id()));
  one.disk().hang(chance_faults_.below(2 * faults_.hang_length_ms * kMs));
}

void World::fill_one() {
  SimNode& one = *nodes_[chance_faults_.below(nodes_.size())];
  ++counts_.full;
  say(fmt::format("the disk of node {} is full", one.id()));
  one.disk().fill(chance_faults_.below(2 * faults_.full_length_ms * kMs),
                  chance_faults_.below(3) == 0);
}

void World::wipe_one() {
  SimNode& one = *nodes_[chance_faults_.below(nodes_.size())];
  if (!one.running() || !may_damage(one)) return;
  ++counts_.wiped;
  say(fmt::format("the disk of node {} is lost", one.id()));
  crash_node(one.id(), true);
  replace_disk(one);
}

void World::replace_disk(SimNode& one) {
  lost_disks_[one.id()].push_back(one.disk().durable());
  one.wipe();
  replicas_[one.id()] = {};
}

// What an operator would do next: take out members whose disk is gone, take in nodes that wait,
// let learners vote; and now and then take out somebody who is well.
std::optional<pb::ConfigurationEntry> World::next_configuration(const pb::ConfigurationEntry& now) {
  pb::ConfigurationEntry next = now;
  auto& members = *next.mutable_members();
  for (auto member = members.begin(); member != members.end(); ++member) {
    if (member->disk() == node(NodeId(member->id())).disk_uuid()) continue;
    members.erase(member);
    return next;
  }
  for (pb::ConfigurationMember& member : members) {
    if (member.voter()) continue;
    member.set_voter(true);
    return next;
  }
  for (const auto& one : nodes_) {
    if (server::find_member(now, one->id()) != nullptr) continue;
    pb::ConfigurationMember& member = *next.add_members();
    member.set_id(one->id().value());
    member.set_name(fmt::format("n{}", one->id()));
    member.set_disk(one->disk_uuid());
    return next;
  }
  if (calm_ || members.size() <= 3 || chance_faults_.below(2) == 0) return std::nullopt;
  members.erase(members.begin() + static_cast<int>(chance_faults_.below(members.size())));
  return next;
}

void World::change_membership() {
  SimNode* leads = leader();
  if (leads == nullptr || leads->node().core().configuration().joint()) return;
  const pb::ConfigurationEntry& now = leads->node().membership().newest();
  const auto next = next_configuration(now);
  if (!next || !has_intact_majority(*next)) return;
  std::vector<server::Node::Draft> drafts;
  drafts.push_back({.kind = EntryKind::kConfiguration,
                    .header = Bytes::copy_of(server::enter(now, *next).SerializeAsString())});
  asio::co_spawn(
      leads->io(),
      [this, &node = leads->node(), drafts = std::move(drafts)]() mutable -> asio::awaitable<void> {
        const auto written = co_await node.write(std::move(drafts), pb::ACK_SYNC,
                                                 Clock::now() + std::chrono::seconds(2));
        if (written) ++counts_.changes;
      },
      asio::detached);
  leads->run();
}

void World::flush_one() { nodes_[chance_faults_.below(nodes_.size())]->rows().flush(); }

}  // namespace ballast::sim
