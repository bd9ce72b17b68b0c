// How fresh a replica's rows are: pure bookkeeping of its ReadIndex probes.
//
// The primary answers a probe with an index that covers everything that was acknowledged before the
// probe was sent. So once that much is applied, the rows are as fresh as that moment, by this
// node's own clock and however long the answer took.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>

#include "proto/base/clock.h"
#include "proto/base/strong_int.h"

namespace ballast::server {

class Freshness {
 public:
  using Time = BootClock::time_point;

  // A probe without an answer for longer than this is taken for lost when the next one leaves.
  static constexpr std::chrono::seconds kAnswerPatience{10};

  // The node starts with this much applied, and knows nothing of its age.
  explicit Freshness(Index applied) : applied_(applied) {}

  // A probe leaves. REQUIRES: neither `id` nor `at` is less than that of an earlier probe.
  void sent(uint64_t id, Time at);
  // Its answer: the rows must hold this index. Answers may come in any order.
  void confirmed(uint64_t id, Index index);
  // There will be no answer to it.
  void refused(uint64_t id);
  // The rows hold this much.
  void applied(Index index);

  // The rows hold everything that was acknowledged before this moment; none: it is not known.
  std::optional<Time> shown() const { return shown_; }
  bool shows(Time moment) const { return shown_ && *shown_ >= moment; }
  // They may come to show the moment by a probe that is under way already.
  bool expects(Time moment) const;

 private:
  void show(Time moment);

  Index applied_;
  std::optional<Time> shown_;
  std::map<uint64_t, Time> asked_;   // without an answer, by id
  std::map<Index, Time> confirmed_;  // not applied yet: the newest probe for each index
};

}  // namespace ballast::server
