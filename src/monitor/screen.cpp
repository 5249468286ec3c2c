#include "xlstm/monitor/screen.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <map>
#include <string_view>

#include "src/monitor/canvas.h"
#include "src/monitor/views.h"
#include "xlstm/core/str.h"
#include "xlstm/monitor/report.h"

namespace xlstm {
namespace {

struct KeyHelp {
  const char* key;
  const char* in_footer;  // empty: only in the help
  const char* in_help;
};
constexpr std::array kKeys = {
    KeyHelp{"q", "quit", "quit"},
    KeyHelp{"h", "help", "this help (also ?); any key closes it"},
    KeyHelp{"s", "sort", "sort by the next of: pid, model, phase, tok_s, memory"},
    KeyHelp{"p", "pause", "pause and go on (also the space bar)"},
    KeyHelp{"t", "terminate", "end the selected process after its current step (SIGTERM); asks first"},
    KeyHelp{"e", "empty cache", "make the selected process empty its device cache (SIGUSR1)"},
    KeyHelp{"+/-", "interval", "more or less time between two looks"},
    KeyHelp{"up/down", "", "select a process (also j, k, page up, page down, home, end)"},
};
constexpr std::array kNotes = {
    "RSS      memory in use, mapped files included; ! is over a line of the guard",
    "memory   what the guard counts against its lines: without mapped files",
    "silent   the process has written nothing for 10 s: it is stopped or hangs",
};

std::string clock_text(double time) {
  const auto seconds = static_cast<std::time_t>(time);
  std::tm local{};
  if (::localtime_r(&seconds, &local) == nullptr) return "";
  std::array<char, 16> text{};
  return {text.data(), std::strftime(text.data(), text.size(), "%H:%M:%S", &local)};
}

class ScreenPainter {
 public:
  ScreenPainter(const MonitorState& state, const ScreenOptions& options)
      : state_(state),
        rows_(options.rows),
        columns_(options.columns),
        charset_(options.unicode ? Charset::kUnicode : Charset::kAscii),
        separator_(options.unicode ? " · " : ", ") {}

  std::vector<ScreenLine> draw() {
    if (rows_ < kMinRows || columns_ < kMinColumns) {
      put(line().add(cat("too small: ", columns_, "x", rows_, ", needs ", kMinColumns, "x", kMinRows)).finish());
      return finish();
    }
    put(title());
    put(totals());
    if (state_.help) {
      help();
    } else if (state_.look.processes.empty()) {
      nothing();
    } else {
      processes();
    }
    lines_.resize(rows_ - 1);
    put(footer());
    return finish();
  }

 private:
  [[nodiscard]] LineBuilder line() const { return {columns_, charset_}; }
  void put(ScreenLine text) { lines_.push_back(std::move(text)); }

  std::vector<ScreenLine> finish() {
    lines_.resize(rows_);
    return std::move(lines_);
  }

  ScreenLine title() const {
    LineBuilder text = line();
    text.add("xlstm_generate monitor", Style::kBold);
    const size_t count = state_.look.processes.size();
    text.add(cat("   ", count, count == 1 ? " process" : " processes"));
    if (state_.paused) text.add("   PAUSED", Style::kWarn);
    text.add_right(cat("sort ", sort_key_name(state_.sort), separator_, "every ", state_.interval, " s", separator_,
                       clock_text(state_.look.time)));
    return text.finish();
  }

  // How many are in each phase, and their sums.
  ScreenLine totals() const {
    LineBuilder text = line();
    if (state_.look.processes.empty()) return text.finish();
    std::map<std::string, size_t> phases;
    double tok_s = 0;
    double rss_mb = 0;
    double device_mb = 0;
    for (const RunningProcess& process : state_.look.processes) {
      const bool silent = process.silent_s >= kSilentAfter;
      ++phases[silent ? "silent" : process.record.phase];
      if (!silent) tok_s += process.record.tok_s;
      rss_mb += process.record.rss_mb;
      device_mb += process.record.device_mb;
    }
    std::string counts;
    for (const auto& [phase, count] : phases) counts += cat(counts.empty() ? "" : separator_, count, " ", phase);
    text.add(counts, Style::kDim);
    std::string sums = cat("together ", speed_text(tok_s), " tok/s", separator_, "RSS ", size_text(rss_mb));
    if (device_mb > 0) sums += cat(separator_, "device ", size_text(device_mb));
    text.add_right(sums, Style::kDim);
    return text.finish();
  }

  void nothing() {
    while (lines_.size() + 2 < rows_ / 2) put({});
    centred(kNoProcess, Style::kBold);
    centred("start one in another terminal and it appears here", Style::kDim);
    for (const std::string& problem : state_.look.problems) put(line().add(problem, Style::kWarn).finish());
  }

  void centred(std::string_view text, Style style) {
    LineBuilder builder = line();
    builder.skip_to((columns_ - std::min(columns_, cell_width(text))) / 2);
    put(builder.add(text, style).finish());
  }

  void help() {
    put({});
    for (const KeyHelp& key : kKeys) {
      put(line().add("  ").add_fit(key.key, 9, Style::kBold).add(key.in_help).finish());
    }
    put({});
    for (const char* note : kNotes) put(line().add("  ").add(note, Style::kDim).finish());
  }

  void processes() {
    const size_t room = rows_ - lines_.size() - 1;           // but for the footer
    const size_t wanted = state_.look.processes.size() + 2;  // with headings and an empty line
    constexpr size_t kFewestListRows = 3;
    size_t list_rows = std::min(room, std::max(wanted, kFewestListRows));
    // The panel gets what the list leaves, and at least half if it can make use of that.
    size_t detail_rows = std::min(kMostDetailRows, std::max(room - list_rows, room / 2));
    if (room - detail_rows < kFewestListRows || detail_rows < kFewestDetailRows) detail_rows = 0;
    list_rows = std::min(list_rows, room - detail_rows);

    for (ScreenLine& text : draw_list(state_, {list_rows, columns_, charset_})) put(std::move(text));
    if (detail_rows == 0) return;
    const RunningProcess& process = state_.look.processes[selected_index(state_)];
    std::vector<ScreenLine> details =
        draw_details(process, speeds_of(state_, process.record), {detail_rows, columns_, charset_});
    lines_.resize(rows_ - 1 - details.size());
    for (ScreenLine& text : details) put(std::move(text));
  }

  ScreenLine footer() const {
    LineBuilder text = line();
    if (state_.asked_to_terminate) {
      const RunRecord& target = *state_.asked_to_terminate;
      text.add(cat("terminate ", target.pid, " (", target.command, " ", target.model, ")? y/n"), Style::kBad);
      return text.finish();
    }
    if (!state_.message.empty()) return text.add(state_.message, Style::kWarn).finish();
    for (const KeyHelp& key : kKeys) {
      const std::string_view name = key.in_footer;
      if (name.empty()) continue;
      if (text.room() < std::string_view(key.key).size() + name.size() + 3) break;
      if (text.used() > 0) text.add("  ");
      text.add(key.key, Style::kBold).add(" ").add(name, Style::kDim);
    }
    return text.finish();
  }

  const MonitorState& state_;
  const size_t rows_;
  const size_t columns_;
  const Charset charset_;
  const std::string separator_;
  std::vector<ScreenLine> lines_;
};

}  // namespace

std::vector<ScreenLine> draw_screen(const MonitorState& state, const ScreenOptions& options) {
  return ScreenPainter(state, options).draw();
}

}  // namespace xlstm
