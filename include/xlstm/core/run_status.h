// What this process is doing right now: written by the run, read by whoever reports it (the status file of `monitor`).
//
// One record for the process. Counters are relaxed atomics, so that updating them costs a decode step nothing; the
// texts are set by describe_run() before work starts. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace xlstm {

enum class RunPhase { kStarting, kLoad, kPrefill, kDecode, kTune, kOther };
[[nodiscard]] const char* phase_name(RunPhase phase);

struct RunCounters {
  std::atomic<RunPhase> phase{RunPhase::kStarting};
  std::atomic<int64_t> done{0};            // of the phase: bytes loaded, tokens prefilled or decoded, trials
  std::atomic<int64_t> total{0};           // of the phase; 0: not known
  std::atomic<int64_t> prompt_tokens{0};   // prefilled since the process began
  std::atomic<int64_t> decoded_tokens{0};  // generated since the process began
};
[[nodiscard]] RunCounters& run_counters();

// Begins a phase: sets phase and total, and done to 0.
void begin_phase(RunPhase phase, int64_t total);

struct RunDescription {
  std::string command;  // "generate", "bench", …
  std::string model;    // directory name or synthetic shape
  std::string device;   // "cpu", "cuda:0", "mps"
  std::string dtype;    // weights
  std::string kernel;   // registry key of the chunkwise kernel
  std::string profile;  // the configuration layers above the defaults, by names a user knows
  double soft_mb = 0;   // memory guard's lines; 0: none
  double hard_mb = 0;
};
void describe_run(RunDescription description);
[[nodiscard]] RunDescription run_description();

}  // namespace xlstm
