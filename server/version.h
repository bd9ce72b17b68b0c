#pragma once

namespace ballast::server {

inline constexpr const char* kVersion = BALLAST_VERSION;

}  // namespace ballast::server
