// The parsers of the rows that are of one node alone, over any bytes: what is accepted is, to the
// byte, what the writer would have written, and counters never fall below zero.
//
// The first byte says which parser; what it needs beside the row comes next.
#include <cstring>
#include <string>

#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "storage/kv/block_rows.h"
#include "storage/kv/row_keys.h"
#include "storage/kv/segment_use.h"

namespace {

using namespace ballast;
using namespace ballast::storage;

uint64_t take_number(std::string_view& input) {
  uint64_t number = 0;
  const size_t bytes = std::min(input.size(), sizeof number);
  if (bytes > 0) std::memcpy(&number, input.data(), bytes);
  input.remove_prefix(bytes);
  return number;
}

void check_segment_use(std::string_view input) {
  const uint64_t sequence = take_number(input);
  const uint64_t bytes = take_number(input);
  const uint64_t blocks = take_number(input);
  const auto use = parse_segment_use(sequence, input);
  BALLAST_CHECK(use.has_value() == (input.size() == 16));
  if (!use) return;
  BALLAST_CHECK(use->sequence == sequence && segment_use_value(*use) == input);
  const auto less = use_without(*use, bytes, blocks);
  BALLAST_CHECK(less.has_value() == (bytes <= use->bytes && blocks <= use->blocks));
  if (less) {
    BALLAST_CHECK(less->bytes + bytes == use->bytes && less->blocks + blocks == use->blocks);
  }
}

void check_place(std::string_view input) {
  const auto row = parse_row<pb::PlaceRow>(input);
  if (!row) return;
  const Place place = place_of(*row);
  const auto again = parse_row<pb::PlaceRow>(place_row(place).SerializeAsString());
  BALLAST_CHECK(again && place_of(*again) == place);
}

// With the row of a block that is right, of one that has another length, and of any.
void check_bytes(std::string_view input) {
  pb::BlockRow block;
  block.set_length(static_cast<uint32_t>(take_number(input)));
  block.set_crc32c(static_cast<uint32_t>(take_number(input)));
  const Digest digest = sha256(as_byte_span(input));
  const auto parse = [&] { return check_bytes_row(Bytes::copy_of(input), digest, block); };
  const uint32_t crc = crc32c(as_byte_span(input));
  BALLAST_CHECK(parse().has_value() == (block.length() == input.size() && block.crc32c() == crc));
  block.set_length(static_cast<uint32_t>(input.size()));
  block.set_crc32c(crc);
  const auto bytes = parse();
  BALLAST_CHECK(bytes && bytes->text() == input);
  const BytesRow row = bytes_row(digest, *bytes);
  BALLAST_CHECK(row.value == input && row.key == bytes_key(digest));
  block.set_length(block.length() + 1);
  BALLAST_CHECK(!parse());
}

void check_keys(std::string_view input) {
  const uint64_t number = take_number(input);
  BALLAST_CHECK(number_behind(time_key(RowKind::kLease, number), 1) == number);
  BALLAST_CHECK(number_behind(segment_use_key(number), 1) == number);
  const std::string name(input);
  const std::string prefix = version_prefix(name);
  BALLAST_CHECK(number_behind(version_key(name, number), prefix.size()) == number);
  // The numbers' order is that of the keys, and a prefix's end is behind all that begin with it.
  BALLAST_CHECK(number == 0 || version_key(name, number - 1) < version_key(name, number));
  BALLAST_CHECK(version_key(name, number) < prefix_end(prefix) && prefix < prefix_end(prefix));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0: check_segment_use(input); break;
    case 1: check_place(input); break;
    case 2: check_bytes(input); break;
    default: check_keys(input); break;
  }
  return 0;
}
