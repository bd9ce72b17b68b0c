// Every limit that more than one room relies on, and how they relate.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace ballast::limits {

inline constexpr size_t kKiB = 1024;
inline constexpr size_t kMiB = 1024 * kKiB;

// Names and shapes
inline constexpr size_t kKeyBytesMax = 1024;
inline constexpr size_t kTensorRankMax = 16;
inline constexpr uint64_t kTensorValuesMax = uint64_t{1} << 48;
inline constexpr size_t kTensorsPerVersionMax = 1'000'000;
inline constexpr size_t kBlocksPerCommitMax = 1'000'000;  // block references that a commit adds
inline constexpr size_t kMetadataBytesMax = 1 * kMiB;
inline constexpr size_t kAliasHistoryMax = 64;

// Blocks and chunks
inline constexpr size_t kChunkValues = 128 * kKiB;     // values in a chunk, the codec's unit
inline constexpr size_t kBlockBytesTarget = 1 * kMiB;  // where the client cuts
inline constexpr size_t kBlockBytesMax = 4 * kMiB;
inline constexpr size_t kInlineBlocksMax = 256;  // block references beside a tensor; more
                                                 // of them go into a block of their own
// Tensors that are stored as differences to others: to read one, all of them are read.
inline constexpr size_t kBaseDepthMax = 8;

// Frames
inline constexpr size_t kFrameHeaderBytesMax = 64 * kKiB;
inline constexpr size_t kFramePayloadBytesMax = kBlockBytesMax;
inline constexpr size_t kEntryHeaderBytesMax = 56 * kKiB;  // leaves room for the frame around it
inline constexpr size_t kDigestsPerQueryMax = 1024;
inline constexpr size_t kListPageMax = 1000;
inline constexpr size_t kListPageBytesMax = 48 * kKiB;

// Flow control
inline constexpr size_t kInflightEntriesMax = 64;           // per follower
inline constexpr size_t kInflightBytesMax = 64 * kMiB;      // per follower
inline constexpr size_t kUncommittedBytesMax = 256 * kMiB;  // per group
inline constexpr size_t kReceiveBytesMax = 256 * kMiB;      // per node
inline constexpr size_t kConnectionsMax = 1024;             // per node
inline constexpr size_t kRequestsPerConnectionMax = 64;
inline constexpr size_t kReplyBytesMax = 192 * kMiB;  // blocks on their way to clients, per node
inline constexpr size_t kErrorMessageBytesMax = 1000;
inline constexpr size_t kDamagedReportedMax = 1000;      // blocks in one reply
inline constexpr size_t kSendQueueBytesMax = 64 * kMiB;  // per connection
inline constexpr size_t kApplyBatchBytesMax = 16 * kMiB;
inline constexpr size_t kSessionsMax = 65'536;

// Time
inline constexpr std::chrono::milliseconds kTick{10};
inline constexpr int kHeartbeatTicks = 10;    // 100 ms
inline constexpr int kElectionTicksMin = 60;  // uniform in [600, 1200) ms
inline constexpr int kElectionTicksMax = 120;
// The oldest log write has been under way for so long: the primary hands over; the node stops.
inline constexpr std::chrono::seconds kDiskStalled{1};
inline constexpr std::chrono::seconds kDiskDead{10};
inline constexpr std::chrono::seconds kRequestDeadlineMax{3600};
// What a bounded read may ask for.
inline constexpr std::chrono::milliseconds kStalenessMin{1};
inline constexpr std::chrono::hours kStalenessMax{1};
inline constexpr std::chrono::hours kUploadLease{1};
inline constexpr std::chrono::hours kSessionLease{24};

static_assert(kBlockBytesTarget <= kBlockBytesMax);
static_assert(kBlockBytesMax <= kFramePayloadBytesMax);
static_assert(kEntryHeaderBytesMax < kFrameHeaderBytesMax);
static_assert(kInflightBytesMax <= kUncommittedBytesMax);
static_assert(kInlineBlocksMax * 48 < kEntryHeaderBytesMax);
static_assert(kDigestsPerQueryMax * 34 < kFrameHeaderBytesMax);
static_assert(kListPageBytesMax < kFrameHeaderBytesMax);
static_assert(kDamagedReportedMax * 34 < kFrameHeaderBytesMax);
static_assert(kHeartbeatTicks * 3 < kElectionTicksMin);
static_assert(kRequestDeadlineMax < kSessionLease, "a retry must find the session it began with");
static_assert(kRequestDeadlineMax <= kUploadLease);

}  // namespace ballast::limits
