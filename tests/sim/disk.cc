#include "tests/sim/disk.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "proto/files/files.h"
#include "storage/log/hard_state_file.h"
#include "storage/log/record.h"
#include "tests/sim/file_journal.h"

namespace ballast::sim {
namespace {

constexpr size_t kSector = 4096;
constexpr uint64_t kRetryUs = 1'000 * kMs;  // as SegmentPreparer

}  // namespace

// What the log sees: an IoQueue of one life of the node. In a later life it does nothing more.
class SimDisk::Queue final : public storage::IoQueue {
 public:
  explicit Queue(SimDisk& disk) : disk_(disk), life_(disk.life_) {}

  void write_durably(const UniqueFd& file, std::vector<iovec> pieces, uint64_t offset,
                     Completion done) override {
    if (!alive()) return;
    Write write{file.path(), offset, {}, std::move(done)};
    for (const iovec& piece : pieces) {
      const auto* from = static_cast<const std::byte*>(piece.iov_base);
      write.bytes.insert(write.bytes.end(), from, from + piece.iov_len);
    }
    disk_.start(std::move(write));
  }
  // Every write is durable when it completes.
  void sync(const UniqueFd& file, Completion done) override {
    if (alive()) disk_.start({file.path(), 0, {}, std::move(done)});
  }
  int event_fd() const override { return -1; }
  void wake() override {
    if (alive()) disk_.on_ready_();
  }
  void poll() override {
    if (!alive()) return;
    for (auto& [done, status] : std::exchange(disk_.completed_, {})) done(status);
  }
  void drain() override {
    while (alive() && !(disk_.in_flight_.empty() && disk_.completed_.empty())) {
      for (auto& [number, write] : std::exchange(disk_.in_flight_, {})) {
        disk_.land(write);
        disk_.completed_.emplace_back(std::move(write.done), Status());
      }
      poll();
    }
  }

 private:
  bool alive() const { return disk_.life_ == life_; }

  SimDisk& disk_;
  const uint64_t life_;
};

// Where the log gets its segments: as the queue, for one life.
class SimDisk::Supply final : public storage::SegmentSupply {
 public:
  explicit Supply(SimDisk& disk) : disk_(disk), life_(disk.life_) {}

  void prepare(storage::SegmentOrder order) override {
    if (alive()) disk_.prepare_segment(std::move(order));
  }
  storage::SegmentPtr take() override {
    return alive() ? std::exchange(disk_.made_, nullptr) : nullptr;
  }
  void hurry() override {
    if (alive()) disk_.hurry_segment();
  }

 private:
  bool alive() const { return disk_.life_ == life_; }

  SimDisk& disk_;
  const uint64_t life_;
};

SimDisk::SimDisk(std::string directory, Scheduler& scheduler, raft::Prng chance)
    : directory_(std::move(directory)), scheduler_(scheduler), chance_(chance) {
  std::filesystem::create_directories(directory_);
}

SimDisk::~SimDisk() {
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

storage::LogParts SimDisk::parts() {
  end_life();
  storage::LogParts parts;
  parts.queue = std::make_unique<Queue>(*this);
  parts.supply = std::make_unique<Supply>(*this);
  parts.make_segment = [this](uint64_t sequence) { return make_segment(sequence); };
  return parts;
}

Result<std::unique_ptr<storage::LogStore>> SimDisk::open(std::optional<storage::LogBase> installed,
                                                         std::function<void()> on_ready) {
  on_ready_ = std::move(on_ready);
  const storage::LogOptions options{
      .directory = directory_, .segment_bytes = faults.segment_bytes, .installed = installed};
  if (full() && copies_on_write_) return os_failure("write", directory_, ENOSPC);
  const auto steps = std::exchange(power_steps_, std::nullopt);
  if (!steps) return storage::open_segment_log(options, parts());
  FileJournal journal(*steps);
  auto log = storage::open_segment_log(options, parts());
  if (!journal.power_failed()) return log;
  BALLAST_CHECK(!log, "recovery goes on although it could not write");
  journal.crash(chance_);
  ++counts_.torn_recoveries;
  return log;
}

void SimDisk::fill(uint64_t us, bool copies_on_write) {
  full_until_us_ = scheduler_.now_us() + us;
  copies_on_write_ = copies_on_write;
}

bool SimDisk::read_fails() {
  const bool fails = faults.read_error_ppm != 0 && hits(faults.read_error_ppm);
  counts_.read_errors += fails ? 1 : 0;
  return fails;
}

void SimDisk::heal() {
  faults = {.segment_bytes = faults.segment_bytes};
  full_until_us_ = 0;
  hangs_until_us_ = 0;
  power_steps_.reset();
}

// ---- segments -----------------------------------------------------------------------------------

Result<storage::SegmentPtr> SimDisk::make_segment(uint64_t sequence) const {
  const std::string path = directory_ + "/" + storage::segment_name(sequence);
  if (full()) return os_failure("make", path, ENOSPC);
  BALLAST_TRY(const UniqueFd file, open_file(path, O_RDWR | O_CREAT));
  if (::ftruncate(file.get(), static_cast<off_t>(faults.segment_bytes)) != 0)
    return os_failure("make", path);
  return storage::open_segment(directory_, sequence);
}

void SimDisk::prepare_segment(storage::SegmentOrder order) {
  BALLAST_CHECK(making_ == 0 && !made_);
  making_ = order.sequence;
  spare_ = std::move(order.spare);
  urgent_ = false;
  const uint64_t us = faults.segment_us_max == 0 ? 0 : 1 + chance_.below(faults.segment_us_max);
  if (us == 0) return finish_segment();
  scheduler_.after(us, [this, life = life_] {
    if (life == life_) finish_segment();
  });
}

// The segment is there, or there was no space for it: then once more after a while, if there is no
// hurry.
void SimDisk::finish_segment() {
  if (spare_) ++counts_.reused;
  auto made = spare_ ? storage::recycle_segment(directory_, std::move(spare_), making_)
                     : make_segment(making_);
  if (made) {
    making_ = 0;
    retrying_ = false;
    made_ = *std::move(made);
    if (urgent_) on_ready_();
    return;
  }
  if (urgent_) {
    ++counts_.write_errors;
    return on_error();
  }
  retrying_ = true;
  scheduler_.after(kRetryUs, [this, life = life_] {
    if (life == life_ && retrying_) finish_segment();
  });
}

void SimDisk::hurry_segment() {
  if (std::exchange(urgent_, true)) return;
  ++counts_.late_segments;
  if (std::exchange(retrying_, false)) finish_segment();
}

// ---- writes -------------------------------------------------------------------------------------

void SimDisk::start(Write write) {
  uint64_t us = faults.write_us_min + chance_.below(faults.write_us_max - faults.write_us_min + 1);
  if (hits(faults.stall_ppm)) us += chance_.below(faults.stall_us_max + 1);
  us = std::max(us, hangs_until_us_ - std::min(hangs_until_us_, scheduler_.now_us()));
  const bool fails = hits(faults.error_ppm) || (full() && copies_on_write_);
  in_flight_.emplace(++started_, std::move(write));
  if (on_write) on_write(us);
  scheduler_.after(us, [this, number = started_, fails] {
    const auto at = in_flight_.find(number);
    if (at == in_flight_.end()) return;  // the node crashed, or waited for it, meanwhile
    if (fails) {
      ++counts_.write_errors;
      return on_error();
    }
    land(at->second);
    completed_.emplace_back(std::move(at->second.done), Status());
    in_flight_.erase(at);
    on_ready_();
  });
}

void SimDisk::put(const std::string& path, uint64_t offset,
                  std::span<const std::byte> bytes) const {
  auto file = open_file(path, O_RDWR);
  BALLAST_CHECK(file && write_fully(*file, bytes, offset), "the simulation can't write {}", path);
}

MutableBytes SimDisk::get(const std::string& path, uint64_t offset, size_t bytes) const {
  const auto file = open_file(path, O_RDONLY);
  MutableBytes read(bytes);
  BALLAST_CHECK(file && read_fully(*file, read.span(), offset), "the simulation can't read {}",
                path);
  return read;
}

void SimDisk::land(const Write& write) {
  if (write.bytes.empty()) return;
  put(write.path, write.offset, write.bytes);
  note(write);
}

// Follows what the bytes say, as recovery would: a record replaces everything from its index on.
void SimDisk::note(const Write& write) {
  if (write.path.ends_with(storage::kHardStateName)) {
    const auto record = storage::parse_hard_state(write.bytes);
    BALLAST_CHECK(record.has_value());
    hard_state_ = record->state;
    forget_places(record->start.segment);
    known_serial_ = std::max(known_serial_, record->durable_serial);
    return;
  }
  std::span<const std::byte> left(write.bytes);
  uint64_t at = write.offset;
  if (at == 0) {
    left = left.subspan(storage::kSegmentHeaderBytes);
    at += storage::kSegmentHeaderBytes;
  }
  while (!left.empty()) {
    const auto header = storage::parse_record_head(left);
    BALLAST_CHECK(header.has_value(), "a log write that holds no records");
    const EntryMeta& entry = header->entry;
    const size_t head = storage::record_head_bytes(entry.header_bytes);
    const uint64_t bytes = storage::record_bytes(entry.header_bytes, entry.payload_bytes);
    const auto payload = left.subspan(head, entry.payload_bytes);
    durable_.resize(std::min<size_t>(durable_.size(), entry.index.value() - 1));
    BALLAST_CHECK(durable_.size() == entry.index.value() - 1, "a gap in the log");
    const auto text = storage::record_entry_header(*header, left);
    durable_.push_back({.meta = entry,
                        .header_crc = crc32c(text),
                        .payload_crc = header->payload_crc,
                        .whole = crc32c(payload) == header->payload_crc,
                        .header = std::string(as_text(text))});
    places_.push_back({header->serial, write.path, at, bytes});
    known_serial_ = std::max(known_serial_, header->batch);
    left = left.subspan(bytes);
    at += bytes;
  }
}

// What the log of this life still says goes nowhere.
void SimDisk::end_life() {
  ++life_;
  completed_.clear();
  making_ = 0;
  spare_ = nullptr;
  retrying_ = false;
  made_ = nullptr;
}

// A segment may have got its name already, or not yet; a file that is used again may have lost its
// old one.
void SimDisk::leave_half_made() {
  if (making_ == 0) return;
  if (!spare_) {
    if (chance_.below(2) == 0) (void)make_segment(making_);
    return;
  }
  const uint64_t steps = chance_.below(4);
  const std::string old = directory_ + "/" + storage::segment_name(spare_->sequence);
  const std::string made = directory_ + "/" + storage::segment_name(making_);
  if (steps > 0) std::filesystem::rename(old, made + ".tmp");
  if (steps > 1) put(made + ".tmp", 0, std::vector<std::byte>(storage::kSegmentHeaderBytes));
  if (steps > 2) std::filesystem::rename(made + ".tmp", made);
}

// Of what is no part of the log any more nobody looks for damage at a start.
void SimDisk::forget_places(uint64_t first_segment) {
  std::erase_if(places_, [&](const Place& place) {
    const auto sequence =
        storage::parse_segment_name(std::filesystem::path(place.path).filename().string());
    return *sequence < first_segment;
  });
}

void SimDisk::crash() {
  leave_half_made();
  end_life();  // what has completed has landed; nobody heard of it
  for (const auto& [number, write] : std::exchange(in_flight_, {})) {
    // All, none, or any of the sectors.
    const uint64_t share = chance_.below(5);
    for (size_t at = 0; at < write.bytes.size(); at += kSector) {
      if (chance_.below(4) >= share) continue;
      const size_t bytes = std::min(kSector, write.bytes.size() - at);
      put(write.path, write.offset + at, std::span(write.bytes).subspan(at, bytes));
    }
  }
}

void SimDisk::wipe() {
  end_life();
  in_flight_.clear();
  full_until_us_ = 0;
  hangs_until_us_ = 0;
  durable_.clear();
  places_.clear();
  hard_state_ = {};
  known_serial_ = 0;
  rotten_head_has_copy_ = false;
  std::filesystem::remove_all(directory_);
  std::filesystem::create_directories(directory_);
}

const SimDisk::Place* SimDisk::some_known_place() {
  const auto known = std::ranges::partition_point(
      places_, [this](const Place& place) { return place.serial < known_serial_; });
  const auto candidates = static_cast<uint64_t>(known - places_.begin());
  if (candidates == 0) return nullptr;
  // The newest are the ones that a careless recovery would give up.
  const uint64_t back = chance_.below(2) == 0 ? chance_.below(candidates)
                                              : chance_.below(std::min<uint64_t>(candidates, 3));
  return &places_[candidates - 1 - back];
}

// The record behind, if it has landed and has room for a copy of this one's head.
const SimDisk::Place* SimDisk::carrier_of(const Place& place) const {
  const auto behind = std::ranges::find(places_, place.serial + 1, &Place::serial);
  if (behind == places_.end()) return nullptr;
  const auto head = storage::parse_record_head(get(place.path, place.offset, place.bytes).span());
  MutableBytes bytes = get(behind->path, behind->offset, behind->bytes);
  const auto carrier = storage::parse_record_head(bytes.span());
  if (!head || !carrier) return nullptr;  // written over by a crash, or damaged
  const uint32_t header_bytes = carrier->entry.header_bytes;
  const auto free =
      storage::second_place(bytes.span().first(storage::record_head_bytes(header_bytes)),
                            storage::bare_head_bytes(header_bytes));
  return storage::bare_head_bytes(head->entry.header_bytes) <= free.size() ? &*behind : nullptr;
}

void SimDisk::flip(const std::string& path, uint64_t at) {
  MutableBytes sector = get(path, at, kSector);
  sector.data()[chance_.below(64)] ^= std::byte{0x10};
  put(path, at, sector.span());
}

bool SimDisk::rot() {
  const Place* place = some_known_place();
  if (place == nullptr) return false;
  const uint64_t at = place->offset + chance_.below(place->bytes / kSector) * kSector;
  const Place* carrier = at == place->offset ? carrier_of(*place) : nullptr;
  // Both rot, if something else still tells that they were durable.
  const bool both = carrier != nullptr && carrier->serial < known_serial_ && chance_.below(2) == 0;
  rotten_head_has_copy_ = carrier != nullptr && !both;
  flip(place->path, at);
  if (both) flip(carrier->path, carrier->offset);
  return true;
}

bool SimDisk::rot_hard_state() {
  const std::string path = directory_ + "/" + storage::kHardStateName;
  if (!path_exists(path)) return false;  // a new disk
  MutableBytes copies = get(path, 0, 2 * storage::kHardStateSlotBytes);
  const auto [first, second] = storage::parse_hard_state_copies(copies.span()).copies;
  if (!first || !second || first->state != second->state) return false;
  const uint64_t at = chance_.below(2) * storage::kHardStateSlotBytes;
  const auto copy = copies.span().subspan(at, storage::kHardStateSlotBytes);
  copy[chance_.below(56)] ^= std::byte{0x10};
  put(path, at, copy);
  return true;
}

bool SimDisk::misplace() {
  const Place* hit = some_known_place();
  if (hit == nullptr || places_.size() < 2) return false;
  const Place* meant = &places_[chance_.below(places_.size() - 1)];
  if (meant >= hit) ++meant;
  const size_t bytes = std::min(hit->bytes, meant->bytes);
  put(hit->path, hit->offset, get(meant->path, meant->offset, bytes).span());
  return true;
}

std::string SimDisk::recovered(const storage::LogStore& log) {
  const HardState state = log.hard_state();
  const bool forgot = state.term == hard_state_.term && hard_state_.vote && state != hard_state_;
  if (state.term < hard_state_.term || forgot)
    return fmt::format("the vote for {} in term {} became one for {} in term {}", hard_state_.vote,
                       hard_state_.term, state.vote, state.term);
  hard_state_ = state;
  uint64_t first_of_log = 1;
  for (const storage::LogStore::Home& home : log.homes())
    if (!storage::has_arrived(home.segment))
      first_of_log = std::max(first_of_log, home.segment + 1);
  forget_places(first_of_log);
  begin_behind(log.base());
  const uint64_t base = log.base().index.value();
  const std::vector<EntryMeta> found = log.entries();  // the first is entry base + 1
  const uint64_t last = base + found.size();
  for (uint64_t i = base; i < durable_.size(); ++i) {
    const Term term = durable_[i].meta.term;
    if (i < last && found[i - base] == durable_[i].meta) continue;
    // A torn batch may have replaced it by a record that landed as a whole.
    if (i < last && found[i - base].term > term) break;
    return fmt::format("durable entry {} of term {} is not in the recovered log of {}", i + 1, term,
                       last);
  }
  uint64_t same = base;
  while (same < std::min<uint64_t>(durable_.size(), last) &&
         durable_[same].meta == found[same - base])
    ++same;
  durable_.resize(same);
  if (same == last) return {};
  auto read = log.prepare_read(Index(same + 1), log.last());
  const auto entries = read ? (*read)->entries() : std::unexpected(read.error());
  if (!entries) return "recovery kept what can't be read: " + entries.error().message;
  for (const Entry& entry : *entries)
    durable_.push_back(
        {.meta = entry.meta(), .whole = true, .header = std::string(entry.header.text())});
  return {};
}

// The log begins there: what did not land up to there came with a snapshot. A log that had another
// entry there had nothing behind it that was ever committed.
void SimDisk::begin_behind(const storage::LogBase& base) {
  const uint64_t index = base.index.value();
  if (index == 0) return;
  const bool holds = durable_.size() >= index && (durable_[index - 1].in_snapshot ||
                                                  durable_[index - 1].meta.term == base.term);
  if (holds) return;
  durable_.assign(index, {.in_snapshot = true});
  durable_.back().meta.term = base.term;
}

}  // namespace ballast::sim
