#include "proto/net/worker.h"

#include <sys/resource.h>

namespace ballast::net {
namespace {

constexpr int kNice = 10;  // a tenth of the weight of others

}  // namespace

WorkerThreads::WorkerThreads(size_t urgent, size_t background)
    : urgent_(urgent), more_(asio::make_work_guard(background_)) {
  for (size_t i = 0; i < background; ++i) {
    threads_.emplace_back([this] {
      // Of this thread alone, as Linux has it. Without, all goes on as well.
      (void)::setpriority(PRIO_PROCESS, 0, kNice);
      background_.run();
    });
  }
}

void WorkerThreads::join() {
  urgent_.join();
  more_.reset();
  threads_.clear();
}

}  // namespace ballast::net
