#include "xlstm/core/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "xlstm/core/str.h"

namespace xlstm {

namespace {

// A terminal that cannot redraw a line.
bool dumb_terminal() {
  const char* term = std::getenv("TERM");
  return term != nullptr && std::string_view(term) == "dumb";
}

}  // namespace

bool stderr_is_terminal() {
  return ::isatty(STDERR_FILENO) == 1;
}

Progress::Progress(RunPhase phase, std::string label, int64_t total, bool enabled)
    : phase_(phase),
      label_(std::move(label)),
      total_(std::max<int64_t>(1, total)),
      active_(enabled && stderr_is_terminal() && !dumb_terminal()),
      start_(std::chrono::steady_clock::now()),
      last_(start_) {
  begin_phase(phase, total);
}

Progress::~Progress() {
  if (drawn_) std::fputs("\r\033[K", stderr);
}

void Progress::advance(int64_t amount) {
  done_ += amount;
  RunCounters& counters = run_counters();
  if (counters.phase.load(std::memory_order_relaxed) == phase_) counters.done.store(done_, std::memory_order_relaxed);
  if (!active_) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  draw();
}

void Progress::draw() {
  constexpr int kWidth = 30;
  const double share = std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
  const int filled = static_cast<int>(share * kWidth);
  const double seconds = std::chrono::duration<double>(last_ - start_).count();
  const std::string line =
      cat("\r\033[K", label_, " [", std::string(static_cast<size_t>(filled), '='),
          std::string(static_cast<size_t>(kWidth - filled), ' '), "] ", static_cast<int>(share * 100), "%  ",
          fixed(seconds, 1), " s", note_.empty() ? "" : "  ", note_);
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace xlstm
