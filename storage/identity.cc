#include "storage/identity.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <string_view>
#include <utility>

#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"
#include "proto/files/files.h"
#include "storage/snapshot/arriving_blocks.h"

namespace ballast::storage {
namespace {

constexpr std::string_view kTitle = "ballast identity 2";
constexpr const char* kName = "identity";
constexpr const char* kLock = "LOCK";
constexpr const char* kIncoming = "state.incoming";
constexpr const char* kIncomingBlocks = "log.incoming";
constexpr const char* kPutAside = "state.damaged";

// A disk's UUID is random (version 4), or begins with its origin (version 8: bits of our own).
constexpr size_t kOriginBytes = 6;
constexpr size_t kVersionByte = 6;
constexpr uint8_t kVersionMask = 0xF0;
constexpr uint8_t kVersionOfOrigin = 0x80;

std::string short_origin(const Digest& origin) {
  return std::string(origin.text().substr(0, kOriginBytes));
}

Uuid make_disk(const BeginWith* with) {
  Uuid disk = Uuid::random();
  if (with == nullptr) return disk;
  std::ranges::copy(short_origin(with->origin), disk.bytes.begin());
  uint8_t& version = disk.bytes[kVersionByte];
  version = static_cast<uint8_t>((version & ~kVersionMask) | kVersionOfOrigin);
  return disk;
}

// The rest of the next line, which must begin with `word` and a space.
Result<std::string_view> take_line(std::string_view& text, std::string_view word) {
  const size_t end = text.find('\n');
  std::string_view line = text.substr(0, end);
  if (end == std::string_view::npos || !line.starts_with(word) || line.size() <= word.size() ||
      line[word.size()] != ' ')
    return fail(Errc::kCorrupt, "there is no line '{}'", word);
  text.remove_prefix(end + 1);
  return line.substr(word.size() + 1);
}

Result<Uuid> take_uuid(std::string_view& text, std::string_view word) {
  BALLAST_TRY(const auto line, take_line(text, word));
  const auto uuid = Uuid::parse(line);
  if (!uuid) return fail(Errc::kCorrupt, "{}", uuid.error().message);
  return *uuid;
}

Result<NodeId> parse_id(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size())
    return fail(Errc::kCorrupt, "'{}' is not a node id", text);
  return NodeId(number);
}

Result<Founder> parse_founder(std::string_view line) {
  const size_t first = line.find(' ');
  const size_t second = line.find(' ', first + 1);
  if (first == std::string_view::npos || second == std::string_view::npos)
    return fail(Errc::kCorrupt, "'{}' is not a founder's id, name and address", line);
  BALLAST_TRY(const NodeId id, parse_id(line.substr(0, first)));
  return Founder{.id = id,
                 .name = std::string(line.substr(first + 1, second - first - 1)),
                 .address = std::string(line.substr(second + 1))};
}

// What formatting itself makes, so that one that was interrupted can be done again.
bool left_by_formatting(const std::string& directory, const std::string& name) {
  if (name == kLock || name == "identity.tmp" || name == kIncoming || name == kIncomingBlocks ||
      name == "lost+found")
    return true;
  if (name != "log" && name != "state") return false;
  const auto names = list_directory(directory + "/" + name);
  return names && names->empty();
}

Status check_formattable(const std::string& directory, bool restores) {
  BALLAST_TRY(const auto names, list_directory(directory));
  for (const std::string& name : names)
    if (!left_by_formatting(directory, name))
      return fail(
          Errc::kRefused,
          "directory '{}' holds '{}' but no identity; point data_dir to an empty directory, "
          "or restore '{}/{}'",
          directory, name, directory, kName);
  if (restores || std::ranges::find(names, kIncoming) == names.end()) return {};
  return fail(Errc::kRefused,
              "a backup was not wholly restored into directory '{}': restore it again with the "
              "same command, or empty the directory",
              directory);
}

IncomingPaths incoming_in(const std::string& directory) {
  return {.rows = directory + "/" + kIncoming,
          .blocks = directory + "/" + kIncomingBlocks,
          .log = directory + "/log"};
}

Result<Identity> format(const std::string& directory, Uuid cluster, NodeId id,
                        std::vector<Founder> founders, const BeginWith* with) {
  BALLAST_TRY_STATUS(make_directories(directory + "/log"));
  BALLAST_TRY_STATUS(make_directories(directory + "/state"));
  if (with != nullptr) {
    const IncomingPaths incoming = incoming_in(directory);
    BALLAST_TRY_STATUS(make_directories(incoming.rows));
    BALLAST_TRY_STATUS(with->bring(incoming));
  }
  Identity identity{cluster, Uuid::random(), make_disk(with), id, std::move(founders)};
  BALLAST_TRY_STATUS(create_durably(directory, kName, as_byte_span(render_identity(identity))));
  return identity;
}

Result<Identity> read_identity(const std::string& directory) {
  const std::string path = directory + "/" + kName;
  BALLAST_TRY(const std::string text, read_file(path));
  auto identity = parse_identity(text);
  if (identity) return identity;
  if (identity.error().code != Errc::kCorrupt)
    return fail_within(std::move(identity).error(), "identity '{}'", path);
  return fail(Errc::kCorrupt,
              "identity '{}': {}; restore the file, or remove the directory and let the node join "
              "as a new one",
              path, identity.error().message);
}

Result<Identity> read_own_identity(const std::string& directory, Uuid cluster, NodeId id) {
  auto identity = read_identity(directory);
  if (!identity) return identity;
  if (identity->cluster != cluster)
    return fail(Errc::kRefused,
                "directory '{}' belongs to cluster {}, this node is configured for {}; point "
                "data_dir to another directory or fix cluster_id",
                directory, identity->cluster.to_string(), cluster.to_string());
  if (identity->id != id)
    return fail(Errc::kRefused,
                "directory '{}' belongs to node {}, this node is configured as node {}; point "
                "data_dir to another directory or fix the node's id",
                directory, identity->id, id);
  // An empty log under an old identity could vote a second time.
  for (const char* part : {"log", "state"})
    if (!path_exists(directory + "/" + part))
      return fail(Errc::kRefused,
                  "directory '{}' has an identity but no '{}'; restore it, or remove the directory "
                  "and let the node join as a new one",
                  directory, part);
  return identity;
}

Result<UniqueFd> lock_directory(const std::string& directory) {
  BALLAST_TRY(UniqueFd lock, open_file(directory + "/" + kLock, O_RDWR | O_CREAT));
  if (auto locked = lock_file(lock, std::chrono::milliseconds(0)); !locked)
    return fail_within(std::move(locked).error(), "data directory '{}'", directory);
  return lock;
}

// Why a directory that has an identity is none that such a formatting would have made; empty: it
// is one.
std::string_view formatted_otherwise(const Identity& identity, const std::vector<Founder>& founders,
                                     const BeginWith* with) {
  if (identity.founders != founders)
    return identity.founders.empty() ? "and not as a founder's"
                                     : "for a cluster with other founders";
  if (with != nullptr && origin_of(identity.disk.raw()) != short_origin(with->origin))
    return "and not from this backup";
  return {};
}

Status remove_all(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) return fail(Errc::kIo, "remove '{}': {}", path, error.message());
  return {};
}

}  // namespace

std::string render_identity(const Identity& identity) {
  std::string body =
      fmt::format("{}\ncluster {}\nnode {}\ndisk {}\nid {}\n", kTitle, identity.cluster.to_string(),
                  identity.node.to_string(), identity.disk.to_string(), identity.id);
  for (const Founder& founder : identity.founders)
    body += fmt::format("founder {} {} {}\n", founder.id, founder.name, founder.address);
  return body + fmt::format("crc32c {:08x}\n", crc32c(as_byte_span(body)));
}

Result<Identity> parse_identity(std::string_view text) {
  const size_t last = text.rfind("crc32c ");
  if (last == std::string_view::npos || (last > 0 && text[last - 1] != '\n'))
    return fail(Errc::kCorrupt, "there is no line 'crc32c'");
  const std::string_view body = text.substr(0, last);
  if (text.substr(last) != fmt::format("crc32c {:08x}\n", crc32c(as_byte_span(body))))
    return fail(Errc::kCorrupt, "it does not match its CRC32C");
  std::string_view rest = body;
  BALLAST_TRY(const auto version, take_line(rest, "ballast identity"));
  if (version != "2")
    return fail(Errc::kRefused, "it has format version {}; this program knows version 2", version);
  Identity identity;
  BALLAST_TRY(identity.cluster, take_uuid(rest, "cluster"));
  BALLAST_TRY(identity.node, take_uuid(rest, "node"));
  BALLAST_TRY(identity.disk, take_uuid(rest, "disk"));
  BALLAST_TRY(const auto id, take_line(rest, "id"));
  BALLAST_TRY(identity.id, parse_id(id));
  while (!rest.empty()) {
    BALLAST_TRY(const auto line, take_line(rest, "founder"));
    BALLAST_TRY(Founder founder, parse_founder(line));
    identity.founders.push_back(std::move(founder));
  }
  if (render_identity(identity) != text)
    return fail(Errc::kCorrupt, "it is not written as formatting a directory writes it");
  return identity;
}

std::string origin_of(std::string_view disk) {
  if (disk.size() != Uuid{}.bytes.size()) return {};
  const auto version = static_cast<uint8_t>(disk[kVersionByte]);
  return (version & kVersionMask) == kVersionOfOrigin ? std::string(disk.substr(0, kOriginBytes))
                                                      : std::string();
}

Result<DataDirectory> DataDirectory::open_existing(const std::string& directory) {
  if (!path_exists(directory + "/" + kName))
    return fail(Errc::kNotFound, "'{}' is no data directory: it holds no '{}'", directory, kName);
  BALLAST_TRY(const UniqueFd lock, lock_directory(directory));
  BALLAST_TRY(Identity identity, read_identity(directory));
  return keep(directory, std::move(identity), lock);
}

Result<DataDirectory> DataDirectory::open(const std::string& directory, Uuid cluster, NodeId id) {
  return open_or_format(directory, cluster, id, {}, nullptr);
}

Status DataDirectory::bootstrap(const std::string& directory, Uuid cluster, NodeId id,
                                std::vector<Founder> founders, const BeginWith* with) {
  BALLAST_TRY(const DataDirectory made, open_or_format(directory, cluster, id, founders, with));
  const std::string_view otherwise = formatted_otherwise(made.identity_, founders, with);
  if (otherwise.empty()) return {};
  return fail(Errc::kRefused,
              "directory '{}' is formatted already, {}: start the node without --bootstrap",
              directory, otherwise);
}

Result<DataDirectory> DataDirectory::open_or_format(const std::string& directory, Uuid cluster,
                                                    NodeId id, std::vector<Founder> founders,
                                                    const BeginWith* with) {
  const std::string path = directory + "/" + kName;
  // Before the lock file is made: somebody else's directory stays as it is.
  if (path_exists(directory) && !path_exists(path))
    BALLAST_TRY_STATUS(check_formattable(directory, with != nullptr));
  BALLAST_TRY_STATUS(make_directories(directory));
  BALLAST_TRY(const UniqueFd lock, lock_directory(directory));
  auto identity = path_exists(path) ? read_own_identity(directory, cluster, id)
                                    : format(directory, cluster, id, std::move(founders), with);
  if (!identity) return std::unexpected(std::move(identity).error());
  return keep(directory, *std::move(identity), lock);
}

Result<DataDirectory> DataDirectory::keep(const std::string& directory, Identity identity,
                                          const UniqueFd& lock) {
  DataDirectory opened;
  opened.directory_ = directory;
  opened.identity_ = std::move(identity);
  opened.lock_fd_ = ::fcntl(lock.get(), F_DUPFD_CLOEXEC, 0);
  if (opened.lock_fd_ < 0) return os_failure("keep", lock.path());
  return opened;
}

// At once, so that there is always a state.
Status DataDirectory::exchange(const std::string& with) const {
  if (::renameat2(AT_FDCWD, with.c_str(), AT_FDCWD, state_path().c_str(), RENAME_EXCHANGE) != 0)
    return os_failure("exchange with the state", with);
  return sync_directory(directory_);
}

IncomingPaths DataDirectory::incoming() const { return incoming_in(directory_); }

// A crash before the exchange leaves homes that no row names yet; then this is done once more.
Status DataDirectory::install_incoming() const {
  const IncomingPaths incoming = this->incoming();
  BALLAST_TRY_STATUS(take_over_segments(incoming.blocks, incoming.log));
  return exchange(incoming.rows);
}

// The rows first: while they are there, so are the blocks that they name.
Status DataDirectory::remove_incoming() const {
  BALLAST_TRY_STATUS(remove_all(incoming().rows));
  return remove_all(incoming().blocks);
}

Status DataDirectory::put_rows_aside() const {
  BALLAST_TRY_STATUS(remove_rows_put_aside());
  const std::string aside = directory_ + "/" + kPutAside;
  BALLAST_TRY_STATUS(make_directories(aside));
  return exchange(aside);
}

bool DataDirectory::has_rows_put_aside() const { return path_exists(directory_ + "/" + kPutAside); }

Status DataDirectory::remove_rows_put_aside() const {
  return remove_all(directory_ + "/" + kPutAside);
}

DataDirectory::DataDirectory(DataDirectory&& other) noexcept
    : directory_(std::move(other.directory_)),
      identity_(other.identity_),
      lock_fd_(std::exchange(other.lock_fd_, -1)) {}

DataDirectory& DataDirectory::operator=(DataDirectory&& other) noexcept {
  if (this != &other) {
    if (lock_fd_ >= 0) ::close(lock_fd_);
    directory_ = std::move(other.directory_);
    identity_ = other.identity_;
    lock_fd_ = std::exchange(other.lock_fd_, -1);
  }
  return *this;
}

DataDirectory::~DataDirectory() {
  if (lock_fd_ >= 0) ::close(lock_fd_);
}

}  // namespace ballast::storage
