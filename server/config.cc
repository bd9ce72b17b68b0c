#include "server/config.h"

#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <set>

#include "proto/base/limits.h"
#include "proto/base/names.h"

namespace ballast::server {
namespace {

// A table of the file, its keys checked off as they are read.
class Section {
 public:
  Section(const toml::table& table, std::string name) : table_(table), name_(std::move(name)) {}

  Result<std::string> text(std::string_view key) {
    const toml::node* node = take(key);
    if (node == nullptr) return missing(key);
    if (const auto value = node->value_exact<std::string>(); value && !value->empty())
      return *value;
    return wrong(*node, key, "must be a text in quotes");
  }

  Result<uint64_t> number(std::string_view key, uint64_t low, uint64_t high,
                          std::optional<uint64_t> fallback = std::nullopt) {
    const toml::node* node = take(key);
    if (node == nullptr) {
      if (fallback) return *fallback;
      return missing(key);
    }
    const auto value = node->value_exact<int64_t>();
    if (value && *value >= 0 && static_cast<uint64_t>(*value) >= low &&
        static_cast<uint64_t>(*value) <= high)
      return static_cast<uint64_t>(*value);
    return wrong(*node, key, fmt::format("must be a number from {} to {}", low, high));
  }

  Result<const toml::array*> list(std::string_view key) {
    const toml::node* node = take(key);
    if (node == nullptr) return missing(key);
    if (node->is_array() && !node->as_array()->empty()) return node->as_array();
    return wrong(*node, key, "must be a list with at least one element");
  }

  // After all keys were read: nothing else may be there.
  Status finish() const {
    for (const auto& [key, node] : table_) {
      if (!known_.contains(std::string(key.str())))
        return fail(Errc::kInvalidArgument, "line {}: unknown key '{}' in {}; known are: {}",
                    node.source().begin.line, key.str(), name_, fmt::join(known_, ", "));
    }
    return {};
  }

 private:
  const toml::node* take(std::string_view key) {
    known_.emplace(key);
    return table_.get(key);
  }
  std::unexpected<Error> missing(std::string_view key) const {
    return fail(Errc::kInvalidArgument, "{} lacks '{}'", name_, key);
  }
  std::unexpected<Error> wrong(const toml::node& node, std::string_view key,
                               const std::string& rule) const {
    return fail(Errc::kInvalidArgument, "line {}: '{}' in {} {}", node.source().begin.line, key,
                name_, rule);
  }

  const toml::table& table_;
  std::string name_;
  std::set<std::string> known_;
};

Result<MemberConfig> read_member(const toml::node& node) {
  if (!node.is_table())
    return fail(Errc::kInvalidArgument,
                "line {}: a member is written {{ id = 1, name = \"n1\", address = \"HOST:PORT\" }}",
                node.source().begin.line);
  Section section(*node.as_table(), "a member of [cluster]");
  MemberConfig member;
  BALLAST_TRY(const uint64_t id, section.number("id", 1, 1'000'000));
  member.id = NodeId(id);
  BALLAST_TRY(member.name, section.text("name"));
  BALLAST_TRY_STATUS(check_node_name(member.name));
  BALLAST_TRY(const std::string address, section.text("address"));
  BALLAST_TRY(member.address, net::parse_endpoint(address));
  BALLAST_TRY_STATUS(section.finish());
  return member;
}

Status read_cluster(const toml::table& table, ClusterConfig& cluster) {
  Section section(table, "[cluster]");
  BALLAST_TRY(const std::string id, section.text("id"));
  BALLAST_TRY(cluster.id, Uuid::parse(id));
  BALLAST_TRY(const toml::array* members, section.list("members"));
  for (const toml::node& node : *members) {
    BALLAST_TRY(MemberConfig member, read_member(node));
    for (const MemberConfig& other : cluster.members) {
      if (other.id == member.id || other.name == member.name ||
          other.address.to_string() == member.address.to_string())
        return fail(Errc::kInvalidArgument,
                    "line {}: the member '{}' has the id, name or address of '{}'",
                    node.source().begin.line, member.name, other.name);
    }
    cluster.members.push_back(std::move(member));
  }
  std::ranges::sort(cluster.members, {}, &MemberConfig::id);
  return section.finish();
}

Status read_node(const toml::table& table, Config& config) {
  Section section(table, "[node]");
  BALLAST_TRY(const uint64_t id, section.number("id", 1, 1'000'000));
  config.cluster.self = NodeId(id);
  BALLAST_TRY(const std::string name, section.text("name"));
  BALLAST_TRY(const std::string listen, section.text("listen"));
  BALLAST_TRY(config.listen, net::parse_endpoint(listen));
  BALLAST_TRY(config.data_directory, section.text("data_dir"));
  BALLAST_TRY(const uint64_t workers, section.number("worker_threads", 1, 64, 2));
  config.worker_threads = static_cast<int>(workers);
  BALLAST_TRY_STATUS(section.finish());
  const MemberConfig* self = config.cluster.find(config.cluster.self);
  if (self == nullptr || self->name != name)
    return fail(Errc::kInvalidArgument,
                "[node] is {} '{}', but [cluster] members has no such member", id, name);
  return {};
}

Status read_sizes(const toml::table& log, const toml::table& state, Config& config) {
  Section log_section(log, "[log]");
  BALLAST_TRY(const uint64_t segment, log_section.number("segment_mib", 16, 4096, 256));
  BALLAST_TRY(const uint64_t keep, log_section.number("keep_mib", 1, 1 << 20, 4 * segment));
  BALLAST_TRY(const uint64_t cache, log_section.number("cache_mib", 1, 4096, 64));
  BALLAST_TRY(const uint64_t fetch, log_section.number("snapshot_mib_per_s", 0, 1 << 16, 0));
  BALLAST_TRY_STATUS(log_section.finish());
  Section state_section(state, "[state]");
  BALLAST_TRY(const uint64_t buffer, state_section.number("write_buffer_mib", 4, 1024, 64));
  BALLAST_TRY(const uint64_t blocks, state_section.number("block_cache_mib", 4, 4096, 64));
  const uint64_t hour = std::chrono::seconds(limits::kUploadLease).count();
  BALLAST_TRY(const uint64_t lease, state_section.number("upload_lease_s", 1, 24 * hour, hour));
  BALLAST_TRY_STATUS(state_section.finish());
  config.segment_bytes = segment * limits::kMiB;
  config.log_keep_bytes = keep * limits::kMiB;
  config.entry_cache_bytes = cache * limits::kMiB;
  config.snapshot_bytes_per_second = fetch * limits::kMiB;
  config.upload_lease = std::chrono::seconds(lease);
  config.write_buffer_bytes = buffer * limits::kMiB;
  config.block_cache_bytes = blocks * limits::kMiB;
  return {};
}

Status read_scrub(const toml::table& table, ScrubOptions& options) {
  Section section(table, "[scrub]");
  const uint64_t day = std::chrono::seconds(std::chrono::days(1)).count();
  BALLAST_TRY(const uint64_t speed, section.number("mib_per_s", 0, 1 << 16, 16));
  BALLAST_TRY(const uint64_t every, section.number("every_s", 1, 366 * day, day));
  BALLAST_TRY_STATUS(section.finish());
  options = {.bytes_per_second = speed * limits::kMiB, .period = std::chrono::seconds(every)};
  return {};
}

Status read_file(const toml::table& file, Config& config) {
  static constexpr std::array<std::string_view, 5> kSections = {"node", "cluster", "log", "state",
                                                                "scrub"};
  for (const auto& [key, node] : file) {
    if (std::ranges::find(kSections, key.str()) == kSections.end() || !node.is_table())
      return fail(Errc::kInvalidArgument, "line {}: unknown key '{}'; the sections are {}",
                  node.source().begin.line, key.str(), fmt::join(kSections, ", "));
  }
  const toml::table empty;
  const auto section = [&](std::string_view name) -> const toml::table& {
    return file.contains(name) ? *file.get(name)->as_table() : empty;
  };
  BALLAST_TRY_STATUS(read_cluster(section("cluster"), config.cluster));
  BALLAST_TRY_STATUS(read_node(section("node"), config));
  BALLAST_TRY_STATUS(read_sizes(section("log"), section("state"), config));
  BALLAST_TRY_STATUS(read_scrub(section("scrub"), config.scrub));
  return check_listen(config.listen);
}

}  // namespace

Status check_listen(const net::Endpoint& listen) {
  error_code error;
  const auto address = asio::ip::make_address(listen.host, error);
  if (listen.host == "localhost" || (!error && address.is_loopback())) return {};
  return fail(Errc::kInvalidArgument,
              "cannot listen on {}: without TLS a node listens on 127.0.0.1 or [::1] only",
              listen.to_string());
}

Result<Config> load_config(const std::string& path) {
  toml::table file;
  try {
    file = toml::parse_file(path);
  } catch (const toml::parse_error& error) {
    return fail(Errc::kInvalidArgument, "{}: line {}: {}", path, error.source().begin.line,
                error.description());
  }
  Config config;
  if (Status status = read_file(file, config); !status)
    return fail_within(std::move(status).error(), "{}", path);
  return config;
}

}  // namespace ballast::server
