#include <algorithm>
#include <array>
#include <deque>
#include <string>

#include "src/monitor/canvas.h"
#include "src/monitor/views.h"
#include "xlstm/core/str.h"
#include "xlstm/monitor/report.h"

namespace xlstm {
namespace {

enum class Field {
  kPid,
  kCommand,
  kModel,
  kDevice,
  kDtype,
  kPhase,
  kBar,
  kPercent,
  kSpeed,
  kCurve,
  kMemory,
  kDeviceMemory,
  kProfile
};

// How a column gets its width on a screen that is wide enough for it.
struct ColumnRule {
  Field field;
  const char* heading;
  Align align;
  size_t width;     // when it is shown
  size_t most;      // as wide as it grows when cells are left
  int order_shown;  // columns with 0 are always there, the others come in this order
};

// From left to right. The widths of the first are for 80 columns.
constexpr std::array kRules = {
    ColumnRule{Field::kPid, "PID", Align::kRight, 7, 7, 0},
    ColumnRule{Field::kCommand, "COMMAND", Align::kLeft, 10, 10, 4},
    ColumnRule{Field::kModel, "MODEL", Align::kLeft, 10, 20, 0},
    ColumnRule{Field::kDevice, "DEVICE", Align::kLeft, 6, 6, 2},
    ColumnRule{Field::kDtype, "DTYPE", Align::kLeft, 8, 8, 5},
    ColumnRule{Field::kPhase, "PHASE", Align::kLeft, 8, 8, 0},
    ColumnRule{Field::kBar, "", Align::kLeft, 7, 12, 1},
    ColumnRule{Field::kPercent, "DONE", Align::kRight, 4, 4, 0},
    ColumnRule{Field::kSpeed, "TOK/S", Align::kRight, 7, 7, 0},
    ColumnRule{Field::kCurve, "", Align::kLeft, 8, 16, 3},
    ColumnRule{Field::kMemory, "RSS ", Align::kRight, 9, 9, 0},
    ColumnRule{Field::kDeviceMemory, "DEV MEM ", Align::kRight, 9, 9, 6},
    ColumnRule{Field::kProfile, "PROFILE", Align::kLeft, 14, 20, 7},
};
constexpr std::array kGrowFirst = {Field::kModel, Field::kProfile, Field::kBar, Field::kCurve};
constexpr size_t kMarker = 2;  // cells before the first column

using Widths = std::array<size_t, kRules.size()>;  // 0: not shown

// Shows columns in their order until one does not fit; gives what is left to those that can grow.
Widths column_widths(size_t columns) {
  Widths widths{};
  size_t used = kMarker - 1;  // each column takes its width and a blank before it
  bool fits = true;
  for (int order = 0; order <= static_cast<int>(kRules.size()); ++order) {
    for (size_t i = 0; i < kRules.size(); ++i) {
      const ColumnRule& rule = kRules[i];
      if (rule.order_shown != order) continue;
      fits = fits && used + 1 + rule.width <= columns;
      if (!fits) continue;
      widths[i] = rule.width;
      used += 1 + rule.width;
    }
  }
  for (const Field field : kGrowFirst) {
    for (size_t i = 0; i < kRules.size(); ++i) {
      if (kRules[i].field != field || widths[i] == 0) continue;
      const size_t more = std::min(kRules[i].most - kRules[i].width, columns - used);
      widths[i] += more;
      used += more;
    }
  }
  return widths;
}

// A sum over the line says without colour that a line has been crossed.
std::string flagged(double mb, MemoryMark level) {
  if (mb <= 0) return "- ";
  return cat(size_text(mb), level == MemoryMark::kBelow ? " " : "!");
}

struct Cell {
  std::string text;
  Style style = Style::kPlain;
};

Cell cell_of(Field field, const RunningProcess& process, const std::deque<double>& speeds, const ViewSize& cell) {
  const RunRecord& r = process.record;
  const bool silent = process.silent_s >= kSilentAfter;
  switch (field) {
    case Field::kPid: return {std::to_string(r.pid)};
    case Field::kCommand: return {r.command};
    case Field::kModel: return {r.model, Style::kBold};
    case Field::kDevice: return {r.device};
    case Field::kDtype: return {r.dtype};
    case Field::kPhase: return silent ? Cell{"silent", Style::kWarn} : Cell{r.phase};
    case Field::kBar: return r.total > 0 ? Cell{bar(done_share(r), cell.columns, cell.charset), Style::kGood} : Cell{};
    case Field::kPercent: return {progress_text(r)};
    case Field::kSpeed: return {silent ? "-" : speed_text(r.tok_s), Style::kBold};
    case Field::kCurve: return {sparkline(speeds, cell.columns, cell.charset), Style::kGood};
    case Field::kMemory: return {flagged(r.rss_mb, host_memory_mark(r)), style_of(host_memory_mark(r))};
    case Field::kDeviceMemory: return {flagged(r.device_mb, device_memory_mark(r)), style_of(device_memory_mark(r))};
    case Field::kProfile: return {r.profile};
  }
  return {};
}

ScreenLine draw_headings(const Widths& widths, const ViewSize& size) {
  LineBuilder line(size.columns, size.charset, true);
  line.skip_to(kMarker - 1);
  for (size_t i = 0; i < kRules.size(); ++i) {
    if (widths[i] > 0) line.add(" ").add_fit(kRules[i].heading, widths[i], Style::kBold, kRules[i].align);
  }
  return line.finish();
}

}  // namespace

std::vector<ScreenLine> draw_list(const MonitorState& state, const ViewSize& size) {
  const auto& processes = state.look.processes;
  const Widths widths = column_widths(size.columns);
  std::vector<ScreenLine> lines = {draw_headings(widths, size)};
  const size_t visible = std::min(processes.size(), size.rows - 1);
  const size_t selected = selected_index(state);
  const size_t first = selected < visible ? 0 : selected - visible + 1;
  for (size_t row = first; row < first + visible; ++row) {
    const RunningProcess& process = processes[row];
    const std::deque<double>& history = speeds_of(state, process.record);
    LineBuilder line(size.columns, size.charset, row == selected);
    line.add_fit(row != selected ? "" : size.charset == Charset::kUnicode ? "▸" : ">", kMarker - 1);
    for (size_t i = 0; i < kRules.size(); ++i) {
      if (widths[i] == 0) continue;
      const Cell cell = cell_of(kRules[i].field, process, history, {1, widths[i], size.charset});
      line.add(" ").add_fit(cell.text, widths[i], cell.style, kRules[i].align);
    }
    lines.push_back(line.finish());
  }
  return lines;
}

}  // namespace xlstm
