#include "storage/log/file_source.h"

#include <algorithm>

#include "proto/files/files.h"

namespace ballast::storage {
namespace {

constexpr size_t kWindowBytesMin = 16 << 10;
constexpr size_t kWindowBytesMax = 8 << 20;
static_assert(kRecordBytesMax <= kWindowBytesMax);

}  // namespace

FileSource::FileSource(const UniqueFd& file, uint64_t bytes)
    : file_(file), size_(bytes), window_(kWindowBytesMax), ahead_(kWindowBytesMin) {}

Result<std::span<const std::byte>> FileSource::fetch(uint64_t offset, size_t bytes) {
  bytes = std::min<uint64_t>(bytes, size_ - std::min(offset, size_));
  if (bytes == 0) return std::span<const std::byte>();
  if (offset < start_ || offset + bytes > start_ + filled_) {
    const bool onward = offset >= start_ && offset <= start_ + filled_;
    ahead_ = onward ? std::min(2 * ahead_, kWindowBytesMax) : kWindowBytesMin;
    start_ = offset;
    filled_ = std::min<uint64_t>(std::max(ahead_, direct_round_up(bytes)), size_ - offset);
    BALLAST_TRY_STATUS(read_fully(file_, window_.span().first(filled_), offset));
  }
  return std::span<const std::byte>(window_.span()).subspan(offset - start_, bytes);
}

}  // namespace ballast::storage
