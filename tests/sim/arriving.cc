#include "tests/sim/arriving.h"

#include <fcntl.h>

#include <cstring>
#include <filesystem>
#include <utility>

#include "proto/base/check.h"
#include "proto/files/files.h"
#include "storage/log/segment_file.h"

namespace ballast::sim {

class ArrivingFiles::Blocks final : public storage::ArrivingBlocks {
 public:
  Blocks(std::unique_ptr<storage::ArrivingBlocks> files, std::vector<storage::Place>& unsynced)
      : files_(std::move(files)), unsynced_(unsynced) {}

  Result<storage::Place> add(const pb::BlockRef& reference, const Bytes& bytes) override {
    const auto place = files_->add(reference, bytes);
    if (place) unsynced_.push_back(*place);
    return place;
  }
  Status sync() override {
    unsynced_.clear();
    return files_->sync();
  }
  Status keep(const std::set<uint64_t>& segments) override { return files_->keep(segments); }
  Status seal() override { return files_->seal(); }

 private:
  const std::unique_ptr<storage::ArrivingBlocks> files_;
  std::vector<storage::Place>& unsynced_;
};

Result<std::unique_ptr<storage::ArrivingBlocks>> ArrivingFiles::open(const std::string& log,
                                                                     uint64_t segment_bytes) {
  BALLAST_TRY(auto files,
              storage::open_arriving_blocks(
                  {.directory = directory_, .log = log, .segment_bytes = segment_bytes}));
  return std::make_unique<Blocks>(std::move(files), unsynced_);
}

void ArrivingFiles::crash() {
  for (const storage::Place place : std::exchange(unsynced_, {})) {
    if (chance_.below(2) == 0) continue;
    const std::string path = directory_ + "/" + storage::segment_name(place.segment);
    const auto file = open_file(path, O_RDWR);
    if (!file) continue;  // it has been given up
    MutableBytes zeros(kDirectAlignment);
    std::memset(zeros.data(), 0, zeros.size());
    BALLAST_CHECK(write_fully(*file, zeros.span(), place.offset()).has_value());
  }
}

void ArrivingFiles::wipe() {
  unsynced_.clear();
  std::filesystem::remove_all(directory_);
}

}  // namespace ballast::sim
