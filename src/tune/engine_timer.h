// Times configurations on a loaded model.
#pragma once

#include <cstdint>
#include <vector>

#include "xlstm/runtime/engine.h"
#include "xlstm/tune/comparison.h"
#include "xlstm/tune/space.h"

namespace xlstm {

class EngineTimer {
 public:
  struct Work {
    std::vector<int64_t> prompt;  // one id or more
    int64_t new_tokens = 1;       // decoded; made-up ids, whose values do not change the speed
    TuneObjective objective = TuneObjective::kPrefill;
  };

  // `opts` are what the engine was made with; both must outlive the timer.
  EngineTimer(Engine& engine, const RuntimeOpts& opts, Work work);

  // What measure() times, once, so that memory is there and caches are warm.
  void warm_up(const TuneParams& params);

  // Seconds of what the objective counts, with these scheduling settings. Throws Stopped.
  Timing measure(const TuneParams& params);

 private:
  void reschedule(const TuneParams& params);
  void prefill(size_t tokens);
  void decode();
  void pass(size_t begin, int64_t rows, LogitRows logits);

  Engine& engine_;
  const RuntimeOpts& opts_;
  Work work_;
  State state_;
  RowPlan plan_;
};

}  // namespace xlstm
