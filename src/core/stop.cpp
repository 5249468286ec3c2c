#include "xlstm/core/stop.h"

#include <atomic>

namespace xlstm {
namespace {

std::atomic<StopReason> current{StopReason::kNone};
static_assert(std::atomic<StopReason>::is_always_lock_free, "used in signal handlers");

}  // namespace

bool request_stop(StopReason reason) noexcept {
  StopReason expected = StopReason::kNone;
  return current.compare_exchange_strong(expected, reason);
}

StopReason stop_reason() noexcept {
  return current.load(std::memory_order_relaxed);
}

void clear_stop() noexcept {
  current.store(StopReason::kNone);
}

}  // namespace xlstm
