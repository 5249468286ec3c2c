#include "xlstm/text/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>

#include "xlstm/core/errors.h"
#include "xlstm/core/exponential.h"
#include "xlstm/core/philox.h"
#include "xlstm/core/str.h"

namespace xlstm {

namespace {

void check(bool valid, std::string_view option, std::string_view expected, double got) {
  if (!valid) fail(ExitCode::kUsage, option, "sampling", expected, cat(got));
}

void check_options(const SamplingOptions& o) {
  check(o.temperature >= 0 && std::isfinite(o.temperature), "temperature", "a number from 0", o.temperature);
  check(o.top_k >= 0, "top_k", "an integer from 0", static_cast<double>(o.top_k));
  check(o.top_p >= 0 && o.top_p <= 1, "top_p", "a number from 0 to 1", o.top_p);
  check(o.min_p >= 0 && o.min_p <= 1, "min_p", "a number from 0 to 1", o.min_p);
  check(o.repeat_penalty > 0 && std::isfinite(o.repeat_penalty), "repeat_penalty", "a number above 0",
        o.repeat_penalty);
  check(o.repeat_last_n >= -1, "repeat_last_n", "an integer from -1", static_cast<double>(o.repeat_last_n));
}

[[noreturn]] void fail_logits(std::string_view got) {
  fail(ExitCode::kCheckpoint, "logits", "sampling", "finite numbers", cat(got, "; the weights are damaged"));
}

bool is_possible(float logit) {
  return logit < std::numeric_limits<float>::infinity();  // NaN: false
}

[[noreturn]] void fail_impossible(float logit, int64_t id) {
  fail_logits(cat(std::isnan(logit) ? "NaN" : "+inf", " for id ", id));
}

void require_possible_best(double best) {
  if (!std::isfinite(best)) fail_logits(cat(best, " as the greatest"));
}

}  // namespace

Sampler::Sampler(SamplingOptions options, int64_t usable_vocab, std::vector<int64_t> banned)
    : options_(options), banned_(std::move(banned)) {
  check_options(options_);
  XLSTM_ASSERT(usable_vocab >= 1 && usable_vocab <= std::numeric_limits<int32_t>::max());
  const auto count = static_cast<size_t>(usable_vocab);
  scores_.resize(count);
  candidates_.reserve(count);
  weights_.reserve(count);
  penalized_.resize(count, 0);
  block_bests_.resize((count + kBlock - 1) / kBlock);
}

int64_t Sampler::sample(std::span<const float> logits, std::span<const int64_t> history, uint64_t sequence,
                        uint64_t position) {
  load_scores(logits);
  penalize(history);
  find_block_bests();
  const int32_t best_id = greatest();
  if (options_.temperature == 0) return best_id;
  start_candidates();
  keep_top_k();
  return choose(scores_[static_cast<size_t>(best_id)], sequence, position);
}

int64_t Sampler::candidates_needed() const {
  const int64_t most_likely = options_.temperature == 0 ? 1 : options_.top_k;
  if (penalizes() || most_likely == 0 || most_likely >= usable_vocab()) return 0;
  return std::min(most_likely + static_cast<int64_t>(banned_.size()), usable_vocab());
}

int64_t Sampler::sample(std::span<const Candidate> greatest, uint64_t sequence, uint64_t position) {
  XLSTM_ASSERT(!greatest.empty() && static_cast<int64_t>(greatest.size()) == candidates_needed());
  const size_t most_likely = options_.temperature == 0 ? 1 : static_cast<size_t>(options_.top_k);
  candidates_.clear();
  for (const Candidate& candidate : greatest) {
    if (candidates_.size() == most_likely) break;
    if (std::find(banned_.begin(), banned_.end(), candidate.id) != banned_.end()) continue;
    scores_.at(static_cast<size_t>(candidate.id)) = static_cast<double>(candidate.logit);
    candidates_.push_back(candidate.id);
  }
  sorted_ = candidates_.size();
  const double best = candidates_.empty() ? -std::numeric_limits<double>::infinity()
                                          : scores_[static_cast<size_t>(candidates_.front())];
  require_possible(greatest.front(), best);
  return options_.temperature == 0 ? candidates_.front() : choose(best, sequence, position);
}

void Sampler::require_possible(const Candidate& greatest, double best) {
  if (!is_possible(greatest.logit)) fail_impossible(greatest.logit, greatest.id);
  require_possible_best(best);
}

// Of the candidates that top_k left.
int64_t Sampler::choose(double best, uint64_t sequence, uint64_t position) {
  keep_top_p(best);
  keep_min_p(best);
  return draw(best, philox_uniform(options_.seed, sequence, position));
}

void Sampler::load_scores(std::span<const float> logits) {
  XLSTM_ASSERT(logits.size() >= scores_.size());
  bool all_possible = true;
  for (size_t id = 0; id < scores_.size(); ++id) {
    all_possible &= is_possible(logits[id]);
    scores_[id] = static_cast<double>(logits[id]);
  }
  if (!all_possible) {
    const auto bad = std::find_if_not(logits.begin(), logits.end(), is_possible);
    fail_impossible(*bad, bad - logits.begin());
  }
  for (const int64_t id : banned_) scores_.at(static_cast<size_t>(id)) = -std::numeric_limits<double>::infinity();
}

void Sampler::penalize(std::span<const int64_t> history) {
  ++calls_;
  if (!penalizes()) return;
  const auto last_n = static_cast<size_t>(options_.repeat_last_n);
  if (options_.repeat_last_n >= 0 && history.size() > last_n) history = history.last(last_n);
  for (const int64_t id : history) {
    if (id < 0 || static_cast<size_t>(id) >= scores_.size()) continue;
    const auto index = static_cast<size_t>(id);
    if (penalized_[index] == calls_) continue;
    penalized_[index] = calls_;
    double& score = scores_[index];
    score = score > 0 ? score / options_.repeat_penalty : score * options_.repeat_penalty;
  }
}

void Sampler::find_block_bests() {
  for (size_t block = 0; block < block_bests_.size(); ++block) {
    const size_t begin = block * kBlock;
    const size_t end = std::min(scores_.size(), begin + kBlock);
    double best = scores_[begin];
    for (size_t id = begin + 1; id < end; ++id) best = std::max(best, scores_[id]);
    block_bests_[block] = best;
  }
}

int32_t Sampler::greatest() const {
  const auto block = std::max_element(block_bests_.begin(), block_bests_.end());
  require_possible_best(*block);
  const auto begin = scores_.begin() + (block - block_bests_.begin()) * static_cast<std::ptrdiff_t>(kBlock);
  return static_cast<int32_t>(std::find(begin, scores_.end(), *block) - scores_.begin());
}

// With top_k only those that can be among the k most likely: each of the k blocks with the greatest bests has one that
// is at least as likely as the k-th of these bests.
void Sampler::start_candidates() {
  sorted_ = 0;
  const auto k = static_cast<size_t>(options_.top_k);
  if (k == 0 || k >= block_bests_.size()) {
    candidates_.resize(scores_.size());
    std::iota(candidates_.begin(), candidates_.end(), 0);
    return;
  }
  ranked_bests_ = block_bests_;
  const auto kth = ranked_bests_.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::nth_element(ranked_bests_.begin(), kth, ranked_bests_.end(), std::greater<>());
  candidates_.clear();
  for (size_t block = 0; block < block_bests_.size(); ++block) {
    if (block_bests_[block] < *kth) continue;
    const size_t end = std::min(scores_.size(), (block + 1) * kBlock);
    for (size_t id = block * kBlock; id < end; ++id) {
      if (scores_[id] >= *kth) candidates_.push_back(static_cast<int32_t>(id));
    }
  }
}

// Brings the `count` most likely candidates to the front, in order. Grows what is sorted already.
void Sampler::sort_candidates(size_t count) {
  const auto more_likely = [this](int32_t a, int32_t b) {
    const double score_a = scores_[static_cast<size_t>(a)];
    const double score_b = scores_[static_cast<size_t>(b)];
    return score_a != score_b ? score_a > score_b : a < b;
  };
  count = std::min(count, candidates_.size());
  if (count <= sorted_) return;
  const auto at = [this](size_t index) { return candidates_.begin() + static_cast<std::ptrdiff_t>(index); };
  std::partial_sort(at(sorted_), at(count), candidates_.end(), more_likely);
  sorted_ = count;
}

void Sampler::keep_top_k() {
  const auto k = static_cast<size_t>(options_.top_k);
  if (k == 0 || k >= scores_.size()) return;
  sort_candidates(k);  // sums over the candidates come in this order, wherever they were found
  candidates_.resize(k);
}

void Sampler::keep_top_p(double best) {
  if (options_.top_p >= 1) return;
  const auto weight = [this, best](int32_t id) { return exponential(scores_[static_cast<size_t>(id)] - best); };
  double total = 0;
  for (const int32_t id : candidates_) total += weight(id);
  const double target = options_.top_p * total;
  double sum = 0;
  size_t kept = 0;
  while (kept < candidates_.size()) {
    // Sorting ahead in growing steps: mostly a few dozen candidates reach the target.
    constexpr size_t kFirstStep = 128;
    if (kept == sorted_) sort_candidates(std::max(kFirstStep, 4 * sorted_));
    sum += weight(candidates_[kept++]);
    if (sum >= target) break;
  }
  candidates_.resize(kept);
}

void Sampler::keep_min_p(double best) {
  if (options_.min_p <= 0) return;
  const double lowest = best + std::log(options_.min_p);
  std::erase_if(candidates_, [this, lowest](int32_t id) { return scores_[static_cast<size_t>(id)] < lowest; });
}

int64_t Sampler::draw(double best, double uniform) {
  if (!std::is_sorted(candidates_.begin(), candidates_.end())) std::sort(candidates_.begin(), candidates_.end());
  weights_.clear();
  double total = 0;
  for (const int32_t id : candidates_) {
    weights_.push_back(exponential((scores_[static_cast<size_t>(id)] - best) / options_.temperature));
    total += weights_.back();
  }
  const double target = uniform * total;
  double sum = 0;
  size_t last_possible = 0;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    if (weights_[i] == 0) continue;
    sum += weights_[i];
    last_possible = i;
    if (sum > target) break;
  }
  return candidates_[last_possible];
}

}  // namespace xlstm
