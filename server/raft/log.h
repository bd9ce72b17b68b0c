// The log as the core knows it: the term, the sizes and the checksum of every entry, and which of
// them are durable. The bytes live elsewhere.
//
// Each entry also has a chain value, the checksum of all entries up to it. Raft says that two logs
// with the same term at the same index are the same up to there (thesis section 3.5, log matching);
// by the chain values two nodes can see whether it holds.
//
// It begins behind base(): what lies before was applied and dropped, or came as a snapshot. Three
// cursors follow: base() <= stable() <= submitted <= last(). An entry is appended here, then handed
// to a write (submit), then durable (stored). Writes are numbered by tickets and carried out in
// order.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "proto/base/entry.h"

namespace ballast::raft {

class Log {
 public:
  // `base_chain` is the chain value at the base. REQUIRES: contiguous from base.index + 1 on, terms
  // never fall. All of it counts as durable.
  explicit Log(const std::vector<EntryMeta>& durable, Position base = {}, uint32_t base_chain = 0);

  Position base() const { return base_; }
  Index last() const { return base_.index + slots_.size(); }
  Term last_term() const { return term_at(last()); }
  // 0 before the base and behind the end.
  Term term_at(Index index) const;
  // REQUIRES: base().index < index <= last().
  EntryMeta meta_at(Index index) const;
  // REQUIRES: base().index <= index <= last().
  uint32_t chain_at(Index index) const;
  // The bytes of the entries in (after, until]. REQUIRES: base().index <= after <= until <= last().
  uint64_t bytes_between(Index after, Index until) const;
  // The last index <= limit whose entry has a term <= `term`; the base's if there is none. It is
  // the best guess where two logs agree, when the other one has (limit, term) (thesis section 3.5,
  // end).
  Index last_not_above(Index limit, Term term) const;

  // REQUIRES: entry.index == last() + 1, entry.term >= last_term().
  void append(const EntryMeta& entry);
  // Forgets all entries behind `last`. What follows must be appended before the next submit():
  // a write replaces everything from its first index on, so a shorter log is never written alone.
  void truncate_behind(Index last);

  // Drops the entries up to `upto`. REQUIRES: base().index <= upto <= stable().
  void compact(Index upto);
  // Drops everything: the log goes on behind `base`, whose chain value is given.
  void restart_behind(Position base, uint32_t base_chain);

  bool has_unsubmitted() const { return submitted_ < last(); }
  // The entries that no write holds yet; from now on the write `ticket` does.
  // REQUIRES: tickets rise.
  std::vector<EntryMeta> submit(uint64_t ticket);
  // The write `ticket`, and all before it, are durable.
  void stored(uint64_t ticket);

  // The present log up to here is durable.
  Index stable() const { return stable_; }
  // The ticket whose completion makes the present log up to `index` durable: 0 if it already is,
  // `next_ticket` if the entry waits for the next submit(). REQUIRES: index <= last().
  uint64_t ticket_of(Index index, uint64_t next_ticket) const;

 private:
  struct Slot {
    Term term;
    uint32_t payload_bytes;
    uint32_t kind_and_header_bytes;  // kind in the upper 8 bits
    uint32_t checksum;
    uint32_t chain;
  };
  static_assert(sizeof(Slot) == 24);

  const Slot& slot_at(Index index) const { return slots_[index - base_.index - 1]; }

  // An entry range on its way to the disk. `last` is where the write's content still agrees with
  // the present log: a truncation lowers it.
  struct Write {
    uint64_t ticket;
    Index last;
  };

  // Of the indexes behind the base; a deque never copies millions of slots at once.
  std::deque<Slot> slots_;
  Position base_;
  uint32_t base_chain_ = 0;
  Index submitted_;
  Index stable_;
  std::deque<Write> writes_;
};

}  // namespace ballast::raft
