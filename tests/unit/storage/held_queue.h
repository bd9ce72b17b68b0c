// An IoQueue that starts a write only when the test says so: what happens between two writes of the
// log then no longer depends on how fast the disk is.
#pragma once

#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "proto/base/check.h"
#include "storage/io/io_queue.h"

namespace ballast::storage {

class HeldQueue final : public IoQueue {
 public:
  explicit HeldQueue(std::unique_ptr<IoQueue> disk) : disk_(std::move(disk)) {}

  // Starts the oldest write that is held. REQUIRES: there is one.
  void let_one_go() {
    BALLAST_CHECK(!held_.empty(), "no write is held");
    Held write = std::move(held_.front());
    held_.pop_front();
    disk_->write_durably(*write.file, std::move(write.pieces), write.offset, std::move(write.done));
  }
  size_t held() const { return held_.size(); }

  void write_durably(const UniqueFd& file, std::vector<iovec> pieces, uint64_t offset,
                     Completion done) override {
    held_.push_back({&file, std::move(pieces), offset, std::move(done)});
  }
  void sync(const UniqueFd& file, Completion done) override { disk_->sync(file, std::move(done)); }
  int event_fd() const override { return disk_->event_fd(); }
  void wake() override { disk_->wake(); }
  void poll() override { disk_->poll(); }
  void drain() override {
    disk_->drain();
    while (!held_.empty()) {
      let_one_go();
      disk_->drain();
    }
  }

 private:
  struct Held {
    const UniqueFd* file;
    std::vector<iovec> pieces;
    uint64_t offset;
    Completion done;
  };

  const std::unique_ptr<IoQueue> disk_;
  std::deque<Held> held_;
};

}  // namespace ballast::storage
