#include <algorithm>
#include <cmath>
#include <string>

#include "src/monitor/canvas.h"
#include "src/monitor/views.h"
#include "xlstm/core/str.h"
#include "xlstm/monitor/report.h"

namespace xlstm {
namespace {

constexpr size_t kLabel = 12;  // cells before the values
constexpr size_t kMaxCurveRows = 16;

// "0:07", "12:30", "1:02:03"
std::string duration_text(double seconds) {
  constexpr double kMost = 1e9;  // some 30 years
  const auto whole = static_cast<int64_t>(std::clamp(seconds, 0.0, kMost));
  const auto two = [](int64_t value) { return cat(value < 10 ? "0" : "", value); };
  if (whole < 3600) return cat(whole / 60, ':', two(whole % 60));
  return cat(whole / 3600, ':', two(whole / 60 % 60), ':', two(whole % 60));
}

class DetailPainter {
 public:
  DetailPainter(const RunningProcess& process, const ViewSize& size)
      : process_(process), record_(process.record), size_(size), unicode_(size.charset == Charset::kUnicode) {}

  ScreenLine title() const {
    LineBuilder line(size_.columns, size_.charset);
    const char* rule = unicode_ ? "─" : "-";
    line.add(rule, Style::kDim).add(rule, Style::kDim).add(" ");
    line.add(cat(record_.pid, ' ', record_.command, ' '), Style::kBold).add(record_.model, Style::kBold).add(" ");
    while (line.room() > 0) line.add(rule, Style::kDim);
    return line.finish();
  }

  ScreenLine progress() const {
    LineBuilder line = labelled("phase");
    if (process_.silent_s >= kSilentAfter) {
      line.add(cat(record_.phase, separator(), "no sign of life for ", duration_text(process_.silent_s),
                   ": stopped or hanging"),
               Style::kWarn);
      return line.finish();
    }
    line.add_fit(record_.phase, 9, Style::kBold);
    if (record_.total > 0) {
      line.add(bar(done_share(record_), bar_width(), size_.charset), Style::kGood).add(" ");
      line.add(cat(progress_text(record_), separator()), Style::kBold);
    }
    line.add(done_text(record_));
    if (record_.done > 0 && record_.total > record_.done) {
      const double left = record_.phase_s * static_cast<double>(record_.total - record_.done);
      line.add(cat(separator(), duration_text(left / static_cast<double>(record_.done)), " left"));
    }
    return line.finish();
  }

  ScreenLine speed(const std::deque<double>& speeds) const {
    LineBuilder line = labelled("tok/s");
    const double top = speeds.empty() ? 0 : *std::max_element(speeds.begin(), speeds.end());
    line.add_fit(speed_text(record_.tok_s), 9, Style::kBold);
    line.add(cat(speed_text(record_.tok_s_phase), " over the phase", separator(), "at most ", speed_text(top)));
    return line.finish();
  }

  ScreenLine memory() const {
    LineBuilder line = labelled("memory");
    if (record_.anon_mb <= 0 && record_.rss_mb <= 0) return line.add("not known", Style::kDim).finish();
    const double own = record_.anon_mb;
    memory_values(line, own, record_.soft_mb, record_.hard_mb);
    line.add_whole(cat(separator(), "RSS ", size_text(record_.rss_mb)));
    return line.finish();
  }

  bool has_device_memory() const { return record_.device_mb > 0; }
  ScreenLine device_memory() const {
    LineBuilder line = labelled("device mem");
    memory_values(line, record_.device_mb, record_.device_soft_mb, record_.device_hard_mb);
    return line.finish();
  }

  ScreenLine device() const {
    LineBuilder line = labelled("device");
    line.add(record_.device).add(separator()).add(record_.dtype).add(separator()).add(record_.kernel);
    line.add_right(cat("version ", record_.version), Style::kDim);
    return line.finish();
  }

  ScreenLine profile(double time) const {
    LineBuilder line = labelled("profile");
    line.add(record_.profile.empty() ? "-" : record_.profile);
    line.add(cat(separator(), "running ", duration_text(time - record_.started), separator(), record_.prompt_tokens,
                 " prompt + ", record_.decoded_tokens, " new tokens"));
    return line.finish();
  }

  // `rows` of them; the scale is in the label column.
  std::vector<ScreenLine> speed_curve(const std::deque<double>& speeds, size_t rows) const {
    std::vector<ScreenLine> lines;
    const size_t width = size_.columns > kLabel ? size_.columns - kLabel : 0;
    const size_t count = std::min(width, speeds.size());
    const auto begin = speeds.end() - static_cast<std::ptrdiff_t>(count);
    const double top = count == 0 ? 0 : *std::max_element(begin, speeds.end());
    const std::vector<std::string> drawn = curve(speeds, width, rows, size_.charset);
    for (size_t row = 0; row < rows; ++row) {
      LineBuilder line(size_.columns, size_.charset);
      const std::string scale = row == 0 ? speed_text(top) : row + 1 == rows ? "0" : "";
      line.add_fit(scale, kLabel - 2, Style::kDim, Align::kRight);
      line.add(row == 0 || row + 1 == rows ? (unicode_ ? "┤" : "+") : (unicode_ ? "│" : "|"), Style::kDim)
          .skip_to(kLabel);
      lines.push_back(line.add(drawn[row], Style::kGood).finish());
    }
    return lines;
  }

 private:
  LineBuilder labelled(std::string_view label) const {
    LineBuilder line(size_.columns, size_.charset);
    line.add_fit(label, kLabel - 2, Style::kDim, Align::kRight).skip_to(kLabel);
    return line;
  }

  std::string separator() const { return unicode_ ? " · " : ", "; }
  size_t bar_width() const { return std::clamp<size_t>(size_.columns / 5, 8, 40); }

  // A bar with the guard's lines on it, then the numbers.
  void memory_values(LineBuilder& line, double mb, double soft_mb, double hard_mb) const {
    const MemoryMark level = memory_mark(mb, soft_mb, hard_mb);
    const double line_mb = std::max(soft_mb, hard_mb);
    const char* flag = level == MemoryMark::kBelow ? "" : "!";
    line.add_fit(cat(size_text(mb), flag), 9, level == MemoryMark::kBelow ? Style::kBold : style_of(level));
    if (line_mb > 0) {
      marked_bar(line, mb, soft_mb, hard_mb);
      if (soft_mb > 0) line.add(cat(" soft ", size_text(soft_mb)), Style::kWarn);
      if (hard_mb > 0) line.add(cat(soft_mb > 0 ? separator() : " ", "hard ", size_text(hard_mb)), Style::kBad);
    }
    if (level == MemoryMark::kSoft) line.add_whole("  over the soft line", Style::kWarn);
    if (level == MemoryMark::kHard) line.add_whole("  over the hard line", Style::kBad);
  }

  void marked_bar(LineBuilder& line, double mb, double soft_mb, double hard_mb) const {
    constexpr double kBeyond = 1.1;  // room to the right of the last line
    const size_t width = bar_width();
    const double scale = std::max(std::max(soft_mb, hard_mb) * kBeyond, mb) / static_cast<double>(width);
    const auto place = [&](double value) { return static_cast<size_t>(std::min(value / scale, 1e6)); };
    const size_t filled = std::min(width, std::max<size_t>(mb > 0 ? 1 : 0, place(mb)));
    const Style style = style_of(memory_mark(mb, soft_mb, hard_mb));
    for (size_t i = 0; i < width; ++i) {
      if (hard_mb > 0 && i == place(hard_mb)) {
        line.add(unicode_ ? "┃" : "|", Style::kBad);
      } else if (soft_mb > 0 && i == place(soft_mb)) {
        line.add(unicode_ ? "│" : ":", Style::kWarn);
      } else if (i < filled) {
        line.add(unicode_ ? "█" : "#", style == Style::kPlain ? Style::kGood : style);
      } else {
        line.add(unicode_ ? "░" : "-", Style::kDim);
      }
    }
  }

  const RunningProcess& process_;
  const RunRecord& record_;
  const ViewSize size_;
  const bool unicode_;
};

}  // namespace

std::vector<ScreenLine> draw_details(const RunningProcess& process, const std::deque<double>& speeds,
                                     const ViewSize& size) {
  const DetailPainter painter(process, size);
  std::vector<ScreenLine> lines = {painter.title(), painter.progress(), painter.speed(speeds), painter.memory()};
  if (painter.has_device_memory()) lines.push_back(painter.device_memory());
  lines.push_back(painter.device());
  lines.push_back(painter.profile(process.record.written + process.silent_s));
  if (lines.size() > size.rows) lines.resize(size.rows);
  constexpr size_t kFewestCurveRows = 2;
  const size_t left = std::min(kMaxCurveRows, size.rows - lines.size());
  if (left >= kFewestCurveRows) {
    for (ScreenLine& line : painter.speed_curve(speeds, left)) lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace xlstm
