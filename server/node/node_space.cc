// The node's part in a full disk: it measures, refuses what it could not store, and lets somebody
// lead who has space.

#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include "proto/net/worker.h"
#include "server/node/node.h"
#include "storage/log/record.h"

namespace ballast::server {
namespace {

constexpr auto kMeasurePeriod = std::chrono::seconds(1);
// Deletes are refused while leadership moves, so a successor that does not take it is not asked
// again at once.
constexpr auto kHandoverPause = std::chrono::seconds(10);
constexpr auto kRoomCheckPeriod = std::chrono::milliseconds(250);
constexpr auto kGiveWay = std::chrono::milliseconds(10);
constexpr uint64_t kGiveWayBytes = limits::kMiB;

uint64_t record_bytes_of(const Bytes& header, const Bytes& payload) {
  return storage::record_bytes(static_cast<uint32_t>(header.size()),
                               static_cast<uint32_t>(payload.size()));
}

}  // namespace

asio::awaitable<void> Node::space_loop() {
  while (!stopping_) {
    space_timer_.expires_after(kMeasurePeriod);
    co_await space_timer_.async_wait(kToken);
    if (stopping_) break;
    const auto space = co_await net::on_worker(workers_.urgent, space_.options().measure);
    if (space)
      space_.note(*space);
    else
      spdlog::warn("{}", space.error().message);
  }
}

// Compares with what it was at the tick before.
void Node::note_space() {
  if (!space_.watches()) return;
  const bool full = space_.full(log_->room());
  core_.set_full(full);
  if (full) trim_spares(0);
  if (full != full_) {
    full_ = full;
    if (full)
      spdlog::warn("{}", space_.complaint());
    else
      spdlog::info("the disk has space again, {} MiB are free: writes are taken",
                   space_.space().free / limits::kMiB);
  }
  if (!full_ || core_.role() != raft::Role::kLeader || Clock::now() < full_handover_at_) return;
  const NodeId successor = core_.majority_has_space() ? core_.successor_with_space() : NodeId();
  if (!successor) return;
  full_handover_at_ = Clock::now() + kHandoverPause;
  if (core_.transfer_leadership(successor))
    spdlog::info("leadership is being handed to node {}, whose disk has space", successor);
}

// What was proposed in this turn is not in the log yet, and comes first.
Status Node::check_space(std::span<const Draft> drafts) const {
  if (!space_.watches() || core_.role() != raft::Role::kLeader) return {};
  std::vector<uint64_t> records;
  for (const auto& [place, entry] : incoming_)
    records.push_back(record_bytes_of(entry.header, entry.payload));
  bool grows = false;
  for (const Draft& draft : drafts) {
    records.push_back(record_bytes_of(draft.header, draft.payload));
    grows |= !draft.frees && draft.kind != EntryKind::kConfiguration;
  }
  if (grows && !core_.majority_has_space()) return no_majority_with_space();
  const storage::LogRoom room = log_->room();
  if (grows && space_.full(room) && core_.successor_with_space())
    return fail(Errc::kUnavailable, "{}; another node takes over", space_.complaint());
  return space_.admit(room, records, grows ? Need::kGrow : Need::kFree);
}

// If the drafts must go into a segment that is only being made, waits until it is known to come: a
// matter of moments.
asio::awaitable<void> Node::segment_for(std::span<const Draft> drafts, Clock::time_point deadline) {
  const auto crowded = [&] {
    const Status fits = check_space(drafts);
    return !fits && fits.error().code == Errc::kOverloaded;
  };
  while (!stopping_ && crowded() && Clock::now() < deadline)
    co_await stored_signal_.wait_until(std::min(deadline, Clock::now() + kRoomCheckPeriod));
}

std::unexpected<Error> Node::no_majority_with_space() const {
  const raft::View view = core_.view();
  std::vector<std::string> names;
  const auto add = [&](NodeId id) {
    const pb::ConfigurationMember* member = find_member(membership_.newest(), id);
    names.push_back(member != nullptr ? member->name() : fmt::format("{}", id));
  };
  if (full_) add(view.id);
  for (const raft::PeerView& peer : view.peers) {
    if (peer.full && !peer.learner) add(peer.id);
  }
  return fail(
      Errc::kNoSpace,
      "the disks of {} are full, so no majority could store more: see `kvctl status`, free "
      "space there or add some{}; reads and deletes go on",
      fmt::join(names, ", "),
      full_ ? fmt::format(" ({} MiB are free in '{}' of {})", space_.space().free / limits::kMiB,
                          space_.options().directory, space_.options().name)
            : std::string());
}

// Of those that are new to this node. A repeated Append needs no place.
bool Node::has_room(std::span<const Entry> entries) const {
  std::vector<uint64_t> records;
  Need need = Need::kTerm;
  for (const Entry& entry : entries) {
    if (core_.term_at(entry.index) == entry.term) continue;
    records.push_back(record_bytes_of(entry.header, entry.payload));
    if (!entry.payload.empty()) need = Need::kInFlight;
  }
  return records.empty() || space_.admit(log_->room(), records, need).has_value();
}

asio::awaitable<bool> Node::room_for(std::span<const Entry> entries, std::function<bool()> gone) {
  if (entries.empty() || has_room(entries)) co_return true;
  ++starved_;
  applied_signal_.notify();  // who waits for what follows waits in vain
  while (!stopping_ && !gone() && !has_room(entries))
    co_await stored_signal_.wait_until(Clock::now() + kRoomCheckPeriod);
  --starved_;
  co_return !stopping_ && !gone();
}

asio::awaitable<void> Node::give_way(uint64_t bytes) {
  read_for_others_ += bytes;
  if (read_for_others_ < kGiveWayBytes) co_return;
  read_for_others_ = 0;
  const auto until = Clock::now() + kGiveWay;
  while (!stopping_ && log_->oldest_pending_us() > 0 && co_await stored_signal_.wait_until(until))
    continue;
}

}  // namespace ballast::server
