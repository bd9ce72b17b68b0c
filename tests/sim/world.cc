#include "tests/sim/world.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "proto/base/check.h"

namespace ballast::sim {
namespace {

constexpr uint64_t kMs = 1'000;
constexpr uint64_t kMillion = 1'000'000;
constexpr uint64_t kTickUs = 5 * kMs;       // how exact the nodes' timers are
constexpr uint64_t kCalmUs = 20'000 * kMs;  // how long healing may take
constexpr size_t kReported = 5;

}  // namespace

World::World(std::string directory, uint64_t seed, const Faults& faults, bool verbose)
    : directory_(std::move(directory)),
      faults_(faults),
      verbose_(verbose),
      chance_(seed),
      chance_network_(fork()),
      chance_faults_(fork()) {
  for (uint64_t number = 1; number <= faults_.nodes + faults_.spares; ++number) {
    const NodeId id(number);
    nodes_.push_back(std::make_unique<SimNode>(
        id, fmt::format("{}/{}", directory_, id), scheduler_, fork(),
        SimNode::Hooks{
            [this](Frame frame) { transmit(std::move(frame)); },
            [this, id](const raft::Message& message) { check_promise(node(id), message); },
            [this, id](const std::string& why) {
              say(fmt::format("node {}: {}", id, why));
              scheduler_.after(0, [this, id] { crash_node(id, true); });
            },
            [this, id] { after_run(node(id)); }}));
    const uint64_t off = chance_faults_.below(faults_.clock_ppm + 1);
    const uint64_t rate = chance_faults_.below(2) == 0 ? kMillion - off : kMillion + off;
    nodes_.back()->set_clock(rate, static_cast<int64_t>(chance_faults_.below(10'000)) - 5'000);
    if (number <= faults_.nodes) {
      pb::ConfigurationMember& founder = *founders_.add_members();
      founder.set_id(number);
      founder.set_name(fmt::format("n{}", number));
      founder.set_disk(nodes_.back()->disk_uuid());
      founder.set_voter(true);
    }
    DiskFaults& disk = nodes_.back()->disk().faults;
    disk.write_us_max = faults_.write_us_max;
    disk.stall_ppm = faults_.stall_ppm;
    disk.stall_us_max = faults_.stall_us_max;
    disk.error_ppm = faults_.error_ppm;
    nodes_.back()->disk().on_write = [this, id](uint64_t us) {
      if (!std::exchange(replicas_[id].doomed, false) || calm_) return;
      scheduler_.after(chance_faults_.below(us), [this, id] { crash_node(id, true); });
    };
  }
  for (uint64_t i = 1; i <= faults_.clients; ++i)
    clients_.push_back(std::make_unique<Client>(*this, i, fork()));
  prober_ = std::make_unique<Client>(*this, 0, fork());
}

World::~World() {
  clients_.clear();
  nodes_.clear();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

void World::wrong(std::string what) {
  if (wrong_.size() < kReported)
    wrong_.push_back(fmt::format("at {} us: {}", scheduler_.now_us(), std::move(what)));
}

std::string World::describe(const SimNode& one) const {
  if (!one.running()) return fmt::format("node {} is down", one.id());
  const raft::View view = one.node().core().view();
  std::string text = fmt::format("node {}: {} of term {}, leader {}, commit {} of {}, {}", one.id(),
                                 raft::role_name(view.role), view.term, view.leader, view.commit,
                                 view.last, raft::to_string(view.configuration));
  for (const raft::PeerView& peer : view.peers)
    text += fmt::format("; {}: match {}{}", peer.id, peer.match, peer.active ? "" : ", silent");
  for (const auto& member : one.node().membership().newest().members())
    if (view.role == raft::Role::kLeader)
      text += fmt::format("; {} '{}'", member.id(), member.disk());
  return text;
}

void World::say(const std::string& what) {
  if (verbose_) std::fprintf(stderr, "%8lu us  %s\n", scheduler_.now_us(), what.c_str());
}

// FNV-1a over everything that can be seen from outside.
void World::mix(uint64_t value) {
  for (int i = 0; i < 8; ++i, value >>= 8) hash_ = (hash_ ^ (value & 0xFF)) * 1099511628211u;
}

// ---- nodes ------------------------------------------------------------------------------------

void World::start_node(NodeId id) {
  SimNode& one = node(id);
  if (one.running()) return;
  server::NodeOptions options{.cache_bytes = 256 << 10};
  // A disk that was there when the cluster was made knows who made it.
  const auto* founder = server::find_member(founders_, id);
  if (founder != nullptr && founder->disk() == one.disk_uuid()) options.founding = founders_;
  options.raft.seed = ++starts_ * 7919 + chance_faults_.below(1'000'000);
  const std::string refused = one.start(options);
  say(fmt::format("node {} starts: {}", id, refused.empty() ? "ok" : refused));
  mix(id.value() * 31 + refused.size());
  if (!refused.empty()) {
    ++counts_.refused_disks;
    if (!replicas_[id].damaged || refused.starts_with("VIOLATION"))
      return wrong(fmt::format("node {} can't start: {}", id, refused));
    // The operator puts a new disk in; the cluster must be told that it is another member now.
    replace_disk(one);
    ++counts_.wipes;
    scheduler_.after(chance_faults_.below(500 * kMs), [this, id] { start_node(id); });
    return;
  }
  // Of a new disk nobody expects the promises of the one before.
  invariants_.forget(id, one.node().log().hard_state());
  one.run();
}

void World::crash_node(NodeId id, bool restart) {
  SimNode& one = node(id);
  if (!one.running()) return;
  say(fmt::format("node {} crashes", id));
  ++counts_.crashes;
  mix(id.value() + 0xC0FFEE);
  one.crash();
  // The others may learn of it by their connections, sooner or later, or not at all.
  for (const auto& other : nodes_) {
    if (other->id() == id || chance_network_.below(3) == 0) continue;
    scheduler_.after(chance_network_.below(20 * kMs),
                     [this, id, to = other->id()] { node(to).peer_lost(id); });
  }
  if (!restart) return;
  const uint64_t us = 1 + chance_faults_.below(2 * faults_.restart_ms * kMs);
  scheduler_.after(us, [this, id] { start_node(id); });
}

// ---- network ----------------------------------------------------------------------------------

void World::transmit(Frame frame) {
  ++counts_.frames;
  mix(scheduler_.now_us() ^ (frame.from.value() << 40) ^ (frame.to.value() << 48));
  mix(frame.message.size() + (frame.payload.size() << 20));
  if (frame.to.value() == 0 || frame.to.value() > nodes_.size()) return;
  const bool lost = !calm_ && chance_network_.below(kMillion) < faults_.loss_ppm;
  if (lost || cut(frame.from, frame.to)) {
    ++counts_.lost;
    return;
  }
  if (!calm_ && chance_network_.below(kMillion) < faults_.duplicate_ppm) deliver_later(frame);
  deliver_later(frame);
}

void World::deliver_later(const Frame& sent) {
  Frame frame = sent;
  uint64_t us = faults_.delay_us_min + chance_network_.below(faults_.delay_us_spread + 1);
  if (!calm_ && chance_network_.below(kMillion) < faults_.slow_ppm)
    us += chance_network_.below(faults_.slow_us_max + 1);
  if (!calm_ && chance_network_.below(kMillion) < faults_.corrupt_ppm)
    frame.message[chance_network_.below(frame.message.size())] ^= 4;
  scheduler_.after(us, [this, frame = std::move(frame)]() mutable {
    SimNode& to = node(frame.to);
    if (to.running() && to.paused()) {  // it waits in the socket
      scheduler_.after(50 * kMs,
                       [this, frame = std::move(frame)]() mutable { deliver_later(frame); });
      return;
    }
    to.receive(std::move(frame));
  });
}

// ---- faults -----------------------------------------------------------------------------------

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

// It finds out when it reads it, and then its disk is replaced.
void World::rot_one() {
  if (faults_.change_ms == 0 && counts_.rot > 0) return;  // nobody would take a new disk in
  SimNode& one = *nodes_[chance_faults_.below(nodes_.size())];
  if (!may_damage(one) || !one.disk().rot()) return;
  ++counts_.rot;
  say(fmt::format("the disk of node {} rots", one.id()));
  replicas_[one.id()].damaged = true;
  crash_node(one.id(), true);
}

void World::wipe_one() {
  SimNode& one = *nodes_[chance_faults_.below(nodes_.size())];
  if (!one.running() || !may_damage(one)) return;
  ++counts_.wipes;
  say(fmt::format("the disk of node {} is lost", one.id()));
  crash_node(one.id(), true);
  replace_disk(one);
}

void World::replace_disk(SimNode& one) {
  lost_disks_[one.id()].push_back(one.disk().durable());
  one.wipe();
  replicas_[one.id()] = {};
}

SimNode* World::leader() {
  SimNode* found = nullptr;
  for (const auto& one : nodes_) {
    if (!one->reachable() || one->node().core().role() != raft::Role::kLeader) continue;
    if (found == nullptr || one->node().core().term() > found->node().core().term())
      found = one.get();
  }
  return found;
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

// ---- what must hold at every moment -----------------------------------------------------------

void World::after_run(SimNode& one) {
  const raft::Core& core = one.node().core();
  std::vector<const raft::Core*> running;
  for (const auto& other : nodes_) {
    if (other->running()) running.push_back(&other->node().core());
  }
  for (std::string& broken : invariants_.observe(core, running)) wrong(std::move(broken));
  check_bounds(core.view());
  check_state(one);
  watch_leadership(one);
}

// What a node says of its disk must be so when it says it.
void World::check_promise(SimNode& one, const raft::Message& message) {
  if (const auto* vote = std::get_if<raft::VoteReply>(&message.body)) {
    const HardState& disk = one.disk().hard_state();
    if (vote->granted && !vote->pre_vote && disk != HardState{message.term, message.to})
      wrong(fmt::format("node {} gave its vote of term {} to {} before its disk held it", one.id(),
                        message.term, message.to));
  }
  if (std::holds_alternative<raft::TimeoutNow>(message.body))
    replicas_[message.to].told_term = message.term + 1;
  if (const auto* reply = std::get_if<raft::AppendReply>(&message.body)) {
    if (!reply->rejected && reply->index.value() > one.disk().durable().size())
      wrong(fmt::format("node {} acknowledged {} entries, and its disk holds {}", one.id(),
                        reply->index, one.disk().durable().size()));
  }
}

// A new leader, and one that has slept, are asked at once: whoever answers without asking the
// others answers wrongly now.
void World::watch_leadership(SimNode& one) {
  Replica& replica = replicas_[one.id()];
  const bool leads = one.node().core().role() == raft::Role::kLeader;
  if (leads && !replica.led) {
    for (const uint64_t us : {0, 500, 2'000}) scheduler_.after(us, [this, &one] { probe(one); });
  }
  replica.led = leads;
}

void World::probe(SimNode& one) { prober_->probe(one); }

// PreVote (thesis section 9.6): a node that can't reach a majority must not raise the term, or the
// leader would have to go when it comes back. A message may be on its way for a while.
void World::check_isolation() {
  const uint64_t now = scheduler_.now_us();
  // Both ways, and an answer that waits for its node's disk.
  const uint64_t patience =
      3 * faults_.slow_us_max + 500 * kMs + (faults_.stall_ppm == 0 ? 0 : faults_.stall_us_max);
  for (const auto& one : nodes_) {
    Replica& replica = replicas_[one->id()];
    for (const auto& its : nodes_) {
      const NodeId other = its->id();
      // Whoever is not there itself may have its answers waiting, and one that sleeps may have the
      // question waiting. A way there and a way back need not be open at the same time: an answer
      // may wait for a disk.
      const bool asks = node(other).running() && !cut(one->id(), other);
      const bool answers = node(other).reachable() && !cut(other, one->id());
      if (!one->reachable() || asks) replica.asked_us[other] = now;
      if (!one->reachable() || answers) replica.heard_us[other] = now;
    }
    if (!one->running()) continue;
    const raft::Core& core = one->node().core();
    const bool heard = raft::has_majority(core.configuration(), [&](NodeId other) {
      return other == one->id() || (now - replica.asked_us[other] <= patience &&
                                    now - replica.heard_us[other] <= patience);
    });
    if (core.configuration().voters.empty()) continue;
    if (core.term() > replica.term && core.role() == raft::Role::kCandidate && !heard &&
        core.term() != replica.told_term)
      wrong(fmt::format("node {} reached no majority for {} us and raised the term to {}",
                        one->id(), patience, core.term()));
    replica.term = core.term();
  }
}

void World::check_bounds(const raft::View& view) {
  for (const raft::PeerView& peer : view.peers) {
    if (peer.inflight_entries > limits::kInflightEntriesMax ||
        peer.inflight_bytes > limits::kInflightBytesMax)
      wrong(fmt::format("leader {}: too much in flight to {}", view.id, peer.id));
  }
  if (view.uncommitted_bytes > limits::kUncommittedBytesMax)
    wrong(fmt::format("leader {} holds {} uncommitted bytes", view.id, view.uncommitted_bytes));
}

// Equal applied index, equal rows.
void World::check_state(SimNode& one) {
  const uint64_t applied = one.node().state().applied().index.value();
  uint64_t& observed = replicas_[one.id()].observed_applied;
  if (applied == observed) return;
  observed = applied;
  mix(applied * 1'000'003 + one.id().value());
  const auto digest = one.node().state().state_digest();
  if (!digest) return wrong(fmt::format("node {}: {}", one.id(), digest.error().message));
  const auto [known, fresh] = digests_.try_emplace(applied, digest->digest());
  if (known->second != digest->digest())
    wrong(fmt::format("node {} has other rows than another node at index {}", one.id(), applied));
}

// The promise itself: at a sync ack, the disks of a majority hold header and payload. The voters
// are those of a configuration that was in force since the entry was appended; a disk that was lost
// since then counts, as it did when it answered.
void World::check_durable_majority(SimNode& one, Index index, Term term, bool everywhere) {
  const size_t at = index.value() - 1;
  const auto has = [&](const std::vector<DurableEntry>& durable) {
    return at < durable.size() && durable[at].meta.term == term && durable[at].whole;
  };
  const auto holds = [&](NodeId id) {
    return has(node(id).disk().durable()) || std::ranges::any_of(lost_disks_[id], has);
  };
  std::vector<raft::ConfigurationAt> in_force{{Index(), server::configuration_of(founders_)}};
  for (raft::ConfigurationAt& next : one.node().membership().configurations()) {
    if (next.index <= index) in_force.clear();
    in_force.push_back(std::move(next));
  }
  const bool enough = std::ranges::any_of(in_force, [&](const raft::ConfigurationAt& held) {
    return everywhere ? std::ranges::all_of(held.configuration.all_voters(), holds)
                      : raft::has_majority(held.configuration, holds);
  });
  if (!enough)
    wrong(fmt::format("node {} acknowledged entry {} of term {} ({}), and too few disks hold it",
                      one.id(), index, term, everywhere ? "sync_all" : "sync"));
}

void World::on_ack(SimNode& one, const server::Node::Written& written) {
  ++counts_.acks;
  const Index index(written.token.index());
  const Term term(written.token.term());
  mix(index.value() * 257 + term.value());
  check_durable_majority(one, index, term, written.reached == pb::ACK_SYNC_ALL);
  history_.acks.push_back({index, term, scheduler_.now_us()});
}

void World::check_block(SimNode& one, const std::string& digest) {
  const auto block = one.node().state().block(*Digest::from_raw(digest));
  if (!block)
    wrong(fmt::format("node {} shows a key whose block it can't read: {}", one.id(),
                      block.error().message));
  else if (std::string(sha256(block->bytes.span()).text()) != digest)
    wrong(fmt::format("node {} shows a key whose block is another one", one.id()));
}

bool World::wants_more_requests() {
  if (calm_ || requests_ >= faults_.requests) return false;
  ++requests_;
  return true;
}

// ---- the run ------------------------------------------------------------------------------------

// Lets time pass: whatever is due happens, and the nodes look at their timers now and then.
void World::pass(uint64_t until_us) {
  while (scheduler_.now_us() < until_us && wrong_.empty()) {
    const uint64_t next = std::min(until_us, scheduler_.now_us() / kTickUs * kTickUs + kTickUs);
    while (scheduler_.run_next(next)) {
    }
    for (const auto& one : nodes_) one->run();
    check_isolation();
  }
}

std::vector<std::string> World::run() {
  for (const auto& one : nodes_) start_node(one->id());
  for (const auto& client : clients_)
    scheduler_.after(chance_faults_.below(500 * kMs), [&client = *client] { client.start(); });
  plan(faults_.crash_ms, &World::crash_one);
  plan(faults_.pause_ms, &World::pause_one);
  plan(faults_.partition_ms, &World::partition);
  plan(faults_.transfer_ms, &World::transfer);
  plan(faults_.flush_ms, &World::flush_one);
  plan(faults_.rot_ms, &World::rot_one);
  plan(faults_.wipe_ms, &World::wipe_one);
  plan(faults_.change_ms, &World::change_membership);
  pass(faults_.storm_ms * kMs);
  if (wrong_.empty()) calm_down();
  if (wrong_.empty()) check_end();
  return wrong_;
}

// The faults end. Everyone comes back, and the cluster must converge.
void World::calm_down() {
  calm_ = true;
  cut_.clear();
  say("calm");
  for (const auto& one : nodes_) {
    one->disk().faults = {};
    one->set_paused(false);
    if (!one->running()) start_node(one->id());
  }
  const uint64_t end = scheduler_.now_us() + kCalmUs;
  while (wrong_.empty() && !converged()) {
    if (scheduler_.now_us() >= end) {
      for (const auto& one : nodes_) say(describe(*one));
      return wrong("the cluster does not converge");
    }
    if (faults_.change_ms != 0) change_membership();
    pass(scheduler_.now_us() + 100 * kMs);
  }
}

// All who belong to the group and have their disk hold the same, and nobody else is left to take
// in.
bool World::converged() {
  SimNode* leads = leader();
  if (leads == nullptr ||
      !std::ranges::all_of(clients_, [](const auto& client) { return client->idle(); }))
    return false;
  const Index last = leads->node().core().last();
  const pb::ConfigurationEntry& members = leads->node().membership().newest();
  if (faults_.change_ms != 0 && next_configuration(members)) return false;
  return std::ranges::all_of(members.members(), [&](const pb::ConfigurationMember& member) {
    const SimNode& one = node(NodeId(member.id()));
    if (!one.running() || one.disk_uuid() != member.disk()) return faults_.change_ms == 0;
    return one.node().core().last() == last && one.node().state().applied().index == last;
  });
}

void World::check_end() {
  const storage::LogStore& log = leader()->node().log();
  counts_.entries = log.last().value();
  counts_.reads = history_.reads.size();
  counts_.writes = history_.writes.size();
  auto read = log.prepare_read(Index(1), log.last());
  auto entries = read ? (*read)->run() : std::unexpected(read.error());
  if (!entries) return wrong(fmt::format("the log can't be read: {}", entries.error().message));
  for (std::string& broken : history_.check(*entries)) wrong(std::move(broken));
}

}  // namespace ballast::sim
