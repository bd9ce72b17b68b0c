// Members come and go while clients write, and no acknowledged write is lost.

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/drills/running_cluster.h"

namespace ballast::testing {
namespace {

using client::Client;
using client::MemberChange;
using client::MemberInfo;
using client::MemberStep;
using client::ReadLevel;
using Action = MemberChange::Action;

// Writes one key after the other, with sync acknowledgements, until it is stopped.
class Writer {
 public:
  explicit Writer(RunningCluster& cluster)
      : client_(cluster.connect()), thread_([this] { run(); }) {}
  ~Writer() { stop(); }

  void stop() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
  }
  uint64_t acknowledged() const { return acknowledged_; }
  // Waits until it has been acknowledged so often since now.
  void await(uint64_t more) {
    const uint64_t before = acknowledged_;
    EXPECT_TRUE(RunningCluster::eventually([&] { return acknowledged_ >= before + more; }));
  }

  // After stop(): each acknowledged write is there, at each member by itself.
  void expect_all(RunningCluster& cluster, const std::vector<kvctl::LocalNode>& members) {
    for (const kvctl::LocalNode& node : members) {
      Client client = cluster.connect_to(node);
      for (uint64_t i = 0; i < acknowledged_; ++i) {
        const auto tensor = client.get(key(i), {.read = ReadLevel::kAny});
        ASSERT_TRUE(tensor) << node.name << ", " << key(i) << ": " << tensor.error().message;
        ASSERT_TRUE(std::ranges::equal(tensor->data, view_of(values(i)).data)) << key(i);
      }
    }
  }

 private:
  static std::string key(uint64_t i) { return "w/" + std::to_string(i); }
  static const std::vector<float>& values(uint64_t i) {
    static thread_local std::vector<float> made;
    return made = make_values(1000, i);
  }
  void run() {
    for (uint64_t i = 0; !stopping_; ++i) {
      const auto put = client_.put(key(i), view_of(values(i)), {});
      ASSERT_TRUE(put) << put.error().message;
      acknowledged_ = i + 1;
    }
  }

  Client client_;
  std::atomic<bool> stopping_ = false;
  std::atomic<uint64_t> acknowledged_ = 0;
  std::thread thread_;
};

// Asks until the change is done.
void change(Client& client, MemberChange change) {
  Error last;
  EXPECT_TRUE(RunningCluster::eventually([&] {
    const auto step = client.change_members(change);
    if (!step) last = step.error();
    return step && step->done;
  })) << last.message;
}

std::string role_of(Client& client, const std::string& name) {
  const auto membership = client.membership();
  if (!membership) return membership.error().message;
  for (const MemberInfo& one : membership->members)
    if (one.member.name == name) return one.role;
  return "none";
}

bool waits(Client& client, const std::string& name) {
  const auto membership = client.membership();
  return membership && std::ranges::any_of(membership->waiting, [&](const auto& one) {
           return one.member.name == name;
         });
}

TEST(Members, are_added_promoted_replaced_after_a_wipe_and_removed_under_load) {
  RunningCluster cluster;
  Client client = cluster.connect();
  Writer writer(cluster);
  writer.await(20);

  const kvctl::LocalNode n4 = cluster.add();
  change(client, {.action = Action::kAdd, .name = n4.name, .address = n4.address});
  EXPECT_EQ(role_of(client, "n4"), "learner");
  EXPECT_TRUE(RunningCluster::eventually([&] { return client.members().size() == 4; }))
      << "the client learns of it from the answers";
  change(client, {.action = Action::kPromote, .name = "n4"});
  EXPECT_EQ(role_of(client, "n4"), "voter");
  writer.await(20);

  // A backup loses its disk.
  const kvctl::LocalNode victim = cluster.follower();
  cluster.kill(victim);
  cluster.wipe(victim);
  cluster.start(victim);
  EXPECT_TRUE(RunningCluster::eventually([&] { return waits(client, victim.name); }));
  const auto refused = client.change_members(
      {.action = Action::kAdd, .name = victim.name, .address = victim.address});
  EXPECT_EQ(refused.error().code, Errc::kConflict) << "it is still a member, with its old disk";
  change(client, {.action = Action::kReplace, .name = victim.name});
  EXPECT_EQ(role_of(client, victim.name), "voter");
  EXPECT_FALSE(waits(client, victim.name));
  writer.await(20);

  // The primary itself is taken out, and hands over.
  const kvctl::LocalNode primary = cluster.leader();
  change(client, {.action = Action::kRemove, .name = primary.name});
  EXPECT_EQ(role_of(client, primary.name), "none");
  writer.await(20);
  writer.stop();
  RecordProperty("acknowledged", static_cast<int>(writer.acknowledged()));

  std::vector<kvctl::LocalNode> members;
  for (const kvctl::LocalNode& node : cluster.processes().nodes())
    if (node.id != primary.id) members.push_back(node);
  cluster.settle();
  writer.expect_all(cluster, members);
}

TEST(Members, a_wiped_disk_is_refused_until_it_is_replaced) {
  RunningCluster cluster;
  Client client = cluster.connect();
  ASSERT_TRUE(client.put("k", view_of(make_values(10, 1)), {}));
  // Two of three lose their disks: together they would be a majority that knows nothing.
  const kvctl::LocalNode survivor = cluster.leader();
  for (const kvctl::LocalNode& node : cluster.processes().nodes()) {
    if (node.id == survivor.id) continue;
    cluster.kill(node);
    cluster.wipe(node);
    cluster.start(node);
  }
  Client of_survivor = cluster.connect_to(survivor);
  EXPECT_TRUE(RunningCluster::eventually([&] {
    const auto status = of_survivor.status();
    return status && status->nodes[0].role != "leader";
  })) << "it goes on leading without a majority";
  for (const kvctl::LocalNode& node : cluster.processes().nodes()) {
    if (node.id == survivor.id) continue;
    const auto status = cluster.connect_to(node).status();
    ASSERT_TRUE(status);
    EXPECT_EQ(status->nodes[0].role, "follower");
    EXPECT_EQ(status->nodes[0].last_index, 0U) << "a wiped disk has taken part";
  }
  EXPECT_FALSE(
      client.put("k", view_of(make_values(10, 2)), {.deadline = std::chrono::milliseconds(1500)}));
  EXPECT_TRUE(of_survivor.get("k", {.read = ReadLevel::kAny}));
}

TEST(Members, what_would_break_the_cluster_is_refused) {
  RunningCluster cluster;
  RunningCluster other(1);
  Client client = cluster.connect();
  const kvctl::LocalNode& stranger = other.processes().nodes()[0];
  EXPECT_EQ(
      client.change_members({.action = Action::kAdd, .address = stranger.address}).error().code,
      Errc::kRefused)
      << "a node of another cluster";

  const auto membership = client.membership();
  ASSERT_TRUE(membership);
  const MemberChange elsewhen{.action = Action::kRemove,
                              .name = "n1",
                              .expect_configuration_index = membership->configuration_index + 1};
  EXPECT_EQ(client.change_members(elsewhen).error().code, Errc::kConflict);

  // With one backup dead, the other one is half of what would be left.
  const kvctl::LocalNode dead = cluster.follower();
  cluster.kill(dead);
  const uint64_t primary = cluster.leader().id;
  for (const kvctl::LocalNode& node : cluster.processes().nodes()) {
    if (node.id == dead.id || node.id == primary) continue;
    EXPECT_TRUE(RunningCluster::eventually([&] {
      const auto step =
          client.change_members({.action = Action::kRemove, .name = node.name, .dry_run = true});
      return !step && step.error().code == Errc::kRefused;
    })) << "two members, one of them dead, are no quorum";
  }
  change(client, {.action = Action::kRemove, .name = dead.name});
  EXPECT_TRUE(client.put("k", view_of(make_values(10, 1)), {}));
}

// The address that the members have for a node.
std::string address_of(RunningCluster& cluster, const std::string& name) {
  const auto membership = cluster.connect().membership();
  if (!membership) return membership.error().message;
  for (const MemberInfo& one : membership->members)
    if (one.member.name == name) return one.member.address;
  return "none";
}

TEST(Members, a_node_that_has_moved_is_found_again) {
  RunningCluster cluster;
  EXPECT_TRUE(RunningCluster::eventually([&] {
    const auto membership = cluster.connect().membership();
    return membership && !membership->members[0].disk.empty();
  }));
  const kvctl::LocalNode moves = cluster.follower();
  cluster.kill(moves);
  const std::string address = cluster.move(moves);
  cluster.start(moves);
  EXPECT_TRUE(
      RunningCluster::eventually([&] { return address_of(cluster, moves.name) == address; }));
  EXPECT_TRUE(RunningCluster::eventually([&] {
    const auto membership = cluster.connect().membership();
    return membership && std::ranges::all_of(membership->members, &MemberInfo::active);
  })) << "the others reach it at the new address";
}

TEST(Members, a_drained_node_does_not_lead) {
  RunningCluster cluster;
  Client client = cluster.connect();
  const kvctl::LocalNode drained = cluster.leader();
  const auto now = client.drain(drained.name, false);
  ASSERT_TRUE(now) << now.error().message;
  EXPECT_NE(now->id, drained.id);
  EXPECT_TRUE(RunningCluster::eventually([&] {
    const auto refused = client.transfer_leadership(drained.name);
    return !refused && refused.error().code == Errc::kRefused;
  }));
  ASSERT_TRUE(client.drain(drained.name, true));
  EXPECT_TRUE(RunningCluster::eventually(
      [&] { return client.transfer_leadership(drained.name).has_value(); }));
}

}  // namespace
}  // namespace ballast::testing
