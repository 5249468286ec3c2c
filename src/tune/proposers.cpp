#include "src/tune/proposers.h"

#include <algorithm>
#include <utility>

#include "xlstm/core/philox.h"

namespace xlstm {
namespace {

// Draws that depend on the seed and on how many came before.
class Dice {
 public:
  explicit Dice(uint64_t seed) : seed_(seed) {}

  // 0 to count - 1.
  int64_t below(int64_t count) {
    const double share = philox_uniform(seed_, /*sequence=*/0, draws_++);
    return std::min(static_cast<int64_t>(share * static_cast<double>(count)), count - 1);
  }
  bool chance(double probability) { return philox_uniform(seed_, /*sequence=*/0, draws_++) < probability; }

 private:
  uint64_t seed_;
  uint64_t draws_ = 0;
};

// A candidate that is not measured yet; nullopt if all are.
std::optional<TuneParams> random_unmeasured(const SearchSpace& space, const Scores& scores, Dice& dice) {
  const int64_t size = space.size();
  constexpr int kDraws = 32;
  for (int draw = 0; draw < kDraws; ++draw) {
    const TuneParams params = space.at(dice.below(size));
    if (!scores.contains(params)) return params;
  }
  // Most are measured: the next one that is not, from a random place on.
  const int64_t begin = dice.below(size);
  for (int64_t i = 0; i < size; ++i) {
    const TuneParams params = space.at((begin + i) % size);
    if (!scores.contains(params)) return params;
  }
  return std::nullopt;
}

class RandomProposer : public Proposer {
 public:
  explicit RandomProposer(const SearchPlan& plan) : space_(plan.space), trials_(plan.trials), dice_(plan.seed) {}

  std::optional<TuneParams> propose(const Scores& scores) override {
    const auto tried = static_cast<int64_t>(scores.size()) - 1;  // without the plain configuration
    if (tried >= trials_) return std::nullopt;
    return random_unmeasured(space_, scores, dice_);
  }

 private:
  SearchSpace space_;
  int64_t trials_;
  Dice dice_;
};

class GridProposer : public Proposer {
 public:
  explicit GridProposer(const SearchPlan& plan) : space_(plan.space) {}

  std::optional<TuneParams> propose(const Scores& scores) override {
    while (next_ < space_.size()) {
      const TuneParams params = space_.at(next_++);
      if (!scores.contains(params)) return params;
    }
    return std::nullopt;
  }

 private:
  SearchSpace space_;
  int64_t next_ = 0;
};

// The fastest quarter of a generation, which stays in the next one unchanged.
int64_t elites_of(int64_t population) {
  return std::max<int64_t>(1, population / 4);
}

class GaProposer : public Proposer {
 public:
  explicit GaProposer(const SearchPlan& plan)
      : space_(plan.space), generations_(plan.generations), population_(plan.population), dice_(plan.seed) {}

  std::optional<TuneParams> propose(const Scores& scores) override {
    if (generation_ == 0) begin(scores);
    while (static_cast<int64_t>(members_.size()) >= population_) {
      if (generation_ == generations_) return std::nullopt;
      begin_next(scores);
    }
    const auto params = generation_ == 1 ? random_unmeasured(space_, scores, dice_) : child(scores);
    if (params) members_.push_back(*params);
    return params;
  }

 private:
  // The first generation holds what is known before it.
  void begin(const Scores& scores) {
    generation_ = 1;
    for (const auto& [params, score] : scores) {
      if (space_.contains(params) && static_cast<int64_t>(members_.size()) < population_) members_.push_back(params);
    }
  }

  void begin_next(const Scores& scores) {
    std::stable_sort(members_.begin(), members_.end(),
                     [&](const TuneParams& a, const TuneParams& b) { return scores.at(a) > scores.at(b); });
    parents_ = members_;
    members_.resize(static_cast<size_t>(elites_of(population_)));
    ++generation_;
  }

  // The best of three parents drawn at random; parents are sorted, fastest first.
  const TuneParams& tournament() {
    const auto count = static_cast<int64_t>(parents_.size());
    const int64_t winner = std::min({dice_.below(count), dice_.below(count), dice_.below(count)});
    return parents_[static_cast<size_t>(winner)];
  }

  std::optional<TuneParams> child(const Scores& scores) {
    TuneParams params = tournament();
    TuneParams other = tournament();
    for (size_t knob = 0; knob < SearchSpace::kKnobs; ++knob) {
      if (dice_.chance(0.5)) knob_of(params, knob) = knob_of(other, knob);
    }
    // A child that is known already costs time and tells nothing: it mutates on.
    constexpr int kMutations = 16;
    for (int i = 0; i < kMutations; ++i) {
      mutate(params);
      if (!scores.contains(params)) return params;
    }
    return random_unmeasured(space_, scores, dice_);
  }

  // Each knob with one chance in three; half of the changes go to a near value, half anywhere.
  void mutate(TuneParams& params) {
    constexpr int64_t kReach = 2;
    for (size_t knob = 0; knob < SearchSpace::kKnobs; ++knob) {
      if (!dice_.chance(1.0 / 3)) continue;
      const std::vector<int64_t>& values = space_.values(knob);
      const auto count = static_cast<int64_t>(values.size());
      int64_t& value = knob_of(params, knob);
      int64_t place = std::lower_bound(values.begin(), values.end(), value) - values.begin();
      if (dice_.chance(0.5)) {
        place += dice_.below(2 * kReach + 1) - kReach;
      } else {
        place = dice_.below(count);
      }
      value = values[static_cast<size_t>(std::clamp<int64_t>(place, 0, count - 1))];
    }
  }

  SearchSpace space_;
  int64_t generations_;
  int64_t population_;
  Dice dice_;
  int64_t generation_ = 0;
  std::vector<TuneParams> members_;  // of this generation so far
  std::vector<TuneParams> parents_;  // the generation before, fastest first
};

}  // namespace

std::unique_ptr<Proposer> make_proposer(const SearchPlan& plan) {
  switch (plan.mode) {
    case TuneMode::kRandom: return std::make_unique<RandomProposer>(plan);
    case TuneMode::kGa: return std::make_unique<GaProposer>(plan);
    case TuneMode::kGrid: return std::make_unique<GridProposer>(plan);
  }
  return nullptr;
}

int64_t most_candidates(const SearchPlan& plan) {
  const int64_t known = plan.space.contains(plan.plain) ? 1 : 0;
  const int64_t present = plan.space.size() - known;
  switch (plan.mode) {
    case TuneMode::kRandom: return std::min(plan.trials, present);
    case TuneMode::kGa: {
      const int64_t children = (plan.generations - 1) * (plan.population - elites_of(plan.population));
      return std::min(plan.population - known + children, present);
    }
    case TuneMode::kGrid: return present;
  }
  return 0;
}

}  // namespace xlstm
