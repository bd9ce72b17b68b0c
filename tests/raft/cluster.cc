#include "tests/raft/cluster.h"

#include <algorithm>
#include <ranges>

#include "proto/base/check.h"

namespace ballast::raft::testing {

Cluster::Cluster(uint64_t count, Options pattern, uint64_t seed, uint64_t founders)
    : pattern_(pattern), seed_(seed), members_(count) {
  if (founders == 0) founders = count;
  for (uint64_t id = 1; id <= founders; ++id) founders_.voters.push_back(NodeId(id));
  for (uint64_t id = 1; id <= founders; ++id)
    member(NodeId(id)).disk.base.configuration = founders_;
  for (uint64_t id = 1; id <= count; ++id) start(NodeId(id));
}

void Cluster::start(NodeId node) {
  Member& self = member(node);
  Options options = pattern_;
  options.id = node;
  options.seed = seed_ * 1000 + ++starts_;
  const InitialState initial{.hard_state = self.disk.hard,
                             .log = self.disk.log,
                             .applied = self.disk.applied,
                             .configuration = self.disk.base.configuration,
                             .configurations = configurations_of(self.disk),
                             .configuration_index = self.disk.base.configuration_index,
                             .base = self.disk.base.at,
                             .base_chain = self.disk.base.chain};
  self.core.emplace(options, initial);
  self.seen = self.core->view();
}

void Cluster::tick(NodeId node) {
  member(node).core->tick();
  after_input(node);
}

void Cluster::campaign(NodeId node) {
  member(node).core->campaign();
  after_input(node);
}

Result<Index> Cluster::propose(NodeId node, size_t count, uint32_t payload_bytes) {
  std::vector<Core::Proposal> proposals(
      count, {.kind = EntryKind::kBlock, .header_bytes = 10, .payload_bytes = payload_bytes});
  for (Core::Proposal& proposal : proposals) proposal.checksum = ++proposed_;
  Result<Index> first = member(node).core->propose(proposals);
  after_input(node);
  return first;
}

Result<uint64_t> Cluster::read_index(NodeId node) {
  Result<uint64_t> id = member(node).core->read_index();
  after_input(node);
  return id;
}

Status Cluster::transfer(NodeId from, NodeId to) {
  Status status = member(from).core->transfer_leadership(to);
  after_input(from);
  return status;
}

void Cluster::lost(NodeId node, NodeId peer) {
  member(node).core->peer_lost(peer);
  after_input(node);
}

std::vector<ConfigurationAt> Cluster::configurations_of(const Disk& disk) const {
  std::vector<ConfigurationAt> configurations;
  for (const EntryMeta& entry : disk.log) {
    if (entry.kind == EntryKind::kConfiguration)
      configurations.push_back({entry.index, held_.at({entry.index, entry.term})});
  }
  return configurations;
}

Result<Index> Cluster::propose_configuration(NodeId node, const Configuration& next) {
  Core& core = *member(node).core;
  const Core::Proposal proposal{EntryKind::kConfiguration, 20, 0, ++proposed_, next};
  Result<Index> index = core.propose({&proposal, 1});
  if (index) held_[{*index, core.term()}] = next;
  after_input(node);
  return index;
}

Result<Index> Cluster::change(NodeId node, const Configuration& target) {
  const Configuration now = core(node).configuration();
  return propose_configuration(node, now.joint() ? target : enter(now, target));
}

Result<Index> Cluster::leave(NodeId node) {
  const Configuration& now = core(node).configuration();
  return propose_configuration(node, {now.voters, {}, now.learners});
}

void Cluster::stall(NodeId node, bool stalled) {
  member(node).core->set_resigned(stalled);
  after_input(node);
}

void Cluster::compact(NodeId node, Index upto) {
  Member& self = member(node);
  BALLAST_CHECK(upto <= self.disk.applied);
  const View view = self.core->view();
  Snapshot& base = self.disk.base;
  for (const ConfigurationAt& held : configurations_of(self.disk)) {
    if (held.index > upto) break;
    base.configuration = held.configuration;
    base.configuration_index = held.index;
  }
  self.disk.log.erase(self.disk.log.begin(),
                      self.disk.log.begin() + static_cast<std::ptrdiff_t>(upto - base.at.index));
  base.at = {upto, self.core->term_at(upto)};
  base.chain = self.core->chain_at(upto);
  self.core->compact(upto);
  after_input(node);
}

void Cluster::install(NodeId node, NodeId from) {
  const Disk& source = member(from).disk;
  Snapshot snapshot = source.base;
  snapshot.at = {source.applied, core(from).term_at(source.applied)};
  snapshot.chain = core(from).chain_at(source.applied);
  for (const ConfigurationAt& held : configurations_of(source)) {
    if (held.index > source.applied) break;
    snapshot.configuration = held.configuration;
    snapshot.configuration_index = held.index;
  }
  Member& self = member(node);
  self.core->snapshot_installed(snapshot);
  if (self.core->base() == snapshot.at) {  // else its log was as good
    self.disk.base = snapshot;
    self.disk.log.clear();
    self.disk.applied = snapshot.at.index;
  }
  after_input(node);
}

void Cluster::deliver(const Message& message) {
  if (!running(message.to)) return;
  member(message.to).core->step(message);
  after_input(message.to);
}

void Cluster::store(NodeId node, size_t writes) {
  Member& self = member(node);
  for (size_t i = 0; i < writes && !self.writes.empty(); ++i) {
    const uint64_t ticket = self.writes.front().ticket;
    complete_write(self);
    self.core->storage_done(ticket);
    after_input(node);
  }
}

void Cluster::set_store_auto(NodeId node, bool automatic) {
  Member& self = member(node);
  self.store_auto = automatic;
  if (automatic && self.core.has_value()) store(node, self.writes.size());
}

void Cluster::crash(NodeId node, size_t survive) {
  Member& self = member(node);
  for (size_t i = 0; i < survive && !self.writes.empty(); ++i) complete_write(self);
  self.writes.clear();
  self.core.reset();
  invariants_.forget(node, self.disk.hard);
}

void Cluster::restart(NodeId node) {
  start(node);
  after_input(node);
}

void Cluster::complete_write(Member& self) {
  Write& write = self.writes.front();
  if (write.hard) self.disk.hard = *write.hard;
  if (!write.entries.empty()) {
    const Index before = write.entries.front().index - 1;
    BALLAST_CHECK(before <= self.disk.last(), "a write leaves a gap in the log");
    self.disk.log.resize(before - self.disk.base.at.index);
    self.disk.log.insert(self.disk.log.end(), write.entries.begin(), write.entries.end());
  }
  self.writes.pop_front();
}

void Cluster::after_input(NodeId node) {
  Member& self = member(node);
  take_ready(node, self);
  while (self.store_auto && !self.writes.empty()) {
    const uint64_t ticket = self.writes.front().ticket;
    complete_write(self);
    self.core->storage_done(ticket);
    take_ready(node, self);
  }
  check(node, self);
}

void Cluster::take_ready(NodeId node, Member& self) {
  Ready ready = self.core->ready();
  report(self, self.core->view());
  self.seen = self.core->view();
  if (ready.ticket != 0) {
    self.writes.push_back({ready.ticket, ready.hard_state, std::move(ready.entries)});
  } else if (ready.hard_state || !ready.entries.empty()) {
    violations.push_back(
        fmt::format("node {}: a Ready without ticket has something to store", node));
  }
  for (Message& message : ready.messages) {
    const bool pass = !passes || passes(message);
    if (show_messages) say(fmt::format("  {}{}", to_string(message), pass ? "" : " (cut)"));
    if (pass) network.push_back(std::move(message));
  }
  for (const ReadState& read : ready.reads) {
    say(fmt::format("{} read {}: {}", node, read.id & 0xffffffff,
                    read.refused ? "refused" : fmt::format("index {}", read.index)));
    if (on_read) on_read(node, read);
  }
  if (ready.commit < self.disk.applied) {
    violations.push_back(fmt::format("node {}: Ready.commit fell to {}", node, ready.commit));
  }
  if (ready.snapshot_needed != Index()) {
    say(fmt::format("{} needs a snapshot at {} or later", node, ready.snapshot_needed));
  }
  if (ready.commit > self.disk.last()) {
    violations.push_back(
        fmt::format("node {}: {} is to be applied before it is durable", node, ready.commit));
    return;
  }
  self.disk.applied = std::max(self.disk.applied, ready.commit);
}

void Cluster::check(NodeId, Member& self) {
  std::vector<const Core*> all;
  for (const Member& other : members_) {
    if (other.core) all.push_back(&*other.core);
  }
  const Index before = invariants_.committed();
  Violations found = invariants_.observe(*self.core, all);
  violations.insert(violations.end(), found.begin(), found.end());
  check_durable(before + 1, invariants_.committed());
  const View view = self.core->view();
  if (view.role == Role::kLeader) check_matches(view);
}

// What counts as committed is on a majority of disks, not of memories (etcd issue 14370).
void Cluster::check_durable(Index from, Index until) {
  for (Index index = from; index <= until; ++index) {
    const EntryMeta entry = invariants_.committed_at(index);
    const auto holds = [&](NodeId id) {
      const Disk& disk = member(id).disk;
      const EntryMeta* held = disk.find(index);
      return index <= disk.base.at.index || (held != nullptr && *held == entry);
    };
    // The voters are those of a configuration that was in force since; which one, the leader knows
    // (check_core).
    const auto enough = [&](const Configuration& voters) { return has_majority(voters, holds); };
    if (!enough(founders_) && std::ranges::none_of(held_ | std::views::values, enough)) {
      violations.push_back(fmt::format("entry {} is committed and not on enough disks", index));
    }
  }
}

void Cluster::check_matches(const View& leader) {
  for (const PeerView& peer : leader.peers) {
    const Disk& disk = member(peer.id).disk;
    if (disk.hard.term != leader.term || peer.match == Index()) continue;
    const Index begin = std::max(disk.base.at.index, core(leader.id).base().index);
    if (peer.match <= begin) continue;
    const EntryMeta* held = disk.find(peer.match);
    if (held == nullptr || held->term != core(leader.id).term_at(peer.match)) {
      violations.push_back(fmt::format("leader {}: match {} of node {} is not on its disk",
                                       leader.id, peer.match, peer.id));
    }
  }
}

void Cluster::report(const Member& self, const View& now) {
  if (!on_event) return;
  const View& seen = self.seen;
  if (seen.role != now.role || seen.term != now.term || seen.leader != now.leader) {
    say(fmt::format("{} {} term={} leader={}", now.id, role_name(now.role), now.term, now.leader));
  }
  if (seen.vote != now.vote && now.vote != NodeId()) {
    say(fmt::format("{} votes {} in term {}", now.id, now.vote, now.term));
  }
  if (seen.commit != now.commit) say(fmt::format("{} commits {}", now.id, now.commit));
  if (seen.configuration_index != now.configuration_index) {
    say(fmt::format("{} has {} of entry {}", now.id, to_string(now.configuration),
                    now.configuration_index));
  }
}

std::string to_string(std::span<const EntryMeta> entries) {
  std::string text;
  for (size_t i = 0; i < entries.size();) {
    size_t end = i + 1;
    while (end < entries.size() && entries[end].term == entries[i].term) ++end;
    if (!text.empty()) text += ' ';
    text += fmt::format("{}", entries[i].index);
    if (end - i > 1) text += fmt::format("-{}", entries[end - 1].index);
    text += fmt::format("/{}", entries[i].term);
    i = end;
  }
  return text;
}

namespace {

struct BodyText {
  std::string operator()(const VoteRequest& vote) const {
    return fmt::format("{} term={} last={}/{}{}", vote.pre_vote ? "PreVote" : "Vote", term,
                       vote.last_index, vote.last_term, vote.transfer ? " transfer" : "");
  }
  std::string operator()(const VoteReply& reply) const {
    return fmt::format("{} term={} {}", reply.pre_vote ? "PreVoteReply" : "VoteReply", term,
                       reply.granted ? "granted" : "refused");
  }
  std::string operator()(const Append& append) const {
    return fmt::format("Append term={} prev={}/{} commit={} [{}]", term, append.previous_index,
                       append.previous_term, append.commit, to_string(append.entries));
  }
  std::string operator()(const AppendReply& reply) const {
    if (!reply.rejected) return fmt::format("AppendReply term={} index={}", term, reply.index);
    return fmt::format("AppendReply term={} rejected={} hint={}/{}", term, reply.index,
                       reply.hint_index, reply.hint_term);
  }
  std::string operator()(const Heartbeat& beat) const {
    return fmt::format("Heartbeat term={} commit={} round={}", term, beat.commit, beat.round);
  }
  std::string operator()(const InstallSnapshot& install) const {
    return fmt::format("InstallSnapshot term={} at={}/{}", term, install.at.index, install.at.term);
  }
  std::string operator()(const HeartbeatReply& reply) const {
    return fmt::format("HeartbeatReply term={} round={}{}{}", term, reply.round,
                       reply.resigned ? " resigned" : "", reply.full ? " full" : "");
  }
  std::string operator()(const ReadIndexRequest& request) const {
    return fmt::format("ReadIndex term={} id={}", term, request.id & 0xffffffff);
  }
  std::string operator()(const ReadIndexReply& reply) const {
    return fmt::format("ReadIndexReply term={} id={} {}", term, reply.id & 0xffffffff,
                       reply.refused ? "refused" : fmt::format("index={}", reply.index));
  }
  std::string operator()(const TimeoutNow&) const {
    return fmt::format("TimeoutNow term={}", term);
  }

  Term term;
};

}  // namespace

std::string to_string(const Message& message) {
  return fmt::format("{}->{} {}", message.from, message.to,
                     std::visit(BodyText{message.term}, message.body));
}

std::string kind_of(const Message& message) {
  const std::string text = std::visit(BodyText{message.term}, message.body);
  return text.substr(0, text.find(' '));
}

}  // namespace ballast::raft::testing
