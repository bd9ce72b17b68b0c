#include "server/node/space_watch.h"

#include <algorithm>

#include "storage/log/record.h"

namespace ballast::server {
namespace {

// What a full log keeps of its last segment: a share of it for everything else than new writes of
// clients, first of all for those that are on their way from a primary; of that so much for deletes
// and changes of the members; and of that so much for terms to begin.
constexpr uint64_t kKeptShare = 4;
constexpr uint64_t kKeptMax = 64 * limits::kMiB;
constexpr uint64_t kKeptForFreeing = 2 * limits::kMiB;
constexpr uint64_t kKeptForTerms = limits::kMiB;

std::string mib(uint64_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / limits::kMiB);
}

}  // namespace

Status SpaceOptions::may_take(uint64_t bytes) const {
  BALLAST_TRY(const storage::Space space, measure());
  if (space.free >= bytes + beside_segment_bytes()) return {};
  return fail(Errc::kNoSpace, "{} are free in '{}', {} are needed", mib(space.free), directory,
              mib(bytes + beside_segment_bytes()));
}

void SpaceWatch::note(storage::Space space) {
  space_ = space;
  // A quarter more before it counts as back, or each little flush would change it.
  const uint64_t floor = options_.floor_bytes();
  below_floor_ = space.free < (below_floor_ ? floor + floor / 4 : floor);
}

uint64_t SpaceWatch::kept(Need need) const {
  switch (need) {
    case Need::kGrow: return std::min(options_.segment_bytes / kKeptShare, kKeptMax);
    case Need::kInFlight: return kKeptForFreeing;
    case Need::kFree: return kKeptForTerms;
    case Need::kTerm: return 0;
  }
  return 0;
}

bool SpaceWatch::full(const storage::LogRoom& room) const {
  if (!watches()) return false;
  const bool lacks = room.next == storage::Outlook::kLacking;
  return below_floor_ || (lacks && room.left < kept(Need::kGrow) + storage::kRecordBytesMax);
}

bool SpaceWatch::stuck(const storage::LogRoom& room) const {
  constexpr uint64_t kFirst[] = {storage::record_bytes(0, 0)};
  return watches() && room.next == storage::Outlook::kLacking && !room.holds(kFirst, 0);
}

Status SpaceWatch::admit(const storage::LogRoom& room, std::span<const uint64_t> records,
                         Need need) const {
  if (!watches()) return {};
  const bool lacks = room.next == storage::Outlook::kLacking;
  const bool fits = room.holds(records, lacks ? kept(need) : 0);
  if ((need == Need::kGrow && full(room)) || (lacks && !fits))
    return fail(Errc::kNoSpace, "{}", complaint());
  if (!fits)
    return fail(Errc::kOverloaded, "the next segment of the log in '{}' is still being made",
                options_.directory);
  return {};
}

std::string SpaceWatch::complaint() const {
  return fmt::format(
      "the disk of node {} is full: {} are free in '{}', and the next segment of the log needs {}; "
      "free space there or add some; reads and deletes go on",
      options_.name, mib(space_.free), options_.directory,
      mib(options_.segment_bytes + options_.beside_segment_bytes()));
}

}  // namespace ballast::server
