// CRC32C (Castagnoli, polynomial 0x1EDC6F41, reflected), as in RFC 3720 appendix B.4.
//
// Chosen at the first call: the SSE4.2 crc32 instruction, three streams at a time, or a table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace ballast {

// The checksum of `bytes`; to go on from the checksum of what precedes them, pass it as `before`.
// crc32c(b, crc32c(a)) is the checksum of a followed by b. Thread-safe.
uint32_t crc32c(std::span<const std::byte> bytes, uint32_t before = 0);

// The same by the table alone: the reference that tests compare the instruction with.
uint32_t crc32c_portable(std::span<const std::byte> bytes, uint32_t before = 0);

}  // namespace ballast
