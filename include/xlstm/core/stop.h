// The request to end a run early: set by signals and by the memory guard, polled between steps of work.
//
// There is one flag for the process, as signals are the process's. Everything here may be called from any thread, and
// request() from a signal handler.
#pragma once

namespace xlstm {

enum class StopReason { kNone, kInterrupt, kTerminate, kMemory };

// Asks for an end; the first reason stays. Returns false if an end had been asked for before.
bool request_stop(StopReason reason) noexcept;

// kNone as long as the run may go on.
[[nodiscard]] StopReason stop_reason() noexcept;
[[nodiscard]] inline bool stop_requested() noexcept {
  return stop_reason() != StopReason::kNone;
}

// Takes the request back; for tests and for work that goes on after a stopped part.
void clear_stop() noexcept;

// Thrown by work that ends half-way, with nothing to keep, because a stop was requested.
struct Stopped {
  StopReason reason = StopReason::kNone;
};

// Throws Stopped if an end was asked for.
inline void throw_if_stopped() {
  if (const StopReason reason = stop_reason(); reason != StopReason::kNone) throw Stopped{reason};
}

}  // namespace xlstm
