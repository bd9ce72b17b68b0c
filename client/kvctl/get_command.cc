// get: a key's array, or a tensor of a version, as values, as some of its rows, or as it is stored.
#include <fmt/format.h>

#include <charconv>

#include "client/formats/npy.h"
#include "client/kvctl/arguments.h"
#include "client/kvctl/figures.h"

namespace ballast::kvctl {
namespace {

using client::DType;
using client::StoredTensor;
using client::ValueRange;
using nlohmann::ordered_json;

struct GetArguments {
  std::string reference;
  std::string file;
  std::string as;
  std::string rows;
  std::string read = "linearizable";
  std::string section;
  bool small = false;
};

// One end of "A:B" as Python has it: empty is the array's own end, a negative one counts from
// there.
std::optional<uint64_t> row_bound(std::string_view text, uint64_t rows, uint64_t absent) {
  if (text.empty()) return absent;
  const bool from_end = text.front() == '-';
  if (from_end) text.remove_prefix(1);
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.begin(), text.end(), number);
  if (error != std::errc() || end != text.end()) return {};
  // Python would take a bound outside for the nearest one inside; here it is a mistake.
  if (number > rows) return {};
  return from_end ? rows - number : number;
}

struct Rows {
  uint64_t first = 0;
  uint64_t end = 0;
};

Result<Rows> parse_rows(const std::string& text, const std::vector<uint64_t>& shape) {
  if (shape.empty()) return fail(Errc::kInvalidArgument, "--rows {}: a scalar has no rows", text);
  const uint64_t rows = shape.front();
  const size_t colon = text.find(':');
  if (colon != std::string::npos) {
    const auto first = row_bound(std::string_view(text).substr(0, colon), rows, 0);
    const auto end = row_bound(std::string_view(text).substr(colon + 1), rows, rows);
    if (first && end && *first <= *end) return Rows{*first, *end};
  }
  return fail(Errc::kInvalidArgument,
              "--rows {}: give FIRST:END within the tensor's {} rows; END itself is not read", text,
              rows);
}

// What a file is to hold.
struct Wanted {
  DType dtype = DType::kF32;
  std::vector<uint64_t> shape;
  ValueRange values;
};

Result<Wanted> wanted_of(const GetArguments& arguments, const StoredTensor& tensor,
                         std::optional<DType> as) {
  if (as && !quant::dtype_is_codable(tensor.dtype))
    return fail(Errc::kInvalidArgument, "'{}' is {}; --as converts F32, F16 and BF16 alone",
                arguments.reference, quant::dtype_name(tensor.dtype));
  Wanted wanted{.dtype = as.value_or(tensor.dtype),
                .shape = arguments.small ? tensor.small_shape() : tensor.shape,
                .values = {0, arguments.small ? tensor.small_values() : tensor.values()}};
  if (arguments.rows.empty()) return wanted;
  BALLAST_TRY(const Rows rows, parse_rows(arguments.rows, wanted.shape));
  BALLAST_TRY(wanted.values, tensor.rows(rows.first, rows.end, arguments.small));
  wanted.shape.front() = rows.end - rows.first;
  return wanted;
}

Status get_values(const Context& context, const GetArguments& arguments, client::Client& client,
                  const StoredTensor& tensor, const client::ReadOptions& options) {
  BALLAST_TRY(const Wanted wanted, wanted_of(arguments, tensor, options.as));
  BALLAST_TRY(formats::NpyWriter writer,
              formats::NpyWriter::create(arguments.file, wanted.dtype, wanted.shape));
  const uint64_t bytes = wanted.values.count * quant::dtype_bytes(wanted.dtype);
  {
    const client::Progress progress = progress_bar("get " + arguments.reference);
    uint64_t done = 0;
    BALLAST_TRY_STATUS(
        client.read_range(tensor, wanted.values, options, [&](std::span<const std::byte> piece) {
          done += piece.size();
          if (progress) progress(done, bytes);
          return writer.append(piece);
        }));
  }
  BALLAST_TRY_STATUS(writer.commit());
  if (context.json) {
    ordered_json json = {{"key", arguments.reference},
                         {"file", arguments.file},
                         {"dtype", quant::dtype_name(wanted.dtype)},
                         {"shape", wanted.shape},
                         {"codec", quant::codec_name(tensor.codec)},
                         {"bytes", bytes}};
    if (arguments.small && tensor.pruning) json["kept"] = tensor.pruning->kept_indices();
    print_json(json);
    return {};
  }
  fmt::print("{}: {} {}, {}\n", arguments.file, quant::dtype_name(wanted.dtype),
             shape_text(wanted.shape), human_bytes(bytes));
  return {};
}

Status get_raw(const Context& context, const GetArguments& arguments, client::Client& client,
               const StoredTensor& found) {
  if (!arguments.rows.empty())
    return fail(Errc::kInvalidArgument,
                "--rows goes with values; with --as raw the blocks come as they are, whole");
  BALLAST_TRY(const StoredTensor tensor, client.with_blocks(found));
  BALLAST_TRY(formats::PartialFile file, formats::PartialFile::create(arguments.file));
  {
    const client::Progress progress = progress_bar("get " + arguments.reference);
    uint64_t done = 0;
    BALLAST_TRY_STATUS(client.read_blocks(tensor, [&](std::span<const std::byte> block) {
      done += block.size();
      if (progress) progress(done, tensor.encoded_bytes);
      return file.append(block);
    }));
  }
  BALLAST_TRY_STATUS(file.commit());
  if (context.json) {
    ordered_json json = {{"key", arguments.reference}, {"file", arguments.file}};
    json.update(tensor_json(tensor));
    json["blocks"] = ordered_json::array();
    for (const client::BlockId& block : tensor.blocks)
      json["blocks"].push_back({{"sha256", block.digest.hex()}, {"bytes", block.length}});
    print_json(json);
    return {};
  }
  fmt::print("{}: {} {} as {}, {} in {} block{}\n", arguments.file, quant::dtype_name(tensor.dtype),
             shape_text(tensor.shape), quant::codec_name(tensor.codec),
             human_bytes(tensor.encoded_bytes), tensor.blocks.size(),
             tensor.blocks.size() == 1 ? "" : "s");
  return {};
}

Status get(const Context& context, const GetArguments& arguments) {
  BALLAST_TRY(const Reference reference, parse_reference(arguments.reference));
  const bool raw = arguments.as == "raw";
  client::ReadOptions options{.small = arguments.small};
  if (!raw) {
    BALLAST_TRY(options.as, parse_as(arguments.as));
  }
  BALLAST_TRY(options.read, client::parse_read_level(arguments.read));
  BALLAST_TRY(client::Client client, context.connect());
  BALLAST_TRY(const StoredTensor tensor,
              locate_tensor(client, reference, arguments.section, options.read));
  return raw ? get_raw(context, arguments, client, tensor)
             : get_values(context, arguments, client, tensor, options);
}

}  // namespace

void add_get_command(CLI::App& app, Context& context) {
  const auto command =
      add_command(app, context, "get", "write a key's array, or a tensor, to a file", get);
  command.app->add_option("KEY", command.arguments->reference, "or MODEL@prod/TENSOR")->required();
  command.app
      ->add_option("-o,--file,FILE.npy", command.arguments->file,
                   "the file; '-o json' stands before the command")
      ->required();
  command.app
      ->add_option("--rows", command.arguments->rows,
                   "these indexes of the first axis alone, as in Python (2:5, :5, 2:, --rows=-2:); "
                   "only their blocks are fetched")
      ->type_name("FIRST:END");
  command.app->add_option("--section", command.arguments->section,
                          "of the tensor, if several have it");
  command.app
      ->add_option("--as", command.arguments->as,
                   "f32, f16 or bf16; raw: the encoded blocks, one after the other; default: as it "
                   "was written")
      ->type_name("DTYPE");
  command.app->add_flag("--small", command.arguments->small,
                        "without the rows, columns or channels that pruning took out; '-o json' "
                        "says which are left");
  add_read_option(*command.app, command.arguments->read);
}

}  // namespace ballast::kvctl
