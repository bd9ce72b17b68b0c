// The parser of a backup's manifest over any text: no crash, no exception, no error but those that
// it names, and nothing accepted that is lost on the way back.
//
// A checksum stops random text early, so in a second pass it is put right.
#include <nlohmann/json.hpp>
#include <string>

#include "proto/backup/manifest.h"
#include "proto/base/bytes.h"
#include "proto/base/check.h"
#include "proto/base/crc32c.h"

namespace {

using namespace ballast;
using namespace ballast::backup;
using Json = nlohmann::ordered_json;

constexpr const char* kChecksum = "crc32c";

// Each field of the manifest as it is in the text, whatever else that holds.
void check_fields(const Json& read, const std::string& rendered) {
  Json wrote = Json::parse(rendered);
  wrote.erase(kChecksum);
  for (const auto& [name, value] : wrote.items())
    BALLAST_CHECK(read.at(name) == value, "{}: {} and {}", name, read.at(name).dump(),
                  value.dump());
}

void check(const std::string& text) {
  const auto manifest = parse_manifest(text);
  if (!manifest) {
    const Errc code = manifest.error().code;
    BALLAST_CHECK(code == Errc::kCorrupt || code == Errc::kRefused, "{}",
                  manifest.error().to_string());
    return;
  }
  const std::string rendered = render(*manifest);
  const auto again = parse_manifest(rendered);
  BALLAST_CHECK(again && *again == *manifest);
  check_fields(Json::parse(text), rendered);
}

// Empty if nothing can be made of it: dump() recurses, and is not what is tested.
std::string with_checksum(const std::string& text) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || std::ranges::any_of(json, &Json::is_structured)) return {};
  json.erase(kChecksum);
  json[kChecksum] = fmt::format("{:08x}", crc32c(as_byte_span(json.dump())));
  return json.dump();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  check(text);
  check(with_checksum(text));
  return 0;
}
