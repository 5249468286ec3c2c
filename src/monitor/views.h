// The parts of the screen: the list of processes and the panel about the selected one.
#pragma once

#include <cstddef>
#include <vector>

#include "src/monitor/cells.h"
#include "xlstm/monitor/monitor_state.h"
#include "xlstm/monitor/screen.h"

namespace xlstm {

struct ViewSize {
  size_t rows = 0;
  size_t columns = 0;
  Charset charset = Charset::kUnicode;
};

// The headings and `rows` - 1 processes or fewer, the selected one among them. 2 rows or more.
[[nodiscard]] std::vector<ScreenLine> draw_list(const MonitorState& state, const ViewSize& size);

// Everything about one process, `rows` lines or fewer, the most important first, then its curve.
[[nodiscard]] std::vector<ScreenLine> draw_details(const RunningProcess& process, const std::deque<double>& speeds,
                                                   const ViewSize& size);

// What the panel makes use of.
inline constexpr size_t kFewestDetailRows = 4;
inline constexpr size_t kMostDetailRows = 23;

[[nodiscard]] inline Style style_of(MemoryMark level) {
  return level == MemoryMark::kHard ? Style::kBad : level == MemoryMark::kSoft ? Style::kWarn : Style::kPlain;
}

}  // namespace xlstm
