#include "proto/backup/manifest.h"

#include <nlohmann/json.hpp>

#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"
#include "proto/base/names.h"

namespace ballast::backup {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kDepthMax = 16;  // a later format may bring lists

Json describe(const Manifest& manifest) {
  const RowsSummary& rows = manifest.rows;
  return {{"format", kBackupFormat},
          {"name", manifest.name},
          {"cluster", manifest.cluster.to_string()},
          {"created", manifest.created},
          {"index", rows.index.value()},
          {"term", rows.term.value()},
          {"chain", manifest.chain},
          {"pages", rows.pages},
          {"rows", rows.rows},
          {"rows_bytes", rows.bytes},
          {"rows_sha256", rows.sha256.hex()},
          {"blocks", rows.blocks},
          {"block_bytes", rows.block_bytes}};
}

// As text: readers in other languages need not keep 32 bits apart from a float.
std::string checksum(const Json& body) {
  return fmt::format("{:08x}", crc32c(as_byte_span(body.dump())));
}

// Fields of a JSON object; the first that is missing or of another type is remembered.
class Fields {
 public:
  explicit Fields(const Json& json) : json_(json) {}

  uint64_t number(const char* name) {
    const auto field = json_.find(name);
    if (field != json_.end() && field->is_number_unsigned()) return field->get<uint64_t>();
    note(name);
    return 0;
  }
  std::string text(const char* name) {
    const auto field = json_.find(name);
    if (field != json_.end() && field->is_string()) return field->get<std::string>();
    note(name);
    return {};
  }
  Status status() const {
    if (bad_.empty()) return {};
    return fail(Errc::kCorrupt, "it has no right '{}'", bad_);
  }

 private:
  void note(const char* name) {
    if (bad_.empty()) bad_ = name;
  }
  const Json& json_;
  std::string bad_;
};

Result<Digest> parse_hex(std::string_view text) {
  std::string raw;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    const size_t high = kDigits.find(text[i]), low = kDigits.find(text[i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos) break;
    raw.push_back(static_cast<char>(high << 4 | low));
  }
  if (text.size() != 2 * Digest::kSize) raw.clear();
  return Digest::from_raw(raw);
}

}  // namespace

Status check_name(std::string_view name) {
  if (check_node_name(name) && name.front() != '.') return {};
  return fail(Errc::kInvalidArgument,
              "'{}' is no name for a backup: 1 to 64 letters, digits, '.', '_' and '-', and no '.' "
              "in front",
              name);
}

std::string render(const Manifest& manifest) {
  Json json = describe(manifest);
  json["crc32c"] = checksum(json);
  return json.dump(2) + "\n";
}

Result<Manifest> parse_manifest(std::string_view text) {
  // The checksum is that of a dump, which recurses.
  bool deep = false;
  const auto keep = [&](int depth, Json::parse_event_t, const Json&) {
    deep |= depth > kDepthMax;
    return !deep;
  };
  Json json = Json::parse(text, keep, /*allow_exceptions=*/false);
  if (deep || !json.is_object()) return fail(Errc::kCorrupt, "it is no JSON object of fields");
  Fields fields(json);
  const uint64_t format = fields.number("format");
  const std::string crc = fields.text("crc32c");
  BALLAST_TRY_STATUS(fields.status());
  json.erase("crc32c");
  if (crc != checksum(json)) return fail(Errc::kCorrupt, "it does not match its CRC32C");
  if (format != kBackupFormat)
    return fail(Errc::kRefused, "it has format {}; this program knows format {}", format,
                kBackupFormat);
  Manifest manifest{.name = fields.text("name"),
                    .created = fields.text("created"),
                    .chain = static_cast<uint32_t>(fields.number("chain")),
                    .rows = {.bytes = fields.number("rows_bytes"),
                             .pages = fields.number("pages"),
                             .rows = fields.number("rows"),
                             .blocks = fields.number("blocks"),
                             .block_bytes = fields.number("block_bytes"),
                             .index = Index(fields.number("index")),
                             .term = Term(fields.number("term"))}};
  const std::string cluster = fields.text("cluster"), sha256 = fields.text("rows_sha256");
  BALLAST_TRY_STATUS(fields.status());
  const auto uuid = Uuid::parse(cluster);
  if (!uuid) return fail(Errc::kCorrupt, "{}", uuid.error().message);
  manifest.cluster = *uuid;
  BALLAST_TRY(manifest.rows.sha256, parse_hex(sha256));
  // A number that is too large, or a digit that is upper case, would come back as another.
  const Json again = describe(manifest);
  for (const auto& [name, value] : again.items()) {
    if (json[name] != value) return fail(Errc::kCorrupt, "it has no right '{}'", name);
  }
  return manifest;
}

}  // namespace ballast::backup
