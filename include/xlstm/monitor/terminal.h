// The monitor on a real terminal.
#pragma once

#include "xlstm/monitor/monitor_state.h"

namespace xlstm {

// Whether draw_screen() can be shown: standard output is a terminal.
[[nodiscard]] bool has_terminal();

// Takes over the terminal until the user quits, and restores it however it ends. Polls stop_requested(); Stopped is
// thrown then. Error kUsage if TERM names a terminal that cannot show a full screen, or if there are no keys to read.
void run_terminal(MonitorState state);

}  // namespace xlstm
