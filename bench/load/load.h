// Load on a cluster: each client has one call under way at a time, and begins the next when it
// ends, or when it is due.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/load/histogram.h"
#include "client/client.h"
#include "proto/base/result.h"

namespace ballast::load {

enum class Mix { kPut, kGet, kMixed };  // mixed: half of each, by chance

struct LoadOptions {
  std::vector<std::string> endpoints;
  Mix mix = Mix::kPut;
  uint64_t bytes = 1 << 20;  // of a tensor of f32 values: a multiple of 4
  client::CodecSpec codec;
  client::Ack ack = client::Ack::kSync;
  client::ReadLevel read = client::ReadLevel::kLinearizable;
  unsigned clients = 4;
  unsigned keys = 64;
  // Calls a second, of all clients together; 0: as fast as they can. The latency of a call then
  // counts from when it was due, so that one which is late makes those behind it late too.
  double rate = 0;
  std::chrono::milliseconds warm_up{1000};  // not counted
  std::chrono::milliseconds time{5000};
  client::milliseconds deadline{30'000};  // of each call
  std::string disk;  // a path on the disk whose counters are looked at; empty: none is
};

// What one kind of call did while it counted.
struct CallFigures {
  Histogram latency_ns;  // of those that succeeded
  uint64_t encoded_bytes = 0;
  std::map<std::string, uint64_t> errors;  // how many by code
  std::string first_error;

  uint64_t failed() const;
  void merge(const CallFigures& other);
};

struct LoadReport {
  CallFigures put;
  CallFigures get;
  double seconds = 0;  // that were counted
  // Written to the disk meanwhile, by whomever.
  std::optional<uint64_t> disk_bytes;
  std::string clean_up_error;
};

// Errors: what keeps the load from starting; calls that fail later are counted in the report.
Result<LoadReport> run_load(const LoadOptions& options);

}  // namespace ballast::load
