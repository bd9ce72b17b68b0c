// A disk whose power can be cut: an ext4 file system in a file, mounted by way of a loop device.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "proto/base/result.h"
#include "proto/base/unique_fd.h"

namespace ballast::testing {

// Mounts live in a mount namespace of the calling thread and of the processes that it starts, and
// the loop device goes when its last user goes: nothing is left behind, however the test ends.
class LoopDisk {
 public:
  // Why this machine or user can't have one; nothing if it can. Moves the calling thread to a mount
  // namespace of its own. REQUIRES: called before any disk is made, and by the same thread.
  static std::optional<std::string> unavailable();

  // Makes `image`, a file with holes, and an ext4 with the defaults of mkfs in it; mounts it.
  static Result<LoopDisk> create(const std::filesystem::path& image,
                                 const std::filesystem::path& mount_point, uint64_t bytes);
  LoopDisk(LoopDisk&& other) noexcept;
  LoopDisk& operator=(LoopDisk&&) = delete;
  ~LoopDisk();  // unmounts, whatever uses it

  // What the file system has not brought to the disk is lost, its journal included; from now on
  // every write and flush fails. One system call.
  Status cut_power() const;
  // Unmounts, once nobody uses it any more, and mounts again, which replays the journal.
  Status power_on();

 private:
  LoopDisk(std::filesystem::path mount_point, UniqueFd device)
      : mount_point_(std::move(mount_point)), device_(std::move(device)) {}

  Status mount();
  Status unmount();

  std::filesystem::path mount_point_;
  UniqueFd device_;
  UniqueFd root_;  // of the file system while it is mounted
};

}  // namespace ballast::testing
