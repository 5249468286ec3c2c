// Choosing the next token from logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace xlstm {

struct SamplingOptions {
  double temperature = 0.8;     // ≥ 0; 0: the greatest logit, filters play no part
  int64_t top_k = 40;           // ≥ 0; keep the k most likely; 0: off
  double top_p = 0.95;          // 0 … 1; keep the fewest most likely ones that together reach p; 1: off
  double min_p = 0.05;          // 0 … 1; keep those at least min_p times as likely as the most likely; 0: off
  double repeat_penalty = 1.0;  // > 0; 1: off
  int64_t repeat_last_n = 64;   // ≥ -1; how many of the latest ids are penalized; -1: all, 0: none
  uint64_t seed = 0;
};

// One of the greatest logits of a row.
struct Candidate {
  int32_t id = 0;
  float logit = 0;
};

// Applies, in this order: repeat penalty (Keskar et al. 2019: each id that occurs has a positive logit divided, a
// negative one multiplied by the penalty, once), top_k, top_p (Holtzman et al. 2020), min_p, temperature; then draws.
// top_p and min_p see the probabilities of what top_k left, at temperature 1. Of equal logits the lower id counts as
// more likely. The draw is the inverse of the cumulative distribution over the kept ids in ascending order, at a Philox
// number of (seed, sequence, position): equal logits give equal ids, whatever else runs. Not thread-safe: it keeps
// working memory, so that calls after the first allocate none.
class Sampler {
 public:
  // Never chosen: ids from usable_vocab on (padding rows of the head) and the `banned` ones below it (holes in the
  // tokenizer's ids). usable_vocab ≥ 1.
  // Error kUsage for options out of range.
  Sampler(SamplingOptions options, int64_t usable_vocab, std::vector<int64_t> banned = {});

  // logits: [V] with V ≥ usable_vocab, -inf allowed. history: the ids so far, prompt and generated, oldest first.
  // Error kCheckpoint if a usable logit is NaN or +inf, or if none is finite.
  [[nodiscard]] int64_t sample(std::span<const float> logits, std::span<const int64_t> history, uint64_t sequence,
                               uint64_t position);

  // How many of the greatest logits decide alone: top_k, or one at temperature 0, and one more for each banned id. 0:
  // all are needed (repeat penalty, no top_k).
  [[nodiscard]] int64_t candidates_needed() const;

  // The id that sample() chooses, and its errors, from the candidates_needed() greatest of the usable logits: greatest
  // first, lower ids first among equal ones, NaN as +inf.
  [[nodiscard]] int64_t sample(std::span<const Candidate> greatest, uint64_t sequence, uint64_t position);

  // The errors of sample() for the greatest of the usable logits, and for that of those that are not banned.
  static void require_possible(const Candidate& greatest, double best);

  [[nodiscard]] const SamplingOptions& options() const { return options_; }
  [[nodiscard]] const std::vector<int64_t>& banned() const { return banned_; }
  [[nodiscard]] int64_t usable_vocab() const { return static_cast<int64_t>(scores_.size()); }

 private:
  static constexpr size_t kBlock = 16;

  [[nodiscard]] bool penalizes() const { return options_.repeat_penalty != 1.0 && options_.repeat_last_n != 0; }
  void load_scores(std::span<const float> logits);
  void penalize(std::span<const int64_t> history);
  void find_block_bests();
  [[nodiscard]] int32_t greatest() const;
  void start_candidates();
  void sort_candidates(size_t count);
  void keep_top_k();
  [[nodiscard]] int64_t choose(double best, uint64_t sequence, uint64_t position);
  void keep_top_p(double best);
  void keep_min_p(double best);
  [[nodiscard]] int64_t draw(double best, double uniform);

  SamplingOptions options_;
  std::vector<int64_t> banned_;
  std::vector<double> scores_;       // [usable_vocab] logits after the penalty; valid for the candidates at least
  std::vector<double> block_bests_;  // greatest score of each kBlock consecutive ids
  std::vector<double> ranked_bests_;
  std::vector<int32_t> candidates_;  // ids that the filters have kept so far
  size_t sorted_ = 0;                // this many candidates at the front are in order, most likely first
  std::vector<double> weights_;      // per candidate, at draw
  std::vector<uint64_t> penalized_;  // [usable_vocab] number of the call that last penalized the id
  uint64_t calls_ = 0;
};

}  // namespace xlstm
