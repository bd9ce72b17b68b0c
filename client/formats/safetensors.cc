#include "client/formats/safetensors.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <tuple>

#include "client/formats/safetensors_sax.h"
#include "client/formats/shape.h"
#include "proto/base/check.h"

namespace ballast::formats {
namespace {

constexpr uint64_t kLengthBytes = 8;

// Names are compared after the parse: sorting indexes takes less memory than a set of names.
Status check_names_differ(const std::vector<SafetensorsTensor>& tensors) {
  std::vector<uint32_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0u);
  const auto name = [&](uint32_t i) -> const std::string& { return tensors[i].name; };
  std::ranges::sort(order, {}, name);
  const auto twice = std::ranges::adjacent_find(order, {}, name);
  if (twice != order.end())
    return fail(Errc::kCorrupt, "tensor {} stands in the header twice", show_name(name(*twice)));
  return {};
}

// REQUIRES: tensors are in the order of their data.
Status check_data_is_covered(const std::vector<SafetensorsTensor>& tensors, uint64_t data_bytes) {
  uint64_t covered = 0;
  const SafetensorsTensor* before = nullptr;
  for (const SafetensorsTensor& tensor : tensors) {
    if (tensor.offset < covered)
      return fail(Errc::kCorrupt, "tensor {} begins at data byte {}, inside tensor {}",
                  show_name(tensor.name), tensor.offset, show_name(before->name));
    if (tensor.offset > covered)
      return fail(Errc::kCorrupt,
                  "{} bytes before tensor {} belong to no tensor; write the file again without "
                  "holes",
                  tensor.offset - covered, show_name(tensor.name));
    covered = tensor.offset + tensor.bytes;
    before = &tensor;
  }
  if (covered < data_bytes)
    return fail(Errc::kCorrupt, "the last {} bytes belong to no tensor; write the file again",
                data_bytes - covered);
  return {};
}

uint64_t length_from(std::span<const std::byte, kLengthBytes> bytes) {
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i)
    length |= std::to_integer<uint64_t>(bytes[i]) << (8 * i);
  return length;
}

// The text of the header. Errors: kCorrupt without the path, kIo.
Result<std::string> read_header(const InputFile& file) {
  if (file.bytes() < kLengthBytes)
    return fail(Errc::kCorrupt, "it has {} bytes; a safetensors file has at least {}", file.bytes(),
                kLengthBytes);
  std::array<std::byte, kLengthBytes> prefix{};
  BALLAST_TRY_STATUS(file.read(0, prefix));
  const uint64_t length = length_from(prefix);
  if (length > file.bytes() - kLengthBytes)
    return fail(Errc::kCorrupt,
                "its header should have {} bytes, but only {} are left; it is not a safetensors "
                "file or was cut short",
                length, file.bytes() - kLengthBytes);
  if (length > kSafetensorsHeaderBytesMax)
    return fail(Errc::kCorrupt, "its header has {} bytes; the limit is {}", length,
                kSafetensorsHeaderBytesMax);
  std::string text(length, '\0');
  BALLAST_TRY_STATUS(file.read(kLengthBytes, std::as_writable_bytes(std::span(text))));
  return text;
}

// A JSON string, or nothing if `text` is not UTF-8.
std::optional<std::string> json_string(const std::string& text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

Result<std::string> metadata_member(const SafetensorsMetadata& metadata) {
  std::string text = "\"__metadata__\":{";
  for (const auto& [key, value] : metadata) {
    const auto json_key = json_string(key);
    const auto json_value = json_string(value);
    if (!json_key || !json_value)
      return fail(Errc::kInvalidArgument, "the metadata {} is not UTF-8", show_name(key));
    if (text.back() != '{') text += ',';
    text += *json_key + ":" + *json_value;
  }
  return text + "}";
}

Result<uint64_t> total_bytes(std::span<const SafetensorsEntry> entries) {
  uint64_t total = 0;
  for (const SafetensorsEntry& entry : entries) {
    auto bytes = shape_bytes(entry.dtype, entry.shape);
    if (!bytes)
      return fail(Errc::kInvalidArgument, "tensor {}: {}", show_name(entry.name),
                  bytes.error().message);
    if (*bytes > uint64_t{1} << 62 || total > uint64_t{1} << 62)
      return fail(Errc::kInvalidArgument, "tensor {} is too large for a file",
                  show_name(entry.name));
    total += *bytes;
  }
  return total;
}

Status check_entry_names(std::span<const SafetensorsEntry> entries) {
  std::vector<std::string_view> names;
  names.reserve(entries.size());
  for (const SafetensorsEntry& entry : entries) names.push_back(entry.name);
  std::ranges::sort(names);
  if (const auto twice = std::ranges::adjacent_find(names); twice != names.end())
    return fail(Errc::kInvalidArgument, "two tensors are named {}", show_name(*twice));
  if (std::ranges::binary_search(names, kSafetensorsMetadataKey))
    return fail(Errc::kInvalidArgument, "a safetensors file can't hold a tensor named '{}'",
                kSafetensorsMetadataKey);
  return {};
}

}  // namespace

Result<SafetensorsHeader> parse_safetensors_header(std::string_view text, uint64_t data_bytes) {
  if (text.empty() || text.front() != '{')
    return fail(Errc::kCorrupt,
                "its header does not begin with '{{': it is not a safetensors file");
  SafetensorsSax sax(data_bytes);
  if (!nlohmann::json::sax_parse(text, &sax)) return fail(Errc::kCorrupt, "{}", sax.problem());
  SafetensorsHeader header = sax.take();
  BALLAST_TRY_STATUS(check_names_differ(header.tensors));
  // Only empty tensors can share an offset with another one: they come first, by name.
  std::ranges::sort(header.tensors, {}, [](const SafetensorsTensor& tensor) {
    return std::tuple(tensor.offset, tensor.bytes, std::string_view(tensor.name));
  });
  BALLAST_TRY_STATUS(check_data_is_covered(header.tensors, data_bytes));
  return header;
}

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  BALLAST_TRY(InputFile file, InputFile::open(path));
  auto text = read_header(file);
  if (!text && text.error().code == Errc::kIo) return std::unexpected(std::move(text).error());
  if (!text) return fail_within(std::move(text).error(), "cannot read '{}'", path);
  const uint64_t data_begin = kLengthBytes + text->size();
  auto header = parse_safetensors_header(*text, file.bytes() - data_begin);
  if (!header) return fail_within(std::move(header).error(), "cannot read '{}'", path);
  return SafetensorsFile(std::move(file), *std::move(header), data_begin);
}

Status SafetensorsFile::read(const SafetensorsTensor& tensor, uint64_t offset,
                             std::span<std::byte> out) const {
  BALLAST_CHECK(offset <= tensor.bytes && out.size() <= tensor.bytes - offset,
                "{} bytes at {} of {}", out.size(), offset, tensor.name);
  return file_.read(data_begin_ + tensor.offset + offset, out);
}

Result<std::string> safetensors_header(std::span<const SafetensorsEntry> entries,
                                       const SafetensorsMetadata& metadata) {
  BALLAST_TRY_STATUS(check_entry_names(entries));
  BALLAST_TRY_STATUS(total_bytes(entries));
  std::string text(kLengthBytes, '\0');
  text += '{';
  if (!metadata.empty()) {
    BALLAST_TRY(const std::string member, metadata_member(metadata));
    text += member;
  }
  uint64_t offset = 0;
  for (const SafetensorsEntry& entry : entries) {
    const auto name = json_string(entry.name);
    if (!name) return fail(Errc::kInvalidArgument, "the tensor name {} is not UTF-8", entry.name);
    BALLAST_TRY(const uint64_t bytes, shape_bytes(entry.dtype, entry.shape));
    if (text.back() != '{') text += ',';
    text += fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", *name,
                        quant::dtype_name(entry.dtype), fmt::join(entry.shape, ","), offset,
                        offset + bytes);
    offset += bytes;
  }
  text += '}';
  // So the data is aligned for whoever maps the file.
  while (text.size() % 8 != 0) text += ' ';
  const uint64_t length = text.size() - kLengthBytes;
  if (length > kSafetensorsHeaderBytesMax)
    return fail(Errc::kInvalidArgument, "the header would have {} bytes; the limit is {}", length,
                kSafetensorsHeaderBytesMax);
  for (size_t i = 0; i < kLengthBytes; ++i) text[i] = static_cast<char>(length >> (8 * i) & 0xFF);
  return text;
}

Result<SafetensorsWriter> SafetensorsWriter::create(const std::string& path,
                                                    std::span<const SafetensorsEntry> entries,
                                                    const SafetensorsMetadata& metadata) {
  auto header = safetensors_header(entries, metadata);
  if (!header) return fail_within(std::move(header).error(), "cannot write '{}'", path);
  BALLAST_TRY(const uint64_t bytes, total_bytes(entries));
  BALLAST_TRY(PartialFile file, PartialFile::create(path));
  BALLAST_TRY_STATUS(file.append(std::as_bytes(std::span(*header))));
  return SafetensorsWriter(std::move(file), bytes);
}

Status SafetensorsWriter::append(std::span<const std::byte> bytes) {
  appended_ += bytes.size();
  return file_.append(bytes);
}

Status SafetensorsWriter::commit() {
  if (appended_ != data_bytes_)
    return fail(Errc::kInternal, "cannot finish '{}': {} bytes of data were given instead of {}",
                file_.path(), appended_, data_bytes_);
  return file_.commit();
}

}  // namespace ballast::formats
