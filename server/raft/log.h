// The log as the core knows it: the term and the sizes of every entry, and which of them are
// durable. The bytes live elsewhere.
//
// Three cursors: stable() <= submitted <= last(). An entry is appended here, then handed to a
// write (submit), then durable (stored). Writes are numbered by tickets and carried out in order.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "proto/base/entry.h"

namespace ballast::raft {

class Log {
 public:
  // REQUIRES: contiguous from index 1, terms never fall. All of it counts as durable.
  explicit Log(const std::vector<EntryMeta>& durable);

  Index last() const { return Index(slots_.size()); }
  Term last_term() const { return term_at(last()); }
  // 0 at index 0 and behind the end.
  Term term_at(Index index) const;
  // REQUIRES: 1 <= index <= last().
  EntryMeta meta_at(Index index) const;
  // The bytes of the entries in (after, until]. REQUIRES: after <= until <= last().
  uint64_t bytes_between(Index after, Index until) const;
  // The last index <= limit whose entry has a term <= `term`; 0 if there is none. It is the best
  // guess where two logs agree, when the other one has (limit, term) (thesis section 3.5, end).
  Index last_not_above(Index limit, Term term) const;

  // REQUIRES: entry.index == last() + 1, entry.term >= last_term().
  void append(const EntryMeta& entry);
  // Forgets all entries behind `last`. What follows must be appended before the next submit():
  // a write replaces everything from its first index on, so a shorter log is never written alone.
  void truncate_behind(Index last);

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
  };
  static_assert(sizeof(Slot) == 16);

  // An entry range on its way to the disk. `last` is where the write's content still agrees with
  // the present log: a truncation lowers it.
  struct Write {
    uint64_t ticket;
    Index last;
  };

  std::deque<Slot> slots_;  // of index 1, 2, ...; a deque never copies millions of slots at once
  Index submitted_;
  Index stable_;
  std::deque<Write> writes_;
};

}  // namespace ballast::raft
