// Configuration entries in short, for tests.
#pragma once

#include <algorithm>
#include <string>

#include "proto/membership.pb.h"

namespace ballast::server {

// "1v 2o 3l": voter, outgoing, learner; "1vo" is both. Node N is nN at hN:1 with disk N.
inline pb::ConfigurationEntry entry_of(const std::string& text) {
  pb::ConfigurationEntry entry;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, end - at);
    pb::ConfigurationMember& member = *entry.add_members();
    member.set_id(std::stoull(word));
    member.set_name("n" + std::to_string(member.id()));
    member.set_address("h" + std::to_string(member.id()) + ":1");
    member.set_disk("disk " + std::to_string(member.id()));
    member.set_voter(word.find('v') != std::string::npos);
    member.set_outgoing(word.find('o') != std::string::npos);
    at = end + 1;
  }
  return entry;
}

}  // namespace ballast::server
