// The files of a data directory in memory, and one damaged place in a copy of them.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace ballast::storage {

// Contents by path below the directory, "log/00000000000000000001.log".
using Image = std::map<std::string, std::string>;

Image read_image(const std::string& directory);
// Makes the directory anew. Zeros at the end of a file become a hole.
void write_image(const Image& image, const std::string& directory);

enum class Damage { kFlip, kTruncate, kZero, kSwap };
const char* damage_name(Damage damage);

// Where damage may strike.
struct Range {
  std::string file;
  uint64_t begin = 0;
  uint64_t end = 0;
};

// The segments in use by what their bytes are, and the one that is prepared.
struct LogRanges {
  std::vector<Range> segment_headers, heads, payloads, prepared;
};
LogRanges log_ranges(const Image& image);
// Whether a record, or the header of a segment, says that the record of this serial was durable.
bool log_tells_of(const Image& image, uint64_t serial);
// Whole files whose names begin so.
std::vector<Range> files_like(const Image& image, const std::string& prefix,
                              const std::string& suffix = "");

// Damages a random place of one of the ranges, and returns what was done, for a person.
// kTruncate ends the file there; kSwap exchanges two places of the ranges' files.
std::string strike(Image& image, const std::vector<Range>& ranges, Damage damage,
                   std::mt19937_64& random);

}  // namespace ballast::storage
