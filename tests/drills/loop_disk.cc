#include "tests/drills/loop_disk.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

namespace ballast::testing {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// Of <linux/ext4.h>, which older systems do not have.
constexpr unsigned long kShutdown = _IOR('X', 125, uint32_t);
constexpr uint32_t kNoLogFlush = 2;

constexpr int kAttempts = 20;
// io_uring lets go of a killed process's files in the background.
constexpr auto kUnmountPatience = 20s;
constexpr auto kPollEvery = 5ms;

Result<UniqueFd> open_path(const std::string& path, int flags) {
  UniqueFd file(::open(path.c_str(), flags | O_CLOEXEC, 0600), path);
  if (!file.valid()) return os_failure("open", path);
  return file;
}

Result<UniqueFd> attach(const UniqueFd& image) {
  BALLAST_TRY(const UniqueFd control, open_path("/dev/loop-control", O_RDWR));
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return os_failure("find a free loop device with", control.path());
    BALLAST_TRY(UniqueFd device, open_path(fmt::format("/dev/loop{}", number), O_RDWR));
    loop_config config{};
    config.fd = static_cast<uint32_t>(image.get());
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    if (::ioctl(device.get(), LOOP_CONFIGURE, &config) == 0) return device;
    if (errno != EBUSY) return os_failure("attach", image.path());
  }
  return fail(Errc::kIo, "other processes took every free loop device");
}

Status make_file_system(const std::filesystem::path& image) {
  const std::string command =
      fmt::format("PATH=\"$PATH:/usr/sbin:/sbin\" mkfs.ext4 -q -F '{}' >/dev/null", image.string());
  if (std::system(command.c_str()) == 0) return {};
  return fail(Errc::kIo, "mkfs.ext4 failed on '{}'", image.string());
}

}  // namespace

std::optional<std::string> LoopDisk::unavailable() {
  if (::geteuid() != 0) return "only root may mount";
  if (!open_path("/dev/loop-control", O_RDWR)) return "there is no /dev/loop-control";
  if (std::system("PATH=\"$PATH:/usr/sbin:/sbin\" command -v mkfs.ext4 >/dev/null") != 0)
    return "there is no mkfs.ext4";
  if (::unshare(CLONE_NEWNS) != 0 ||
      ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return fmt::format("a mount namespace can't be made: {}", std::strerror(errno));
  return std::nullopt;
}

Result<LoopDisk> LoopDisk::create(const std::filesystem::path& image,
                                  const std::filesystem::path& mount_point, uint64_t bytes) {
  BALLAST_TRY(const UniqueFd file, open_path(image.string(), O_RDWR | O_CREAT | O_EXCL));
  if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0)
    return os_failure("size", file.path());
  BALLAST_TRY_STATUS(make_file_system(image));
  BALLAST_TRY(UniqueFd device, attach(file));
  std::filesystem::create_directories(mount_point);
  LoopDisk disk(mount_point, std::move(device));
  BALLAST_TRY_STATUS(disk.mount());
  return disk;
}

LoopDisk::LoopDisk(LoopDisk&& other) noexcept
    : mount_point_(std::exchange(other.mount_point_, {})),
      device_(std::move(other.device_)),
      root_(std::move(other.root_)) {}

LoopDisk::~LoopDisk() {
  if (mount_point_.empty()) return;
  root_ = UniqueFd();
  static_cast<void>(::umount2(mount_point_.c_str(), MNT_DETACH));
}

Status LoopDisk::mount() {
  if (::mount(device_.path().c_str(), mount_point_.c_str(), "ext4", 0, nullptr) != 0)
    return os_failure("mount", mount_point_.string());
  BALLAST_TRY(root_, open_path(mount_point_.string(), O_RDONLY | O_DIRECTORY));
  return {};
}

Status LoopDisk::unmount() {
  root_ = UniqueFd();
  const auto deadline = Clock::now() + kUnmountPatience;
  while (::umount2(mount_point_.c_str(), 0) != 0) {
    if (errno != EBUSY || Clock::now() > deadline)
      return os_failure("unmount", mount_point_.string());
    std::this_thread::sleep_for(kPollEvery);
  }
  return {};
}

Status LoopDisk::cut_power() const {
  uint32_t flags = kNoLogFlush;
  if (::ioctl(root_.get(), kShutdown, &flags) != 0)
    return os_failure("cut the power of", mount_point_.string());
  return {};
}

Status LoopDisk::power_on() {
  BALLAST_TRY_STATUS(unmount());
  return mount();
}

}  // namespace ballast::testing
