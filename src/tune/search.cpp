#include "xlstm/tune/search.h"

#include <algorithm>
#include <utility>

#include "src/tune/proposers.h"
#include "xlstm/core/errors.h"

namespace xlstm {
namespace {

// Pairs that a candidate gets at most, and that the confirmation gets.
constexpr int64_t kMostPairs = 16;

}  // namespace

Search::Search(SearchPlan plan)
    : plan_(std::move(plan)),
      proposer_(make_proposer(plan_)),
      scores_({{plan_.plain, 1.0}}),
      incumbent_(plan_.plain),
      most_trials_(most_candidates(plan_) + 1) {
  for (auto params = plan_.first.rbegin(); params != plan_.first.rend(); ++params) {
    const bool again = *params == plan_.plain || std::count(first_.begin(), first_.end(), *params) > 0;
    if (plan_.space.contains(*params) && !again) first_.push_back(*params);
  }
  begin_trial();
}

void Search::begin_trial() {
  Trial trial;
  trial.number = static_cast<int64_t>(trials_.size()) + 1;
  trial.incumbent = incumbent_;
  if (!first_.empty()) {
    trial.candidate = first_.back();
    first_.pop_back();
  } else if (const std::optional<TuneParams> proposed = proposer_->propose(scores_)) {
    trial.candidate = *proposed;
  } else {
    trial.confirmation = true;
    trial.candidate = incumbent_;
    trial.incumbent = plan_.plain;
  }
  current_ = std::move(trial);
}

std::optional<Search::Step> Search::next() const {
  if (!current_) return std::nullopt;
  // Incumbent first, then candidate first, and so on: a drift that goes one way favours neither.
  const bool incumbent_leads = current_->pairs.size() % 2 == 0;
  const bool candidate = incumbent_leads == half_pair_.has_value();
  return Step{candidate ? current_->candidate : current_->incumbent, candidate};
}

const TuneParams& Search::candidate() const {
  XLSTM_ASSERT(current_.has_value());
  return current_->candidate;
}

const Trial* Search::record(const Timing& timing) {
  const std::optional<Step> step = next();
  XLSTM_ASSERT(step.has_value());
  if (!half_pair_) {
    half_pair_ = timing;
    return nullptr;
  }
  TimingPair pair{timing, *half_pair_};
  if (!step->candidate) std::swap(pair.candidate, pair.incumbent);
  half_pair_.reset();
  current_->pairs.push_back(pair);
  current_->comparison = compare(current_->pairs, plan_.objective);
  if (!trial_complete()) return nullptr;
  finish_trial();
  return &trials_.back();
}

bool Search::trial_complete() const {
  const Comparison& so_far = current_->comparison;
  if (current_->confirmation) return so_far.pairs >= std::max(plan_.repeats, kMostPairs);
  if (so_far.pairs < plan_.repeats) return false;
  return so_far.median <= 1 || so_far.pairs >= kMostPairs || clearly_faster(so_far);
}

void Search::finish_trial() {
  Trial& trial = *current_;
  trial.accepted = clearly_faster(trial.comparison);
  trial.vs_plain = scores_.at(trial.incumbent) * trial.comparison.median;
  trials_.push_back(std::move(trial));
  current_.reset();
  const Trial& done = trials_.back();
  if (done.confirmation) return;
  scores_[done.candidate] = done.vs_plain;
  if (done.accepted) incumbent_ = done.candidate;
  begin_trial();
}

bool Search::replay(const TuneParams& candidate, const std::vector<TimingPair>& pairs) {
  if (!current_ || current_->candidate != candidate) return false;
  for (const TimingPair& pair : pairs) {
    const Trial* completed = nullptr;
    for (int half = 0; half < 2; ++half) completed = record(next()->candidate ? pair.candidate : pair.incumbent);
    if (completed != nullptr) return &pair == &pairs.back();
  }
  return false;
}

TuneAnswer answer_of(const Search& search) {
  XLSTM_ASSERT(!search.next() && !search.trials().empty());
  const Trial& last = search.trials().back();
  TuneAnswer answer;
  answer.found = last.candidate;
  answer.confirmed = last.accepted && last.candidate != last.incumbent;
  answer.params = answer.confirmed ? last.candidate : last.incumbent;
  answer.against_plain = last.comparison;
  std::vector<Timing> candidate;
  std::vector<Timing> plain;
  for (const TimingPair& pair : last.pairs) {
    candidate.push_back(pair.candidate);
    plain.push_back(pair.incumbent);
  }
  answer.plain_timing = median_timing(plain);
  answer.timing = answer.confirmed ? median_timing(candidate) : answer.plain_timing;
  return answer;
}

}  // namespace xlstm
