#include "client/formats/npy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

#include "client/formats/shape.h"
#include "proto/base/limits.h"

namespace ballast::formats {
namespace {

using quant::DType;

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kAlignment = 64;  // of the data, as numpy writes it

struct NumpyName {
  DType dtype;
  std::string_view name;
};
constexpr std::array kNumpyNames = {
    NumpyName{DType::kF32, "<f4"}, NumpyName{DType::kF16, "<f2"}, NumpyName{DType::kF64, "<f8"},
    NumpyName{DType::kI64, "<i8"}, NumpyName{DType::kI32, "<i4"}, NumpyName{DType::kI16, "<i2"},
    NumpyName{DType::kI8, "|i1"},  NumpyName{DType::kU64, "<u8"}, NumpyName{DType::kU32, "<u4"},
    NumpyName{DType::kU16, "<u2"}, NumpyName{DType::kU8, "|u1"},  NumpyName{DType::kBool, "|b1"},
};

Result<DType> dtype_from_numpy(std::string_view name) {
  const auto with_kind = [&](std::string_view kind) {
    return std::ranges::find_if(kNumpyNames,
                                [&](const NumpyName& n) { return n.name.substr(1) == kind; });
  };
  const auto known = with_kind(name.empty() ? name : name.substr(1));
  if (known == kNumpyNames.end()) {
    const bool untyped = name == "<V2" || name == "|V2";
    return fail(Errc::kInvalidArgument, "its dtype {} can't be stored; {}", show_name(name),
                untyped ? "if it is bfloat16, save array.astype('<f4')"
                        : "convert it to a float, integer or bool type");
  }
  if (name.front() == '>' && quant::dtype_bytes(known->dtype) > 1)
    return fail(Errc::kInvalidArgument, "it is big-endian; save array.astype('{}')", known->name);
  if (!std::string_view("<|>").contains(name.front()) ||
      (name.front() == '|' && known->name.front() != '|'))
    return fail(Errc::kCorrupt, "its dtype {} has no byte order", show_name(name));
  return known->dtype;
}

// Reads the header, which is the text of a Python dict with three known keys.
class DictScanner {
 public:
  explicit DictScanner(std::string_view text) : text_(text) {}

  struct Dict {
    std::optional<std::string_view> descr;
    std::optional<bool> fortran_order;
    std::optional<std::vector<uint64_t>> shape;
  };

  Result<Dict> parse() {
    Dict dict;
    BALLAST_TRY_STATUS(expect('{'));
    while (!accept('}')) {
      BALLAST_TRY(const std::string_view key, quoted_text());
      BALLAST_TRY_STATUS(expect(':'));
      BALLAST_TRY_STATUS(value(key, dict));
      if (accept(',')) continue;
      BALLAST_TRY_STATUS(expect('}'));
      break;
    }
    skip_spaces();
    if (at_ != text_.size()) return unexpected("the end");
    if (!dict.descr || !dict.fortran_order || !dict.shape)
      return fail(Errc::kCorrupt, "its header has no '{}'",
                  !dict.descr           ? "descr"
                  : !dict.fortran_order ? "fortran_order"
                                        : "shape");
    return dict;
  }

 private:
  std::unexpected<Error> unexpected(std::string_view wanted) const {
    return fail(Errc::kCorrupt, "its header is damaged at character {}: {} should stand there", at_,
                wanted);
  }

  void skip_spaces() { at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size()); }
  bool accept(char c) {
    skip_spaces();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  Status expect(char c) {
    if (!accept(c)) return unexpected(std::string{'\'', c, '\''});
    return {};
  }
  bool accept_word(std::string_view word) {
    skip_spaces();
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }

  Status value(std::string_view key, Dict& dict) {
    if ((key == "descr" && dict.descr) || (key == "fortran_order" && dict.fortran_order) ||
        (key == "shape" && dict.shape))
      return fail(Errc::kCorrupt, "its header has two '{}'", key);
    if (key == "descr") {
      skip_spaces();
      if (text_.substr(at_).starts_with('['))
        return fail(Errc::kInvalidArgument, "it is a structured array; save its fields one by one");
      BALLAST_TRY(dict.descr, quoted_text());
      return {};
    }
    if (key == "fortran_order") {
      const bool fortran = accept_word("True");
      if (!fortran && !accept_word("False")) return unexpected("True or False");
      dict.fortran_order = fortran;
      return {};
    }
    if (key == "shape") {
      BALLAST_TRY(dict.shape, tuple());
      return {};
    }
    return fail(Errc::kCorrupt, "its header has an unknown key {}", show_name(key));
  }

  // No name or dtype that we know needs an escape, so a backslash is an error.
  Result<std::string_view> quoted_text() {
    skip_spaces();
    if (at_ == text_.size() || (text_[at_] != '\'' && text_[at_] != '"'))
      return unexpected("a string");
    const size_t begin = at_ + 1;
    const size_t end = text_.find(text_[at_], begin);
    if (end == std::string_view::npos) return unexpected("a string with an end");
    const std::string_view text = text_.substr(begin, end - begin);
    if (text.contains('\\')) return unexpected("a string without escapes");
    at_ = end + 1;
    return text;
  }

  // "()", "(3,)", "(3, 4)": Python needs the comma to tell a tuple of one from a number.
  Result<std::vector<uint64_t>> tuple() {
    std::vector<uint64_t> numbers;
    BALLAST_TRY_STATUS(expect('('));
    bool comma = true;
    while (!accept(')')) {
      if (!comma) return unexpected("',' or ')'");
      if (numbers.size() == limits::kTensorRankMax)
        return fail(Errc::kCorrupt, "its shape has more than {} dimensions",
                    limits::kTensorRankMax);
      BALLAST_TRY(const uint64_t dimension, number());
      numbers.push_back(dimension);
      comma = accept(',');
    }
    if (numbers.size() == 1 && !comma) return unexpected("',' after a single dimension");
    return numbers;
  }

  Result<uint64_t> number() {
    skip_spaces();
    uint64_t number = 0;
    const char* begin = text_.data() + at_;
    const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), number);
    if (error == std::errc::result_out_of_range)
      return fail(Errc::kCorrupt, "its shape is too large: a dimension overflows");
    if (error != std::errc()) return unexpected("a number from 0 on");
    if (*begin == '0' && end - begin > 1) return unexpected("a number without leading zeros");
    at_ += static_cast<size_t>(end - begin);
    return number;
  }

  std::string_view text_;
  size_t at_ = 0;
};

uint64_t little_endian(std::span<const std::byte> bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes.size(); ++i) value |= std::to_integer<uint64_t>(bytes[i]) << (8 * i);
  return value;
}

// The dict's text within `prefix`.
Result<std::string_view> dict_text(std::span<const std::byte> prefix) {
  const std::string_view text(reinterpret_cast<const char*>(prefix.data()), prefix.size());
  if (!text.starts_with(kMagic))
    return fail(Errc::kCorrupt, "it is not an .npy file; save one with numpy.save()");
  if (text.size() < kMagic.size() + 2) return fail(Errc::kCorrupt, "its header is cut short");
  const auto major = std::to_integer<unsigned>(prefix[kMagic.size()]);
  const auto minor = std::to_integer<unsigned>(prefix[kMagic.size() + 1]);
  if (major < 1 || major > 3 || minor != 0)
    return fail(Errc::kCorrupt, "its format version {}.{} is unknown; 1.0, 2.0 and 3.0 are known",
                major, minor);
  const size_t length_bytes = major == 1 ? 2 : 4;
  const size_t begin = kMagic.size() + 2 + length_bytes;
  if (text.size() < begin) return fail(Errc::kCorrupt, "its header is cut short");
  const uint64_t length = little_endian(prefix.subspan(begin - length_bytes, length_bytes));
  if (length > kNpyHeaderBytesMax - begin)
    return fail(Errc::kCorrupt, "its header has {} bytes; the limit is {}", length,
                kNpyHeaderBytesMax - begin);
  if (length > text.size() - begin) return fail(Errc::kCorrupt, "its header is cut short");
  return text.substr(begin, length);
}

}  // namespace

Result<NpyHeader> parse_npy_header(std::span<const std::byte> prefix, uint64_t file_bytes) {
  BALLAST_TRY(const std::string_view text, dict_text(prefix));
  BALLAST_TRY(const DictScanner::Dict dict, DictScanner(text).parse());
  NpyHeader header;
  BALLAST_TRY(header.dtype, dtype_from_numpy(*dict.descr));
  header.shape = *dict.shape;
  if (*dict.fortran_order && header.shape.size() > 1)
    return fail(Errc::kInvalidArgument,
                "it is in Fortran order; save numpy.ascontiguousarray(array)");
  BALLAST_TRY(header.bytes, shape_bytes(header.dtype, header.shape));
  const auto* begin = reinterpret_cast<const char*>(prefix.data());
  header.data_begin = static_cast<uint64_t>(text.data() + text.size() - begin);
  const uint64_t data_bytes = file_bytes - header.data_begin;
  if (data_bytes < header.bytes)
    return fail(Errc::kCorrupt, "its array needs {} bytes, but the file holds {}; it was cut short",
                header.bytes, data_bytes);
  if (data_bytes > header.bytes)
    return fail(Errc::kCorrupt, "{} bytes follow the array; save one array in one file",
                data_bytes - header.bytes);
  return header;
}

Result<std::string> npy_header(DType dtype, std::span<const uint64_t> shape) {
  const auto known = std::ranges::find(kNumpyNames, dtype, &NumpyName::dtype);
  if (known == kNumpyNames.end())
    return fail(Errc::kInvalidArgument, "numpy has no {}; {}", quant::dtype_name(dtype),
                quant::dtype_is_codable(dtype) ? "use --as f32"
                                               : "keep it in a model and export safetensors");
  std::string dict = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}",
                                 known->name, fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
  constexpr size_t kBegin = kMagic.size() + 4;
  // Spaces and a newline fill up to the alignment. At most 16 dimensions: version 1.0 is enough.
  const size_t padded = (kBegin + dict.size() + 1 + kAlignment - 1) / kAlignment * kAlignment;
  dict.resize(padded - kBegin - 1, ' ');
  dict += '\n';
  std::string header(kMagic);
  header += '\x01';
  header += '\0';
  header += static_cast<char>(dict.size() & 0xFF);
  header += static_cast<char>(dict.size() >> 8);
  return header + dict;
}

Result<NpyArray> read_npy(const std::string& path) {
  BALLAST_TRY(const InputFile file, InputFile::open(path));
  std::vector<std::byte> prefix(
      static_cast<size_t>(std::min<uint64_t>(file.bytes(), kNpyHeaderBytesMax)));
  BALLAST_TRY_STATUS(file.read(0, prefix));
  auto header = parse_npy_header(prefix, file.bytes());
  if (!header) return fail_within(std::move(header).error(), "cannot read '{}'", path);
  NpyArray array{.dtype = header->dtype, .shape = std::move(header->shape), .data = {}};
  array.data.resize(header->bytes);
  BALLAST_TRY_STATUS(file.read(header->data_begin, array.data));
  return array;
}

Result<NpyWriter> NpyWriter::create(const std::string& path, DType dtype,
                                    std::span<const uint64_t> shape) {
  auto header = npy_header(dtype, shape);
  if (!header) return fail_within(std::move(header).error(), "cannot write '{}'", path);
  auto bytes = shape_bytes(dtype, shape);
  if (!bytes) return fail_within(std::move(bytes).error(), "cannot write '{}'", path);
  BALLAST_TRY(PartialFile file, PartialFile::create(path));
  BALLAST_TRY_STATUS(file.append(std::as_bytes(std::span(*header))));
  return NpyWriter(std::move(file), *bytes);
}

Status NpyWriter::append(std::span<const std::byte> bytes) {
  appended_ += bytes.size();
  return file_.append(bytes);
}

Status NpyWriter::commit() {
  if (appended_ != bytes_)
    return fail(Errc::kInternal, "cannot finish '{}': {} bytes of data were given instead of {}",
                file_.path(), appended_, bytes_);
  return file_.commit();
}

}  // namespace ballast::formats
