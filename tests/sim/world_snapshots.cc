// A node whose log ends before those of the others begin is brought a snapshot: the rows of one
// moment from one node, then the blocks that it lacks, each from any node, piece by piece while
// everything else goes on. It is what server/snapshot/ does over connections.
#include <utility>

#include "storage/snapshot/incoming.h"
#include "storage/snapshot/snapshot_rows.h"
#include "tests/sim/world.h"

namespace ballast::sim {
namespace {

constexpr size_t kPageBytes = 4 << 10;
constexpr size_t kBlocksOfBatch = 4;
constexpr uint64_t kPieceUs = 20 * kMs;
constexpr uint64_t kSlowUs = 2'000 * kMs;
constexpr uint64_t kPiecesPerCrash = 16;
constexpr uint64_t kPiecesPerFlush = 4;

}  // namespace

struct World::Fetch {
  NodeId to;
  uint64_t life = 0;  // of the node
  Index wanted;
  storage::LogBase base;
  std::vector<pb::RowPage> pages;  // that are still to be added, the next one last
  bool begun = false;
  std::optional<Digest> after;
  std::unique_ptr<storage::IncomingSnapshot> incoming;
};

void World::need_snapshot(NodeId id, Index index) {
  std::shared_ptr<Fetch>& fetch = replicas_[id].fetch;
  if (fetch) return;
  fetch = std::make_shared<Fetch>();
  fetch->to = id;
  fetch->life = node(id).life();
  fetch->wanted = index;
  node(id).node().hold_segments(true);
  fetch_later(fetch);
}

void World::fetch_later(const std::shared_ptr<Fetch>& fetch) {
  const bool slow = !calm_ && chance_network_.below(8) == 0;
  const uint64_t us = faults_.delay_us_min + chance_network_.below(slow ? kSlowUs : kPieceUs);
  scheduler_.after(us, [this, fetch] { fetch_more(fetch); });
}

// One piece. What goes wrong ends the attempt; the node says once more that it needs a snapshot.
void World::fetch_more(const std::shared_ptr<Fetch>& fetch) {
  SimNode& one = node(fetch->to);
  std::shared_ptr<Fetch>& current = replicas_[fetch->to].fetch;
  if (!one.running() || one.life() != fetch->life) {
    if (current == fetch) current = nullptr;
    return;
  }
  if (one.paused()) return fetch_later(fetch);
  if (!calm_ && chance_faults_.below(kPiecesPerCrash) == 0) {
    current = nullptr;
    return crash_node(one.id(), true);
  }
  Result<bool> goes_on = true;
  if (!fetch->begun) {
    goes_on = begin_fetch(*fetch);
  } else if (!fetch->pages.empty()) {
    const Status added = fetch->incoming->add(fetch->pages.back());
    if (!added) goes_on = std::unexpected(added.error());
    fetch->pages.pop_back();
  } else {
    goes_on = fetch_blocks(*fetch);
  }
  if (goes_on && *goes_on) return fetch_later(fetch);
  current = nullptr;
  if (goes_on) return install(*fetch);
  if (fetch->incoming) (void)fetch->incoming->flush();
  one.node().hold_segments(false);
  say(fmt::format("node {} got no snapshot: {}", one.id(), goes_on.error().message));
}

SimNode* World::some_source(NodeId to, Index applied) {
  std::vector<SimNode*> sources;
  for (const auto& one : nodes_) {
    if (one->id() == to || !one->reachable() || cut(to, one->id()) || cut(one->id(), to)) continue;
    if (one->node().state().applied().index >= applied) sources.push_back(one.get());
  }
  return sources.empty() ? nullptr : sources[chance_network_.below(sources.size())];
}

Result<bool> World::begin_fetch(Fetch& fetch) {
  SimNode* const source = some_source(fetch.to, fetch.wanted);
  if (source == nullptr) return fail(Errc::kUnavailable, "nobody has one");
  const server::Node& its = source->node();
  const auto applied = its.state().applied();
  fetch.base = {applied.index, applied.term, its.core().chain_at(applied.index)};
  const auto rows = its.state().rows();
  for (bool last = false; !last;) {
    const std::string after = fetch.pages.empty() || fetch.pages.back().rows().empty()
                                  ? std::string()
                                  : std::string(fetch.pages.back().rows().rbegin()->key());
    BALLAST_TRY(auto page, storage::snapshot_page(*rows, after, kPageBytes));
    last = page.last;
    fetch.pages.push_back(std::move(page.rows));
  }
  std::ranges::reverse(fetch.pages);
  BALLAST_TRY(fetch.incoming, node(fetch.to).open_incoming());
  fetch.begun = true;
  say(fmt::format("node {} gets the rows of entry {} from node {}", fetch.to, fetch.base.index,
                  source->id()));
  BALLAST_TRY_STATUS(fetch.incoming->begin());
  return true;
}

Result<bool> World::fetch_blocks(Fetch& fetch) {
  const auto current = node(fetch.to).node().state().rows();
  BALLAST_TRY(const auto missing,
              fetch.incoming->missing(current.get(), fetch.after, kBlocksOfBatch));
  for (const pb::BlockRef& block : missing.blocks) {
    BALLAST_TRY(const Digest digest, Digest::from_raw(block.digest()));
    SimNode* const source = some_source(fetch.to, Index());
    if (source == nullptr) return fail(Errc::kUnavailable, "nobody is there for the blocks");
    const auto found = source->node().state().block(digest);
    // Whoever has applied what the rows show had it then.
    const bool gone = !found && found.error().code == Errc::kNotFound &&
                      source->node().state().applied().index >= fetch.base.index;
    if (!found && !gone) return std::unexpected(found.error());
    if (found) BALLAST_TRY_STATUS(fetch.incoming->add_block(block, found->bytes));
  }
  fetch.after = missing.next;
  if (missing.next) {
    if (chance_network_.below(kPiecesPerFlush) == 0) BALLAST_TRY_STATUS(fetch.incoming->flush());
    return true;
  }
  BALLAST_TRY_STATUS(fetch.incoming->finish(fetch.base));
  return false;
}

// By starting again.
void World::install(Fetch& fetch) {
  ++counts_.snapshots;
  crash_node(fetch.to, false);
  start_node(fetch.to);
}

}  // namespace ballast::sim
