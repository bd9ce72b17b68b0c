#include "server/node/log_garbage.h"

#include <algorithm>

#include "storage/log/record.h"

namespace ballast::server {
namespace {

using storage::LogStore;
using storage::StateMachine;

constexpr double kTakesMax = 1.75;  // of what is live
constexpr double kSparse = 0.5;     // less of it is records of live blocks: it empties in any case
constexpr double kSparseWhenTight = 0.75;
constexpr double kWorthwhile = 1.5;  // homes and database take more than this of what lives in them

// Null: no block lies in it.
const StateMachine::SegmentUse* use_of(const Stock& stock, const LogStore::Home& home) {
  const auto use =
      std::ranges::lower_bound(stock.used, home.segment, {}, &StateMachine::SegmentUse::sequence);
  return use == stock.used.end() || use->sequence != home.segment ? nullptr : &*use;
}

uint64_t live_bytes(const Stock& stock, const LogStore::Home& home) {
  const StateMachine::SegmentUse* use = use_of(stock, home);
  return use == nullptr ? 0 : use->bytes;
}

// Of live blocks, as if they were equally long: a small block takes much more than its bytes.
double records_share(const Stock& stock, const LogStore::Home& home) {
  const StateMachine::SegmentUse* use = use_of(stock, home);
  if (use == nullptr || use->blocks == 0) return 0;
  const uint64_t of_one = (use->bytes + use->blocks - 1) / use->blocks;
  const uint64_t record = storage::record_bytes(0, static_cast<uint32_t>(of_one));
  return static_cast<double>(use->blocks * record) / static_cast<double>(home.bytes);
}

bool more_than(uint64_t bytes, double times, uint64_t live) {
  return static_cast<double>(bytes) > times * static_cast<double>(live);
}

// What all takes, and what is in reach of emptying segments.
struct Takes {
  uint64_t all = 0;
  uint64_t in_reach = 0;
  uint64_t live_in_reach = 0;

  explicit Takes(const Stock& stock)
      : all(stock.log + stock.database), in_reach(stock.database), live_in_reach(stock.live) {
    uint64_t in_segments = 0;
    for (const auto& use : stock.used) in_segments += use.bytes;
    live_in_reach -= std::min(live_in_reach, in_segments);
    for (const LogStore::Home& home : stock.homes) {
      in_reach += home.bytes;
      live_in_reach += live_bytes(stock, home);
    }
  }
  void let_go(uint64_t bytes) {
    all -= std::min(all, bytes);
    in_reach -= std::min(in_reach, bytes);
  }
};

}  // namespace

double live_share(const Stock& stock, const LogStore::Home& home) {
  return static_cast<double>(live_bytes(stock, home)) / static_cast<double>(home.bytes);
}

std::vector<HomeFate> fates_of(const Stock& stock) {
  std::vector<HomeFate> fates;
  std::vector<size_t> staying;
  Takes takes(stock);
  const auto let_go = [&](size_t i) {
    takes.let_go(stock.homes[i].bytes -
                 std::min(stock.homes[i].bytes, live_bytes(stock, stock.homes[i])));
  };
  for (size_t i = 0; i < stock.homes.size(); ++i) {
    const LogStore::Home& home = stock.homes[i];
    const bool used = use_of(stock, home) != nullptr;
    const bool sparse = records_share(stock, home) < kSparse;
    fates.push_back(!used ? HomeFate::kRetires : sparse ? HomeFate::kEmpties : HomeFate::kStays);
    if (fates.back() == HomeFate::kStays)
      staying.push_back(i);
    else
      let_go(i);
  }
  std::ranges::sort(staying, {}, [&](size_t i) { return live_share(stock, stock.homes[i]); });
  for (const size_t i : staying) {
    if (live_share(stock, stock.homes[i]) >= kSparseWhenTight ||
        !more_than(takes.all, kTakesMax, stock.live) ||
        !more_than(takes.in_reach, kWorthwhile, takes.live_in_reach))
      break;
    fates[i] = HomeFate::kEmpties;
    let_go(i);
  }
  return fates;
}

bool takes_too_much(const Stock& stock) {
  return more_than(stock.log + stock.database, kTakesMax, stock.live);
}

uint64_t spare_budget(const Stock& stock) {
  const auto most = static_cast<uint64_t>(kTakesMax * static_cast<double>(stock.live));
  uint64_t takes = stock.log + stock.database;
  for (const LogStore::Home& home : stock.homes)
    if (use_of(stock, home) == nullptr) takes -= std::min(takes, home.bytes);
  return most - std::min(most, takes);
}

pb::LogGarbage log_garbage(const Stock& stock) {
  pb::LogGarbage garbage;
  for (const StateMachine::SegmentUse& use : stock.used)
    garbage.set_live_bytes(garbage.live_bytes() + use.bytes);
  const std::vector<HomeFate> fates = fates_of(stock);
  for (size_t i = 0; i < fates.size(); ++i) {
    const LogStore::Home& home = stock.homes[i];
    if (fates[i] == HomeFate::kRetires) {
      garbage.set_empty_segments(garbage.empty_segments() + 1);
      garbage.set_empty_bytes(garbage.empty_bytes() + home.bytes);
    } else if (fates[i] == HomeFate::kEmpties) {
      garbage.set_sparse_segments(garbage.sparse_segments() + 1);
      garbage.set_sparse_bytes(garbage.sparse_bytes() + home.bytes);
      garbage.set_moving_bytes(garbage.moving_bytes() + live_bytes(stock, home));
    }
  }
  return garbage;
}

}  // namespace ballast::server
