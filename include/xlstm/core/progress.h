// A progress bar on stderr for load, prefill and other long phases.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace xlstm {

// Whether standard error is a terminal.
[[nodiscard]] bool stderr_is_terminal();

// Draws "label [====    ] 42%  12 s" and redraws at most ten times a second. Nothing is drawn when disabled or when
// stderr is no terminal; the line is erased at the end. Not thread-safe.
class Progress {
 public:
  Progress(std::string label, int64_t total, bool enabled);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void advance(int64_t amount);

 private:
  void draw();
  std::string label_;
  int64_t total_;
  int64_t done_ = 0;
  bool active_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace xlstm
