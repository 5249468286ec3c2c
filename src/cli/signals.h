// Signals and how a run ends by them.
#pragma once

#include "xlstm/core/stop.h"

namespace xlstm {

// SIGINT and SIGTERM request a stop; the second one ends the process at once, without half-written files. SIGUSR1
// requests that cached memory be given back. SIGINT stays ignored where the parent process had it ignored, as shells do
// for background jobs. Failed writes to pipes and beyond size limits become errors instead of signals.
void install_signal_handlers();

// What a shell reports for a process that this reason ended: 130 or 143.
[[nodiscard]] int exit_status(StopReason reason);

[[nodiscard]] const char* signal_name(StopReason reason);

}  // namespace xlstm
