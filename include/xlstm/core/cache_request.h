// The request to give cached memory back: set by a signal or by the memory guard, served between passes by the thread
// that runs the device. One flag for the process; both functions are thread-safe, request_empty_cache() may be called
// from a signal handler.
#pragma once

namespace xlstm {

void request_empty_cache() noexcept;

// Whether there was a request; takes it back.
[[nodiscard]] bool take_empty_cache_request() noexcept;

}  // namespace xlstm
