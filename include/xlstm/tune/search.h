// The search for the fastest scheduling settings as a state machine: it says what to measure next and is told how long
// that took. It has no clock and no model, and the same plan and the same timings always lead to the same result.
//
// Each trial measures one candidate against the incumbent, the best configuration so far, in pairs (comparison.h). The
// first incumbent is the plain configuration, the one that runs without tuning. After `repeats` pairs a candidate that
// is not ahead is dropped; one that is ahead gets more pairs until it is clearly faster, and takes the incumbent's
// place, or falls back, or 16 pairs (or `repeats`, if that is more) could not tell the two apart. The last trial
// measures the best one found against the plain configuration over as many fresh pairs: if it is not clearly faster
// there too, the answer is the plain one. That way chance hits among many candidates do not become the answer.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "xlstm/tune/comparison.h"
#include "xlstm/tune/space.h"

namespace xlstm {

enum class TuneMode {
  kRandom,  // `trials` different candidates
  kGa,      // a genetic search: `generations` of `population` candidates
  kGrid,    // every candidate
};

struct SearchPlan {
  SearchSpace space;
  TuneParams plain;               // as SearchSpace::as_run() gives it; need not be in the space
  std::vector<TuneParams> first;  // to try before others, an earlier result; those outside the space are passed over
  TuneMode mode = TuneMode::kGa;
  TuneObjective objective = TuneObjective::kPrefill;
  int64_t trials = 24;
  int64_t generations = 4;
  int64_t population = 8;
  int64_t repeats = 3;
  uint64_t seed = 0;
};

struct Trial {
  int64_t number = 0;         // from 1
  bool confirmation = false;  // the last trial
  TuneParams candidate;
  TuneParams incumbent;
  std::vector<TimingPair> pairs;
  Comparison comparison;
  double vs_plain = 1;    // speed of the candidate relative to the plain configuration, over the chain of incumbents
  bool accepted = false;  // clearly faster
};

// How fast each measured configuration is, relative to the plain one, which is always in it with 1.
using Scores = std::map<TuneParams, double>;

// Chooses candidates; one for each mode.
class Proposer {
 public:
  virtual ~Proposer() = default;
  // The next candidate, one that is not in `scores`; all proposed before are. nullopt: no more.
  virtual std::optional<TuneParams> propose(const Scores& scores) = 0;
};

class Search {
 public:
  explicit Search(SearchPlan plan);

  struct Step {
    TuneParams params;
    bool candidate = false;  // else the incumbent
  };
  // What to measure now; nullopt when the search is complete. The same until record() is called.
  [[nodiscard]] std::optional<Step> next() const;

  // The candidate of the trial under way; only as long as next() has a step.
  [[nodiscard]] const TuneParams& candidate() const;

  // The timing of next(); the cost of the objective is above 0. Returns the trial that this completes, valid until the
  // next call, else nullptr.
  const Trial* record(const Timing& timing);

  // Does a completed trial of an earlier run again from its pairs. False if it is not the trial that this search does
  // now; the search is of no use then.
  [[nodiscard]] bool replay(const TuneParams& candidate, const std::vector<TimingPair>& pairs);

  [[nodiscard]] const SearchPlan& plan() const { return plan_; }
  [[nodiscard]] const std::vector<Trial>& trials() const { return trials_; }
  [[nodiscard]] int64_t most_trials() const { return most_trials_; }  // the confirmation included; there may be fewer
  [[nodiscard]] const TuneParams& incumbent() const { return incumbent_; }
  [[nodiscard]] double incumbent_score() const { return scores_.at(incumbent_); }

 private:
  void begin_trial();
  [[nodiscard]] bool trial_complete() const;
  void finish_trial();

  SearchPlan plan_;
  std::unique_ptr<Proposer> proposer_;
  std::vector<TuneParams> first_;  // still to try, the next one last
  Scores scores_;
  TuneParams incumbent_;
  std::optional<Trial> current_;
  std::optional<Timing> half_pair_;  // the first measurement of an open pair
  std::vector<Trial> trials_;
  int64_t most_trials_ = 0;
};

// What came out of a complete search.
struct TuneAnswer {
  TuneParams params;         // the fastest found, or the plain configuration if that is not confirmed
  TuneParams found;          // the fastest found
  bool confirmed = false;    // params is clearly faster than the plain configuration
  Comparison against_plain;  // of `found`; of the plain configuration with itself if nothing faster was found
  Timing timing;             // of params, median over the confirmation
  Timing plain_timing;       // of the plain configuration, the same
};
[[nodiscard]] TuneAnswer answer_of(const Search& search);

}  // namespace xlstm
