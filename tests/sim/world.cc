#include "tests/sim/world.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "proto/base/check.h"

namespace ballast::sim {
namespace {

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
            [this, id] { after_run(node(id)); },
            [this, id](Index index) { need_snapshot(id, index); }}));
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
    nodes_.back()->disk().faults = faults_.disk;
    nodes_.back()->disk().on_write = [this, id](uint64_t us) {
      if (!std::exchange(replicas_[id].doomed, false) || calm_) return;
      scheduler_.after(chance_faults_.below(us), [this, id] { crash_node(id, true); });
    };
  }
  for (uint64_t i = 1; i <= faults_.clients; ++i)
    clients_.push_back(std::make_unique<Client>(*this, i, fork()));
  prober_ = std::make_unique<Client>(*this, 0, fork());
}

Counts World::counts() const {
  Counts counts = counts_;
  for (const auto& one : nodes_) counts += one->disk().counts();
  return counts;
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
  server::NodeOptions options{.cache_bytes = 256 << 10, .log_keep_bytes = faults_.log_keep_bytes};
  options.space.segment_bytes = faults_.disk.segment_bytes;
  // A disk that was there when the cluster was made knows who made it.
  const auto* founder = server::find_member(founders_, id);
  if (founder != nullptr && founder->disk() == one.disk_uuid()) options.founding = founders_;
  options.raft.seed = ++starts_ * 7919 + chance_faults_.below(1'000'000);
  if (!calm_ && chance_faults_.below(kMillion) < faults_.recovery_crash_ppm)
    one.disk().fail_power_in_open(chance_faults_.below(6));
  const Status started = one.start(options);
  say(fmt::format("node {} starts: {}", id, started ? "ok" : started.error().message));
  mix(id.value() * 31 + (started ? 0 : 1 + static_cast<uint64_t>(started.error().code)));
  if (!started) return take_refusal(one, started.error());
  // Of a new disk nobody expects the promises of the one before.
  invariants_.forget(id, one.node().log().hard_state());
  one.run();
}

void World::start_later(NodeId id) {
  const uint64_t us = 1 + chance_faults_.below(2 * faults_.restart_ms * kMs);
  scheduler_.after(us, [this, id] { start_node(id); });
}

void World::take_refusal(SimNode& one, const Error& error) {
  // No space, or the power has failed once more: another time.
  if (error.code == Errc::kIo && !calm_) return start_later(one.id());
  ++counts_.refused;
  if (error.code != Errc::kCorrupt || !replicas_[one.id()].damaged)
    return wrong(fmt::format("node {} can't start: {}", one.id(), error.message));
  if (one.disk().rotten_head_has_copy())
    return wrong(fmt::format("node {} gives up a head of which there is a copy: {}", one.id(),
                             error.message));
  // The operator puts a new disk in; the cluster must be told that it is another member now.
  replace_disk(one);
  ++counts_.wiped;
  scheduler_.after(chance_faults_.below(500 * kMs), [this, id = one.id()] { start_node(id); });
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
  if (restart) start_later(id);
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

bool World::wants_more_requests() {
  if (calm_ || requests_ >= faults_.requests) return false;
  ++requests_;
  return true;
}

std::vector<std::string> World::run() {
  for (const auto& one : nodes_) start_node(one->id());
  for (const auto& client : clients_)
    scheduler_.after(chance_faults_.below(500 * kMs), [&client = *client] { client.start(); });
  plan_faults();
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
    one->disk().heal();
    one->set_paused(false);
    if (replicas_[one->id()].damaged) show_damage(*one);
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

// A start finds most damage, and a look at every payload the rest.
void World::show_damage(SimNode& one) {
  crash_node(one.id(), false);
  start_node(one.id());
  if (!one.running() || !replicas_[one.id()].damaged) return;
  crash_node(one.id(), false);
  replace_disk(one);
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
  if (log.last() > log.base().index) {
    auto read = log.prepare_read(log.base().index + 1, log.last());
    const auto entries = read ? (*read)->entries() : std::unexpected(read.error());
    if (!entries) return wrong(fmt::format("the log can't be read: {}", entries.error().message));
  }
  if (committed_.size() != counts_.entries)
    return wrong(fmt::format("{} entries were applied of {}", committed_.size(), counts_.entries));
  for (std::string& broken : history_.check(committed_)) wrong(std::move(broken));
  for (const auto& one : nodes_) {
    if (!one->running()) continue;
    check_blocks(*one);
    check_segments(*one);
  }
}

}  // namespace ballast::sim
