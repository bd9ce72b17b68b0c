// The client's requests about what nobody needs any more.
#pragma once

#include <vector>

#include "client/client.h"
#include "client/internal/engine.h"

namespace ballast::client {

// As Client's functions of these names.
Result<std::vector<GarbageReport>> garbage(Engine& engine);
Result<Collected> collect_garbage(Engine& engine);

}  // namespace ballast::client
