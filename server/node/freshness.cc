#include "server/node/freshness.h"

#include <algorithm>

#include "proto/base/planted.h"

namespace ballast::server {

void Freshness::sent(uint64_t id, Time at) {
  asked_.emplace_hint(asked_.end(), id, at);
  while (asked_.begin()->second + kAnswerPatience < at) asked_.erase(asked_.begin());
}

void Freshness::confirmed(uint64_t id, Index index) {
  const auto asked = asked_.find(id);
  if (asked == asked_.end()) return;
  const Time at = BALLAST_PLANTED(kFreshSinceAnswer) ? BootClock::now() : asked->second;
  asked_.erase(asked);
  if (index <= applied_ || BALLAST_PLANTED(kFreshBeforeApplied)) return show(at);
  Time& newest = confirmed_.try_emplace(index, at).first->second;
  newest = std::max(newest, at);
}

void Freshness::refused(uint64_t id) { asked_.erase(id); }

void Freshness::applied(Index index) {
  applied_ = index;
  while (!confirmed_.empty() && confirmed_.begin()->first <= applied_) {
    show(confirmed_.begin()->second);
    confirmed_.erase(confirmed_.begin());
  }
}

bool Freshness::expects(Time moment) const {
  if (!asked_.empty() && asked_.rbegin()->second >= moment) return true;
  return std::ranges::any_of(confirmed_, [&](const auto& each) { return each.second >= moment; });
}

void Freshness::show(Time moment) { shown_ = std::max(shown_.value_or(moment), moment); }

}  // namespace ballast::server
