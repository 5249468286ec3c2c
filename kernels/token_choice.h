// How a device chooses tokens, and what it tells of one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

namespace xlstm {

// How a token is chosen from the greatest logits of a row: as Sampler (xlstm/text/sampler.h) does, with filters in the
// order top_k, top_p, min_p, temperature.
struct ChoiceRules {
  int64_t usable_vocab = 0;     // ids from here on are never chosen
  std::vector<int64_t> banned;  // nor are these
  int64_t top_k = 1;            // 1 ≤ top_k; 1: the greatest one, and nothing below matters
  double top_p = 1;             // 1: off
  double min_p = 0;             // 0: off
  double temperature = 1;       // > 0
  uint64_t seed = 0;

  // So many of the greatest usable logits decide.
  [[nodiscard]] int64_t candidates() const {
    return std::min(top_k + static_cast<int64_t>(banned.size()), usable_vocab);
  }
};

// Which random number a row's first choice takes (xlstm/core/philox.h); each choice after it that of the next position.
struct Draw {
  uint64_t sequence = 0;
  uint64_t position = 0;
};

struct ChosenToken {
  int32_t id = 0;                                        // below usable_vocab, whatever the logits are
  int32_t greatest_id = 0;                               // of the usable ids, banned ones included
  float greatest = 0;                                    // its logit
  float best = -std::numeric_limits<float>::infinity();  // the greatest logit that is not banned
};

}  // namespace xlstm
