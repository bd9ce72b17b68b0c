// ballastd's configuration: a TOML file (docs/configuration.md), and flags over it.
#pragma once

#include <chrono>
#include <string>

#include "proto/base/limits.h"
#include "proto/base/result.h"
#include "server/cluster.h"
#include "server/repair/scrub_options.h"

namespace ballast::server {

struct Config {
  ClusterConfig cluster;
  net::Endpoint listen;
  std::string data_directory;
  uint64_t segment_bytes = 256ull << 20;
  uint64_t log_keep_bytes = 1024ull << 20;
  uint64_t snapshot_bytes_per_second = 0;  // 0: as fast as it comes
  uint64_t write_buffer_bytes = 64ull << 20;
  uint64_t block_cache_bytes = 64ull << 20;
  uint64_t entry_cache_bytes = 64ull << 20;
  std::chrono::seconds upload_lease = limits::kUploadLease;
  ScrubOptions scrub;
  int worker_threads = 2;
};

// Reads and checks the file. Errors (kInvalidArgument, kIo) name the file, the line where there is
// one, the key, and what is allowed; a key that does not exist is an error.
Result<Config> load_config(const std::string& path);

// Without TLS a node listens on its own machine alone. Errors: kInvalidArgument.
Status check_listen(const net::Endpoint& listen);

}  // namespace ballast::server
