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

#include "proto/base/check.h"
#include "proto/base/unique_fd.h"

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

bool is_directory(int file) {
  struct stat status{};
  return ::fstat(file, &status) == 0 && S_ISDIR(status.st_mode);
}

// By a descriptor of its own: the writer's may be for writing only. Where the file ends, zeros.
std::vector<std::byte> contents(const std::string& path, size_t bytes, uint64_t offset) {
  std::vector<std::byte> read(bytes);
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC), path);
  BALLAST_CHECK(file.valid() &&
                ::pread(file.get(), read.data(), bytes, static_cast<off_t>(offset)) >= 0);
  return read;
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
  std::string path = path_of(file);
  unflushed_.push_back({path, {}, offset, contents(path, bytes.size(), offset)});
  if (step()) return true;
  (void)write_now(file, bytes.data(), bytes.size(), offset);
  return false;
}

bool FileJournal::flush(int file) {
  const std::string path = path_of(file);
  const bool directory = is_directory(file);
  const auto covered = [&](const Undo& undo) {
    const bool name = !undo.renamed_from.empty();
    return directory ? name && std::filesystem::path(undo.path).parent_path() == path
                     : !name && undo.path == path;
  };
  if (std::ranges::none_of(unflushed_, covered)) return !failed_ || step();
  if (!step()) return false;
  std::erase_if(unflushed_, covered);
  return true;
}

bool FileJournal::rename(const std::string& from, const std::string& to) {
  if (failed_) return step();
  BALLAST_CHECK(::access(to.c_str(), F_OK) != 0, "'{}' would be replaced", to);
  unflushed_.push_back({to, from, 0, {}});
  if (step()) return true;
  (void)rename_now(from.c_str(), to.c_str());
  return false;
}

void FileJournal::take_back(const Undo& undo, raft::Prng& chance, uint64_t share) {
  if (!undo.renamed_from.empty()) {
    if (chance.below(2) == 0) (void)rename_now(undo.path.c_str(), undo.renamed_from.c_str());
    return;
  }
  const UniqueFd file(::open(undo.path.c_str(), O_WRONLY | O_CLOEXEC), undo.path);
  if (!file.valid()) return;  // removed meanwhile
  for (size_t at = 0; at < undo.old.size(); at += kSector) {
    if (chance.below(4) < share) continue;
    const size_t bytes = std::min(kSector, undo.old.size() - at);
    BALLAST_CHECK(write_now(file.get(), undo.old.data() + at, bytes, undo.offset + at) ==
                  static_cast<ssize_t>(bytes));
  }
}

void FileJournal::crash(raft::Prng& chance) {
  const uint64_t share = chance.below(5);  // that landed: none to all
  for (const Undo& undo : unflushed_ | std::views::reverse) take_back(undo, chance, share);
  unflushed_.clear();
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
