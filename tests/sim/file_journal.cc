#include "tests/sim/file_journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <ranges>
#include <utility>

#include "proto/base/check.h"

namespace ballast::sim {
namespace {

constexpr size_t kSector = 4096;

thread_local FileJournal* journal = nullptr;

std::string path_of(int file) {
  std::error_code error;
  const auto path = std::filesystem::read_symlink(fmt::format("/proc/self/fd/{}", file), error);
  BALLAST_CHECK(!error, "a file without a path");
  return path.string();
}

struct stat status_of(int file) {
  struct stat status{};
  BALLAST_CHECK(::fstat(file, &status) == 0);
  return status;
}

ssize_t write_now(int file, const void* bytes, size_t size, uint64_t offset) {
  return ::syscall(SYS_pwrite64, file, bytes, size, offset);
}

int rename_now(const char* from, const char* to) {
  return static_cast<int>(::syscall(SYS_rename, from, to));
}

}  // namespace

FileJournal::FileJournal(uint64_t steps) : steps_left_(steps) {
  BALLAST_CHECK(journal == nullptr);
  journal = this;
}

FileJournal::~FileJournal() { journal = nullptr; }

FileJournal* FileJournal::of_this_thread() { return journal; }

bool FileJournal::step() {
  failed_ = failed_ || steps_left_ == 0;
  if (failed_)
    errno = EIO;
  else
    --steps_left_;
  return !failed_;
}

bool FileJournal::write(int file, std::span<const std::byte> bytes, uint64_t offset) {
  if (failed_) return step();
  // The writer's descriptor may be for writing only, or past the cache.
  const std::string path = path_of(file);
  UniqueFd own(::open(path.c_str(), O_RDWR | O_CLOEXEC), path);
  // Where the file ended, there were zeros as far as anybody knows.
  std::vector<std::byte> old(bytes.size());
  BALLAST_CHECK(own.valid() &&
                ::pread(own.get(), old.data(), old.size(), static_cast<off_t>(offset)) >= 0);
  writes_.push_back({std::move(own), status_of(file).st_ino, offset, std::move(old)});
  if (step()) return true;
  (void)write_now(file, bytes.data(), bytes.size(), offset);
  return false;
}

bool FileJournal::flush(int file) {
  const struct stat status = status_of(file);
  const std::string path = path_of(file);
  const auto written = [&](const Write& write) { return write.inode == status.st_ino; };
  const auto named = [&](const Renaming& renaming) {
    return S_ISDIR(status.st_mode) && std::filesystem::path(renaming.to).parent_path() == path;
  };
  const bool needed = std::ranges::any_of(writes_, written) || std::ranges::any_of(names_, named);
  if (needed ? !step() : failed_) return false;
  std::erase_if(writes_, written);
  std::erase_if(names_, named);
  return true;
}

bool FileJournal::rename(const std::string& from, const std::string& to) {
  if (failed_) return step();
  BALLAST_CHECK(::access(to.c_str(), F_OK) != 0, "'{}' would be replaced", to);
  names_.push_back({from, to});
  if (step()) return true;
  (void)rename_now(from.c_str(), to.c_str());
  return false;
}

void FileJournal::crash(raft::Prng& chance) {
  const uint64_t share = chance.below(5);  // of the sectors that landed: none to all
  for (const Write& write : writes_ | std::views::reverse) {
    for (size_t at = 0; at < write.old.size(); at += kSector) {
      if (chance.below(4) < share) continue;
      const size_t bytes = std::min(kSector, write.old.size() - at);
      BALLAST_CHECK(write_now(write.file.get(), write.old.data() + at, bytes, write.offset + at) ==
                    static_cast<ssize_t>(bytes));
    }
  }
  for (const Renaming& name : names_ | std::views::reverse) {
    if (chance.below(2) == 0) (void)rename_now(name.to.c_str(), name.from.c_str());
  }
  writes_.clear();
  names_.clear();
}

}  // namespace ballast::sim

using ballast::sim::FileJournal;

extern "C" ssize_t pwrite(int file, const void* bytes, size_t size, off_t offset) {
  FileJournal* journal = FileJournal::of_this_thread();
  const auto at = static_cast<uint64_t>(offset);
  if (journal != nullptr && !journal->write(file, {static_cast<const std::byte*>(bytes), size}, at))
    return -1;
  return ballast::sim::write_now(file, bytes, size, at);
}

extern "C" int fdatasync(int file) {
  FileJournal* journal = FileJournal::of_this_thread();
  if (journal != nullptr && !journal->flush(file)) return -1;
  return static_cast<int>(::syscall(SYS_fdatasync, file));
}

extern "C" int fsync(int file) {
  FileJournal* journal = FileJournal::of_this_thread();
  if (journal != nullptr && !journal->flush(file)) return -1;
  return static_cast<int>(::syscall(SYS_fsync, file));
}

extern "C" int rename(const char* from, const char* to) noexcept {
  FileJournal* journal = FileJournal::of_this_thread();
  if (journal != nullptr && !journal->rename(from, to)) return -1;
  return ballast::sim::rename_now(from, to);
}

// Who gives back what it could not finish: when the power has failed nobody does any more.
extern "C" int unlink(const char* path) noexcept {
  const FileJournal* const journal = FileJournal::of_this_thread();
  if (journal == nullptr || !journal->power_failed())
    return static_cast<int>(::syscall(SYS_unlink, path));
  errno = EIO;
  return -1;
}
