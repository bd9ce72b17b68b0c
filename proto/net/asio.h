// The one place that names Asio: the alias, and the token that makes errors values.
#pragma once

#include <boost/asio.hpp>
#include <utility>

namespace ballast {

namespace asio = boost::asio;
using boost::system::error_code;
using tcp = asio::ip::tcp;
using Clock = std::chrono::steady_clock;

// co_await operation(..., kToken) gives (error_code, value...) and never throws.
inline constexpr auto kToken = asio::as_tuple(asio::use_awaitable);

}  // namespace ballast
