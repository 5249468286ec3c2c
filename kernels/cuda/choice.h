// Drawing a token for each row from its greatest logits.
#pragma once

#include <cstdint>

#include "kernels/cuda/queue.h"
#include "kernels/token_choice.h"

namespace xlstm::cuda {

// In pinned memory. `position`, of the number that was drawn, is written behind the token.
struct ChosenRow {
  ChosenToken token;
  uint64_t position;
};

// Device memory but for `chosen`. Rules as in ChoiceRules.
struct Choice {
  const int32_t* candidates;  // [rows, count, 2] as DeviceOps::find_candidates() leaves them
  int64_t rows, count;        // 1 ≤ count ≤ kMaxCandidates
  const int32_t* banned;
  int64_t banned_count;
  int64_t top_k;
  double top_p;
  double log_min_p;  // -inf: off
  double temperature;
  uint64_t seed;
  uint64_t* draws;  // [rows, 2]: sequence, position; the position goes up by one
  int32_t* ids;     // [rows]
  ChosenRow* chosen;
};
void choose_tokens(Queue& queue, const Choice& args);

}  // namespace xlstm::cuda
