// A progress bar on stderr for load, prefill and other long phases.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>

#include "xlstm/core/run_status.h"

namespace xlstm {

// Whether standard error is a terminal.
[[nodiscard]] bool stderr_is_terminal();

// Begins a phase of the run (xlstm/core/run_status.h) and counts for it as long as no other one begins. Draws "label
// [====    ] 42%  12 s" and redraws at most ten times a second. Nothing is drawn when disabled or when stderr is no
// terminal; the line is erased at the end. Not thread-safe.
class Progress {
 public:
  Progress(RunPhase phase, std::string label, int64_t total, bool enabled);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void advance(int64_t amount);
  // Text behind the bar, from the next drawing on.
  void note(std::string text) { note_ = std::move(text); }

 private:
  void draw();
  RunPhase phase_;
  std::string label_;
  std::string note_;
  int64_t total_;
  int64_t done_ = 0;
  bool active_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace xlstm
