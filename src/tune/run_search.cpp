#include "xlstm/tune/run_search.h"

#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {

void run_search(Search& search, RunFolder& folder, const SearchHooks& hooks) {
  bool new_trial = true;
  while (const std::optional<Search::Step> step = search.next()) {
    if (new_trial) hooks.warm_up(search.candidate());
    const Trial* completed = search.record(hooks.measure(step->params));
    new_trial = completed != nullptr;
    if (completed == nullptr) continue;
    folder.append(*completed);
    if (hooks.on_trial) hooks.on_trial(*completed);
  }
}

void replay_trials(Search& search, RunFolder& folder) {
  int64_t number = 0;
  for (const RecordedTrial& trial : folder.read_trials()) {
    ++number;
    if (!search.replay(trial.candidate, trial.pairs)) {
      fail(ExitCode::kUsage, cat("trial ", number), (folder.path() / "trials.jsonl").string(),
           "the trial that this search does at this place", "another one");
    }
  }
}

}  // namespace xlstm
