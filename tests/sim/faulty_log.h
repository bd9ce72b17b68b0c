// The node's log, but that reading entries back fails now and then.
#pragma once

#include <functional>
#include <memory>

#include "storage/log/log_store.h"

namespace ballast::sim {

// `fails` is asked at each read, when it runs; the error is kIo.
std::unique_ptr<storage::LogStore> with_read_errors(std::unique_ptr<storage::LogStore> log,
                                                    std::function<bool()> fails);

}  // namespace ballast::sim
