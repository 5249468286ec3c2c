// The monitor's screen as text: a pure function of its state, so that it is tested without a terminal.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "xlstm/monitor/monitor_state.h"

namespace xlstm {

enum class Style { kPlain, kBold, kDim, kGood, kWarn, kBad };

struct StyledText {
  std::string text;
  Style style = Style::kPlain;
  bool reverse = false;
};
using ScreenLine = std::vector<StyledText>;

struct ScreenOptions {
  size_t rows = 24;
  size_t columns = 80;
  bool unicode = true;  // false: ASCII only
};

// Below this the screen only says that it is too small.
inline constexpr size_t kMinRows = 8;
inline constexpr size_t kMinColumns = 56;

// Exactly `rows` lines of at most `columns` cells each.
[[nodiscard]] std::vector<ScreenLine> draw_screen(const MonitorState& state, const ScreenOptions& options);

}  // namespace xlstm
