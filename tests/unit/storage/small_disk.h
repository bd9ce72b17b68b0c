// A small file system of its own, in memory, that a test can fill.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>

#include "storage/io/space.h"

namespace ballast::storage {

class SmallDisk {
 public:
  SmallDisk(std::filesystem::path path, uint64_t bytes) : path_(std::move(path)) {
    std::filesystem::create_directories(path_);
    const std::string size = "size=" + std::to_string(bytes);
    if (::mount("tmpfs", path_.c_str(), "tmpfs", 0, size.c_str()) != 0) problem_ = errno;
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  ~SmallDisk() {
    if (problem_ == 0) ::umount2(path_.c_str(), MNT_DETACH);
  }

  // Why none can be made by this user or in this container; empty: it can.
  static std::string problem() {
    std::string pattern = ::testing::TempDir() + "ballast-mount-XXXXXX";
    const std::filesystem::path probe = ::mkdtemp(pattern.data());
    const int problem = SmallDisk(probe, 1 << 20).problem_;
    std::filesystem::remove(probe);
    if (problem == 0) return {};
    return std::string("a file system can't be mounted here: ") + std::strerror(problem);
  }

  // Leaves so many bytes, by way of a file.
  void fill(uint64_t leave) {
    const auto space = space_of(path_.string());
    ASSERT_TRUE(space);
    ASSERT_GE(space->free, leave);
    const int file = ::open(filler().c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ASSERT_GE(file, 0);
    // Behind what an earlier call has taken. Nothing is taken where nothing is to be.
    const auto taken = ::lseek(file, 0, SEEK_END);
    const auto more = static_cast<off_t>(space->free - leave);
    const int failed = more == 0 ? 0 : ::posix_fallocate(file, taken, more);
    ::close(file);
    ASSERT_EQ(failed, 0) << std::strerror(failed);
  }
  void give_back() { ASSERT_EQ(::unlink(filler().c_str()), 0); }

 private:
  std::string filler() const { return path_ / "filler"; }

  std::filesystem::path path_;
  int problem_ = 0;
};

}  // namespace ballast::storage
