// Asynchronous durable writes: the seam at which a simulator replaces the disk.
//
// One thread calls everything but wake(). Completions run inside poll() or drain(), and may start
// further writes.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "proto/base/result.h"
#include "proto/base/unique_fd.h"

namespace ballast::storage {

class IoQueue {
 public:
  using Completion = std::move_only_function<void(Status)>;

  virtual ~IoQueue() = default;

  // Writes the pieces one behind the other at `offset`; they are durable when `done` is called
  // without an error. Short writes are continued. The file and the memory must stay until then.
  virtual void write_durably(const UniqueFd& file, std::vector<iovec> pieces, uint64_t offset,
                             Completion done) = 0;
  // Makes everything that was written to the file before the call durable.
  virtual void sync(const UniqueFd& file, Completion done) = 0;

  // Becomes readable when completions wait. More wake-ups than completions are possible.
  virtual int event_fd() const = 0;
  // Makes event_fd() readable. Thread-safe.
  virtual void wake() = 0;
  // Runs the completions that wait; never blocks.
  virtual void poll() = 0;
  // Runs completions until nothing is in flight.
  virtual void drain() = 0;
};

// The queue of the calling thread: io_uring requires that it is the only one that uses it.
// Errors: kIo, with what to do if the kernel or a container forbids io_uring.
Result<std::unique_ptr<IoQueue>> make_uring_queue();

}  // namespace ballast::storage
