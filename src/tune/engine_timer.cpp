#include "src/tune/engine_timer.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <utility>

#include "xlstm/core/run_status.h"
#include "xlstm/registry/registry.h"

namespace xlstm {
namespace {

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  constexpr double kTick = 1e-9;  // a clock too coarse to see the work must not divide by zero
  return std::max(kTick, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

}  // namespace

EngineTimer::EngineTimer(Engine& engine, const RuntimeOpts& opts, Work work)
    : engine_(engine), opts_(opts), work_(std::move(work)), state_(engine.make_state(1)) {
  engine_.require_ids(work_.prompt, "prompt");
}

void EngineTimer::reschedule(const TuneParams& params) {
  RuntimeOpts opts = opts_;
  opts.chunk_size = params.chunk_size;
  opts.heads_per_band = params.heads_per_band;
  opts.workers = params.workers;
  engine_.reschedule(opts, resolve(opts));
  // New kernels take their memory in their first pass.
  prefill(std::min(static_cast<size_t>(params.chunk_size), work_.prompt.size()));
  state_.reset(0);
}

void EngineTimer::warm_up(const TuneParams& params) {
  (void)measure(params);
}

Timing EngineTimer::measure(const TuneParams& params) {
  reschedule(params);
  Timing timing;
  if (work_.objective != TuneObjective::kDecode) {
    timing.prefill_s = seconds_of([&] { prefill(work_.prompt.size()); });
  }
  if (work_.objective != TuneObjective::kPrefill) timing.decode_s = seconds_of([&] { decode(); });
  return timing;
}

void EngineTimer::prefill(size_t tokens) {
  const auto segment = static_cast<size_t>(engine_.segment_rows(/*all_logits=*/false));
  for (size_t begin = 0; begin < tokens; begin += segment) {
    const size_t rows = std::min(segment, tokens - begin);
    pass(begin, static_cast<int64_t>(rows), begin + rows == tokens ? LogitRows::kLast : LogitRows::kNone);
  }
  run_counters().prompt_tokens.fetch_add(static_cast<int64_t>(tokens), std::memory_order_relaxed);
}

void EngineTimer::decode() {
  for (int64_t token = 0; token < work_.new_tokens; ++token) {
    pass(static_cast<size_t>(token) % work_.prompt.size(), 1, LogitRows::kLast);
  }
  run_counters().decoded_tokens.fetch_add(work_.new_tokens, std::memory_order_relaxed);
}

void EngineTimer::pass(size_t begin, int64_t rows, LogitRows logits) {
  plan_.clear();
  plan_.add(/*slot=*/0, rows, logits);
  engine_.forward(plan_, std::span(work_.prompt).subspan(begin, static_cast<size_t>(rows)), state_)->wait();
}

}  // namespace xlstm
