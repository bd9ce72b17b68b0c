#include "server/raft/log.h"

#include <algorithm>
#include <array>

#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "proto/base/planted.h"

namespace ballast::raft {
namespace {

constexpr uint32_t kHeaderBits = 24;
constexpr uint32_t kHeaderMask = (uint32_t{1} << kHeaderBits) - 1;

// The chain value of an entry behind one whose value is `before`.
uint32_t chain_after(uint32_t before, const EntryMeta& entry) {
  const std::array<uint64_t, 4> words{
      entry.term.value(), entry.index.value(),
      uint64_t{static_cast<uint8_t>(entry.kind)} << 32 | entry.header_bytes,
      uint64_t{entry.checksum} << 32 | entry.payload_bytes};
  return crc32c(std::as_bytes(std::span(words)), before);
}

}  // namespace

Log::Log(const std::vector<EntryMeta>& durable, Position base, uint32_t base_chain)
    : base_(base), base_chain_(base_chain) {
  for (const EntryMeta& entry : durable) append(entry);
  submitted_ = last();
  stable_ = last();
}

Term Log::term_at(Index index) const {
  if (index == base_.index) return base_.term;
  if (index < base_.index || index > last()) return Term();
  return slot_at(index).term;
}

EntryMeta Log::meta_at(Index index) const {
  BALLAST_CHECK(index > base_.index && index <= last(), "no entry {} in ({}, {}]", index,
                base_.index, last());
  const Slot& slot = slot_at(index);
  return {slot.term,
          index,
          static_cast<EntryKind>(slot.kind_and_header_bytes >> kHeaderBits),
          slot.kind_and_header_bytes & kHeaderMask,
          slot.payload_bytes,
          slot.checksum};
}

uint32_t Log::chain_at(Index index) const {
  BALLAST_CHECK(index >= base_.index && index <= last(), "no entry {} in [{}, {}]", index,
                base_.index, last());
  return index == base_.index ? base_chain_ : slot_at(index).chain;
}

uint64_t Log::bytes_between(Index after, Index until) const {
  BALLAST_CHECK(after <= until && until <= last());
  uint64_t bytes = 0;
  for (Index index = after + 1; index <= until; ++index) bytes += meta_at(index).bytes();
  return bytes;
}

Index Log::last_not_above(Index limit, Term term) const {
  // Terms never fall along the log, so the answer is found by halving.
  if (limit <= base_.index) return limit;
  auto end = slots_.begin() + static_cast<std::ptrdiff_t>(std::min(limit, last()) - base_.index);
  auto above = std::upper_bound(slots_.begin(), end, term,
                                [](Term wanted, const Slot& slot) { return wanted < slot.term; });
  return base_.index + static_cast<uint64_t>(above - slots_.begin());
}

void Log::append(const EntryMeta& entry) {
  BALLAST_CHECK(entry.index == last() + 1, "entry {} behind last {}", entry.index, last());
  BALLAST_CHECK(entry.term >= last_term() && entry.term > Term(), "entry {} of term {} behind {}",
                entry.index, entry.term, last_term());
  BALLAST_CHECK(entry.header_bytes <= kHeaderMask);
  const uint32_t kind = static_cast<uint32_t>(entry.kind) << kHeaderBits;
  slots_.push_back({entry.term, entry.payload_bytes, kind | entry.header_bytes, entry.checksum,
                    chain_after(chain_at(last()), entry)});
}

void Log::truncate_behind(Index keep) {
  BALLAST_CHECK(base_.index <= keep && keep <= last());
  slots_.resize(keep - base_.index);
  submitted_ = std::min(submitted_, keep);
  stable_ = std::min(stable_, keep);
  // The ABA race of asynchronous writes, which the next line closes:
  // 1. entries 5..8 of term 2 are submitted with ticket 1, and the disk is slow;
  // 2. a leader of term 3 overwrites 6..8; the new ones are submitted with ticket 2;
  // 3. ticket 1 completes. The disk holds 5..8 of term 2. Were stable() now 8, this node would
  //    acknowledge entries of term 3 that a crash would lose. Only 5 may count.
  if (BALLAST_PLANTED(kLateWriteCounts)) return;
  for (Write& write : writes_) write.last = std::min(write.last, keep);
}

void Log::compact(Index upto) {
  BALLAST_CHECK(base_.index <= upto && upto <= stable_, "compaction up to {}, durable are ({}, {}]",
                upto, base_.index, stable_);
  const Position base{upto, term_at(upto)};
  base_chain_ = chain_at(upto);
  slots_.erase(slots_.begin(), slots_.begin() + static_cast<std::ptrdiff_t>(upto - base_.index));
  base_ = base;
}

void Log::restart_behind(Position base, uint32_t base_chain) {
  slots_.clear();
  base_ = base;
  base_chain_ = base_chain;
  submitted_ = base.index;
  stable_ = base.index;
  // What is still on its way to the disk belongs to the log that is gone.
  for (Write& write : writes_) write.last = std::min(write.last, base.index);
}

std::vector<EntryMeta> Log::submit(uint64_t ticket) {
  BALLAST_CHECK(writes_.empty() || writes_.back().ticket < ticket);
  std::vector<EntryMeta> entries;
  entries.reserve(last() - submitted_);
  for (Index index = submitted_ + 1; index <= last(); ++index) entries.push_back(meta_at(index));
  if (!entries.empty()) writes_.push_back({ticket, last()});
  submitted_ = last();
  return entries;
}

void Log::stored(uint64_t ticket) {
  // Everything up to write.last stood in the log when the write was submitted, was not truncated
  // since, and belongs to this write or to an earlier one, which is durable as well.
  while (!writes_.empty() && writes_.front().ticket <= ticket) {
    stable_ = std::max(stable_, writes_.front().last);
    writes_.pop_front();
  }
}

uint64_t Log::ticket_of(Index index, uint64_t next_ticket) const {
  BALLAST_CHECK(index <= last());
  if (index <= stable_) return 0;
  for (const Write& write : writes_) {
    if (index <= write.last) return write.ticket;
  }
  return next_ticket;
}

}  // namespace ballast::raft
