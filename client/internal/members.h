// The client's requests about members.
#pragma once

#include "client/client.h"
#include "client/internal/engine.h"

namespace ballast::client {

// As Client's functions of these names.
Result<Membership> membership(Engine& engine);
Result<MemberStep> change_members(Engine& engine, const MemberChange& change);
Result<Member> transfer_leadership(Engine& engine, const std::string& to);
Result<Member> drain(Engine& engine, const std::string& node, bool undo);

}  // namespace ballast::client
