// Codecs as text and as numbers.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "proto/base/check.h"
#include "quant/block_codec.h"
#include "quant/codec.h"

namespace ballast::quant {
namespace {

constexpr std::string_view kKnownCodecs =
    "raw, f32, f16, bf16, lossless, int4 and sparse4 (:group=16, 32 or 64), int8, ec4 and ec4t "
    "(:bits=1 to 4.9 or :db=5 to 27), ec4 alone also :group=256, 512 or 1024";

struct Name {
  std::string_view name;
  CodecSpec spec;  // without parameters
};
constexpr std::array<Name, 10> kNames{{{"raw", {CodecId::kRaw}},
                                       {"f32", {CodecId::kF32}},
                                       {"f16", {CodecId::kF16}},
                                       {"bf16", {CodecId::kBF16}},
                                       {"int4", {CodecId::kInt4, 32}},
                                       {"int8", {CodecId::kInt8, 32}},
                                       {"ec4", {CodecId::kEc4}},
                                       {"ec4t", {CodecId::kEc4t}},
                                       {"lossless", {CodecId::kLossless}},
                                       {"sparse4", {CodecId::kSparse4, 32}}}};

// Thousandths or hundredths, as text without zeros at the end.
std::string decimal(uint32_t value, uint32_t unit) {
  std::string text = std::to_string(value / unit) + ".";
  for (uint32_t rest = value % unit; unit > 1; rest %= unit) {
    unit /= 10;
    text += static_cast<char>('0' + rest / unit);
  }
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return text;
}

// The other way round; nothing if it is no number of at most four digits before the point.
std::optional<uint32_t> parse_decimal(std::string_view text, uint32_t unit) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.begin(), text.end(), value);
  if (error != std::errc() || end != text.end() || !(value >= 0 && value < 10000)) return {};
  return static_cast<uint32_t>(std::lround(value * unit));
}

// Sets "group=16" and the like. False if there is no such parameter or value.
bool set_parameter(CodecSpec& spec, std::string_view parameter) {
  const size_t equals = parameter.find('=');
  if (equals == std::string_view::npos) return false;
  const std::string_view name = parameter.substr(0, equals);
  const std::string_view value = parameter.substr(equals + 1);
  uint32_t CodecSpec::* field = nullptr;
  uint32_t unit = 1;
  if (name == "group") {
    field = &CodecSpec::group_size;
  } else if (name == "bits") {
    field = &CodecSpec::millibits;
    unit = 1000;
  } else if (name == "db") {
    field = &CodecSpec::centidb;
    unit = 100;
  } else {
    return false;
  }
  const auto number = parse_decimal(value, unit);
  if (!number || *number == 0) return false;
  spec.*field = *number;
  return true;
}

const Name& name_of(CodecId id) {
  const auto found = std::ranges::find(kNames, id, [](const Name& name) { return name.spec.id; });
  BALLAST_CHECK(found != kNames.end(), "codec {}", static_cast<int>(id));
  return *found;
}

bool valid(CodecSpec spec) { return codec_of(spec.id).valid(spec); }

}  // namespace

Result<CodecSpec> parse_codec(std::string_view text) {
  const size_t colon = std::min(text.find(':'), text.size());
  const auto found = std::ranges::find(kNames, text.substr(0, colon), &Name::name);
  bool known = found != kNames.end();
  CodecSpec spec = known ? found->spec : CodecSpec{};
  for (size_t at = colon; known && at < text.size();) {
    const size_t end = std::min(text.find(',', at + 1), text.size());
    known = set_parameter(spec, text.substr(at + 1, end - at - 1));
    at = end;
  }
  if (known && !text.ends_with(',') && valid(spec)) return spec;
  return fail(Errc::kInvalidArgument, "codec '{}' is not known; known are {}", text, kKnownCodecs);
}

std::string codec_name(CodecSpec spec) {
  const Name& name = name_of(spec.id);
  std::string text(name.name);
  char separator = ':';
  const auto add = [&](std::string_view parameter, const std::string& value) {
    text += separator;
    text.append(parameter).append(value);
    separator = ',';
  };
  if (spec.millibits != 0) add("bits=", decimal(spec.millibits, 1000));
  if (spec.centidb != 0) add("db=", decimal(spec.centidb, 100));
  if (spec.group_size != name.spec.group_size) add("group=", std::to_string(spec.group_size));
  return text;
}

Result<CodecSpec> codec_from_numbers(uint32_t id, uint32_t group_size, uint32_t millibits,
                                     uint32_t centidb) {
  const auto known =
      std::ranges::find(kNames, id, [](const Name& name) { return uint32_t(name.spec.id); });
  if (known != kNames.end()) {
    const CodecSpec spec{known->spec.id, group_size, millibits, centidb};
    if (valid(spec)) return spec;
  }
  return fail(Errc::kCorrupt, "there is no codec {} with group size {} and targets {}, {}", id,
              group_size, millibits, centidb);
}

CodecSpec exact_codec(DType dtype) {
  switch (dtype) {
    case DType::kF32: return {CodecId::kF32};
    case DType::kF16: return {CodecId::kF16};
    case DType::kBF16: return {CodecId::kBF16};
    default: return {CodecId::kRaw};
  }
}

bool codec_is_exact(CodecSpec spec, DType source) {
  return spec.id == CodecId::kRaw || spec.id == CodecId::kLossless || spec == exact_codec(source);
}

bool codec_quantizes(CodecId id) {
  switch (id) {
    case CodecId::kInt4:
    case CodecId::kInt8:
    case CodecId::kEc4:
    case CodecId::kEc4t:
    case CodecId::kSparse4: return true;
    case CodecId::kRaw:
    case CodecId::kF32:
    case CodecId::kF16:
    case CodecId::kBF16:
    case CodecId::kLossless: return false;
  }
  return false;
}

}  // namespace ballast::quant
