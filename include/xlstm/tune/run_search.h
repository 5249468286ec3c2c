// Carries a search out: measures what it asks for and writes every trial into its folder.
#pragma once

#include <functional>

#include "xlstm/tune/run_folder.h"
#include "xlstm/tune/search.h"

namespace xlstm {

struct SearchHooks {
  std::function<void(const TuneParams&)>
      warm_up;  // before a candidate's first measurement; what it costs is not counted
  std::function<Timing(const TuneParams&)> measure;
  std::function<void(const Trial&)> on_trial;  // after a trial is written; may be empty
};

// Goes on until the search is complete. What `warm_up` or `measure` throw passes through, and the trials so far are on
// the disk; the trial under way is lost.
void run_search(Search& search, RunFolder& folder, const SearchHooks& hooks);

// Does the trials of an earlier run again from trials.jsonl. Error kUsage if they are not those of this search.
void replay_trials(Search& search, RunFolder& folder);

}  // namespace xlstm
