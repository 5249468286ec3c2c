#include "xlstm/core/cache_request.h"

#include <atomic>

namespace xlstm {
namespace {

std::atomic<bool> requested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "used in signal handlers");

}  // namespace

void request_empty_cache() noexcept {
  requested.store(true);
}

bool take_empty_cache_request() noexcept {
  // Asked before every pass: a plain read is cheaper than an exchange.
  return requested.load(std::memory_order_relaxed) && requested.exchange(false);
}

}  // namespace xlstm
