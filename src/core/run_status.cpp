#include "xlstm/core/run_status.h"

#include <mutex>
#include <utility>

namespace xlstm {
namespace {

std::mutex description_mutex;
RunDescription& description() {
  static RunDescription text;
  return text;
}

}  // namespace

const char* phase_name(RunPhase phase) {
  switch (phase) {
    case RunPhase::kStarting: return "starting";
    case RunPhase::kLoad: return "load";
    case RunPhase::kPrefill: return "prefill";
    case RunPhase::kDecode: return "decode";
    case RunPhase::kTune: return "tune";
    case RunPhase::kOther: return "other";
  }
  return "";
}

RunCounters& run_counters() {
  static RunCounters counters;
  return counters;
}

void begin_phase(RunPhase phase, int64_t total) {
  RunCounters& counters = run_counters();
  counters.done.store(0, std::memory_order_relaxed);
  counters.total.store(total, std::memory_order_relaxed);
  counters.phase.store(phase, std::memory_order_relaxed);
}

void describe_run(RunDescription text) {
  const std::lock_guard lock(description_mutex);
  description() = std::move(text);
}

RunDescription run_description() {
  const std::lock_guard lock(description_mutex);
  return description();
}

}  // namespace xlstm
