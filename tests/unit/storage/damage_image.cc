#include "tests/unit/storage/damage_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>

#include "proto/base/check.h"
#include "storage/log/record.h"
#include "storage/log/segment_file.h"

namespace ballast::storage {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kSector = 512;
// What a disk loses at once: single bytes, sectors, pages.
constexpr std::array<uint64_t, 5> kLengths{1, 16, kSector, 4096, 4 * 4096};

uint64_t pick(std::mt19937_64& random, uint64_t end) { return random() % end; }

std::string zero(Image& image, const Range& range, uint64_t at, std::mt19937_64& random) {
  std::string& file = image[range.file];
  const uint64_t length = std::min(kLengths[pick(random, kLengths.size())], file.size() - at);
  std::fill_n(file.begin() + static_cast<ptrdiff_t>(at), length, '\0');
  return fmt::format("{} bytes of {} at {} are zero", length, range.file, at);
}

// Two places of the same length that do not overlap.
std::string swap(Image& image, const Range& range, uint64_t at, const Range& with, uint64_t other,
                 std::mt19937_64& random) {
  std::string& a = image[range.file];
  std::string& b = image[with.file];
  uint64_t length = kLengths[pick(random, kLengths.size())];
  if (length >= kSector) {
    at -= at % kSector;
    other -= other % kSector;
  }
  length = std::min({length, a.size() - at, b.size() - other});
  if (&a == &b && at != other) length = std::min(length, at > other ? at - other : other - at);
  const auto from = a.begin() + static_cast<ptrdiff_t>(at);
  std::swap_ranges(from, from + static_cast<ptrdiff_t>(length),
                   b.begin() + static_cast<ptrdiff_t>(other));
  return fmt::format("{} bytes of {} at {} are exchanged with {} at {}", length, range.file, at,
                     with.file, other);
}

std::pair<const Range*, uint64_t> pick_place(const std::vector<Range>& ranges,
                                             std::mt19937_64& random) {
  const Range& range = ranges[pick(random, ranges.size())];
  return {&range, range.begin + pick(random, range.end - range.begin)};
}

}  // namespace

Image read_image(const std::string& directory) {
  Image image;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    image[fs::relative(entry.path(), directory)] =
        std::string(std::istreambuf_iterator<char>(file), {});
  }
  return image;
}

void write_image(const Image& image, const std::string& directory) {
  fs::remove_all(directory);
  for (const auto& [name, bytes] : image) {
    const fs::path path = directory + "/" + name;
    fs::create_directories(path.parent_path());
    const size_t last = bytes.find_last_not_of('\0');
    const size_t used = last == std::string::npos ? 0 : last + 1;
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(used));
    fs::resize_file(path, bytes.size());
  }
}

const char* damage_name(Damage damage) {
  switch (damage) {
    case Damage::kFlip: return "flip";
    case Damage::kTruncate: return "truncate";
    case Damage::kZero: return "zero";
    case Damage::kSwap: return "swap";
  }
  return "";
}

LogRanges log_ranges(const Image& image) {
  LogRanges ranges;
  for (const auto& [name, bytes] : image) {
    if (!name.starts_with("log/") || !parse_segment_name(name.substr(4))) continue;
    const auto span = std::as_bytes(std::span(bytes));
    if (!parse_segment_header(span)) {
      ranges.prepared.push_back({name, 0, bytes.size()});
      continue;
    }
    ranges.segment_headers.push_back({name, 0, kSegmentHeaderBytes});
    for (uint64_t at = kSegmentHeaderBytes; at < bytes.size();) {
      const auto record = parse_record_head(span.subspan(at));
      if (!record) break;
      const uint64_t head = record_head_bytes(record->entry.header_bytes);
      const uint32_t payload = record->entry.payload_bytes;
      ranges.heads.push_back({name, at, at + kRecordFixedBytes + record->entry.header_bytes});
      if (payload > 0) ranges.payloads.push_back({name, at + head, at + head + payload});
      at += record_bytes(record->entry.header_bytes, payload);
    }
  }
  return ranges;
}

bool log_tells_of(const Image& image, uint64_t serial) {
  for (const auto& [name, bytes] : image) {
    if (!name.starts_with("log/") || !parse_segment_name(name.substr(4))) continue;
    const auto span = std::as_bytes(std::span(bytes));
    const auto segment = parse_segment_header(span);
    if (segment && segment->chain.next_serial > serial) return true;
    for (uint64_t at = kSegmentHeaderBytes; at < bytes.size(); at += kDirectAlignment) {
      const auto record = parse_record_head(span.subspan(at));
      if (record && record->offset == at && segment_name(record->segment) == name.substr(4) &&
          record->batch > serial)
        return true;
    }
  }
  return false;
}

std::vector<Range> files_like(const Image& image, const std::string& prefix,
                              const std::string& suffix) {
  std::vector<Range> ranges;
  for (const auto& [name, bytes] : image)
    if (name.starts_with(prefix) && name.ends_with(suffix) && !bytes.empty())
      ranges.push_back({name, 0, bytes.size()});
  return ranges;
}

std::string strike(Image& image, const std::vector<Range>& ranges, Damage damage,
                   std::mt19937_64& random) {
  BALLAST_CHECK(!ranges.empty(), "the store has no such bytes");
  const auto [range, at] = pick_place(ranges, random);
  switch (damage) {
    case Damage::kFlip: {
      const int bit = static_cast<int>(pick(random, 8));
      char& byte = image[range->file][at];
      byte = static_cast<char>(byte ^ (1 << bit));
      return fmt::format("bit {} of {} at {} is flipped", bit, range->file, at);
    }
    case Damage::kTruncate:
      image[range->file].resize(at);
      return fmt::format("{} ends at {}", range->file, at);
    case Damage::kZero: return zero(image, *range, at, random);
    case Damage::kSwap: {
      const auto [with, other] = pick_place(ranges, random);
      return swap(image, *range, at, *with, other, random);
    }
  }
  return "";
}

}  // namespace ballast::storage
