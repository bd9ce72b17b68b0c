#include "tests/sim/faulty_log.h"

#include <cerrno>
#include <utility>

#include "proto/base/unique_fd.h"

namespace ballast::sim {
namespace {

class FaultyRead final : public storage::LogRead {
 public:
  FaultyRead(std::unique_ptr<storage::LogRead> read, std::function<bool()> fails)
      : read_(std::move(read)), fails_(std::move(fails)) {}

  Result<std::vector<Entry>> entries() override {
    if (fails_()) return os_failure("read", "the log", EIO);
    return read_->entries();
  }
  Result<std::vector<storage::Committed>> heads() override {
    if (fails_()) return os_failure("read", "the log", EIO);
    return read_->heads();
  }

 private:
  std::unique_ptr<storage::LogRead> read_;
  std::function<bool()> fails_;
};

class FaultyLog final : public storage::LogStore {
 public:
  FaultyLog(std::unique_ptr<LogStore> log, std::function<bool()> fails)
      : log_(std::move(log)), fails_(std::move(fails)) {}

  Result<std::unique_ptr<storage::LogRead>> prepare_read(Index first, Index last) const override {
    BALLAST_TRY(auto read, log_->prepare_read(first, last));
    return std::make_unique<FaultyRead>(std::move(read), fails_);
  }

  HardState hard_state() const override { return log_->hard_state(); }
  std::vector<EntryMeta> entries() const override { return log_->entries(); }
  void append(std::optional<HardState> hard_state, std::vector<Entry> entries,
              Completion done) override {
    log_->append(hard_state, std::move(entries), std::move(done));
  }
  storage::LogBase base() const override { return log_->base(); }
  Index may_begin_behind(Index upto) const override { return log_->may_begin_behind(upto); }
  void begin_behind(storage::LogBase base, Completion done) override {
    log_->begin_behind(base, std::move(done));
  }
  std::vector<Home> homes() const override { return log_->homes(); }
  void retire_home(uint64_t segment) override { log_->retire_home(segment); }
  uint64_t spare_bytes() const override { return log_->spare_bytes(); }
  Status trim_spares(uint64_t bytes) override { return log_->trim_spares(bytes); }
  void note_durable() override { log_->note_durable(); }
  storage::Place place_of(Index index) const override { return log_->place_of(index); }
  std::shared_ptr<const storage::Payloads> payloads() const override { return log_->payloads(); }
  Index last() const override { return log_->last(); }
  Index durable() const override { return log_->durable(); }
  uint64_t disk_bytes() const override { return log_->disk_bytes(); }
  storage::LogRoom room() const override { return log_->room(); }
  uint64_t last_append_us() const override { return log_->last_append_us(); }
  uint64_t oldest_pending_us() const override { return log_->oldest_pending_us(); }
  int event_fd() const override { return log_->event_fd(); }
  void poll() override { log_->poll(); }

 private:
  std::unique_ptr<LogStore> log_;
  std::function<bool()> fails_;
};

}  // namespace

std::unique_ptr<storage::LogStore> with_read_errors(std::unique_ptr<storage::LogStore> log,
                                                    std::function<bool()> fails) {
  return std::make_unique<FaultyLog>(std::move(log), std::move(fails));
}

}  // namespace ballast::sim
