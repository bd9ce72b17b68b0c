// The replicated log on this node's disk: entries with their payloads, and the hard state.
//
// The interface is callback-based, so that it needs no event loop of its own and a simulator may
// complete writes in any way a disk could. SegmentLog (segment_log.h) is the implementation.
//
// Not thread-safe: one thread calls everything, but for LogRead.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "proto/base/entry.h"
#include "proto/base/result.h"
#include "storage/blocks/committed.h"
#include "storage/blocks/payloads.h"
#include "storage/log/log_base.h"
#include "storage/log/log_room.h"

namespace ballast::storage {

// A read of consecutive entries that was planned on the log's thread and can be carried out on any
// other: it shares the segments' descriptors and needs the log no more.
class LogRead {
 public:
  virtual ~LogRead() = default;
  // The entries, verified (CRC32C of header and payload, and that they are the ones planned).
  // Blocks on the disk. Errors: kIo, kCorrupt.
  virtual Result<std::vector<Entry>> entries() = 0;
  // The same without reading a payload.
  virtual Result<std::vector<Committed>> heads() = 0;
};

class LogStore {
 public:
  using Completion = std::move_only_function<void()>;

  virtual ~LogStore() = default;

  // What the disk held when the log was opened.
  virtual HardState hard_state() const = 0;
  // From base().index + 1 to last(), without gaps. By value: the caller keeps it, the log keeps
  // locators.
  virtual std::vector<EntryMeta> entries() const = 0;
  // Where it begins.
  virtual LogBase base() const = 0;

  // Stores the hard state, if given, and then the entries; `done` is called from poll() when all
  // of it and everything appended before is durable, in the order of the calls. Entries are
  // consecutive; the first stands at most at last() + 1, and whatever the log held from its index
  // on is replaced. Writes that are waiting go to the disk together (group commit).
  // A write or flush that fails stops the process: it is never tried again.
  virtual void append(std::optional<HardState> hard_state, std::vector<Entry> entries,
                      Completion done) = 0;

  // Writes down how far the log is durable, if that is not on the disk yet: to be called now and
  // then. At once if nothing else is being written, else with the next batch, but at most once a
  // second. Records tell it of those before them, so only the last ones need it: without, rot of
  // all from some record on would look like what a crash cut off.
  // An append that arrives meanwhile waits for one small write at most.
  virtual void note_durable() = 0;

  // Plans a read of [first, last], all of them durable.
  // Errors: kNotFound if the log does not hold them (any more) or not durably yet.
  virtual Result<std::unique_ptr<LogRead>> prepare_read(Index first, Index last) const = 0;

  // The last place, at most `upto`, behind which the log can begin: where a segment ends. It is the
  // base if there is none later.
  virtual Index may_begin_behind(Index upto) const = 0;
  // Forgets the entries up to base.index; `done` is called from poll() when that is durable. The
  // segments that held them become homes: their payloads can still be read.
  // REQUIRES: base.index == may_begin_behind(base.index), it is later than base(), all up to there
  // is durable, and no other call of this is under way.
  virtual void begin_behind(LogBase base, Completion done) = 0;
  struct Home {
    uint64_t segment = 0;  // its sequence
    uint64_t bytes = 0;    // of the file
  };
  // The segments before the log's start, and those that came with a snapshot.
  virtual std::vector<Home> homes() const = 0;
  // Nothing names a payload of such a segment any more, and that is durable. Its file is spare now:
  // a later segment is made of it, which costs no writes. Whoever reads a payload of it goes on
  // undisturbed. A restart finds it among the homes again.
  virtual void retire_home(uint64_t segment) = 0;
  virtual uint64_t spare_bytes() const = 0;
  // Deletes spare files until they are at most so many bytes. Error kIo: then one of them is still
  // there, or is gone until a crash.
  virtual Status trim_spares(uint64_t bytes) = 0;

  // Where the entry's payload lies, for as long as the segment exists.
  // REQUIRES: base().index < index <= durable(), and the entry has a payload.
  virtual Place place_of(Index index) const = 0;
  // The payloads that are durable. They may be read for longer than the log is open.
  virtual std::shared_ptr<const Payloads> payloads() const = 0;

  virtual Index last() const = 0;     // appended, durable or not
  virtual Index durable() const = 0;  // <= last()
  virtual uint64_t disk_bytes() const = 0;
  // Behind everything that was appended. An append beyond it waits for a segment, and everything
  // that is appended later, the hard state too, waits behind it: see before whether it fits.
  virtual LogRoom room() const = 0;
  // How long the last durable write took, and since when the oldest unfinished one waits
  // (0 if none does), in microseconds.
  virtual uint64_t last_append_us() const = 0;
  virtual uint64_t oldest_pending_us() const = 0;

  // Becomes readable when completions wait; then poll() runs them. Owned by the log.
  virtual int event_fd() const = 0;
  virtual void poll() = 0;
};

}  // namespace ballast::storage
