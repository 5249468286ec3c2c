// The greatest logits of a row, on the calling thread.
#pragma once

#include <cstdint>
#include <vector>

namespace xlstm::cpu {

struct FoundLogit {
  int32_t id = 0;
  float logit = 0;
};

// Working memory, kept from call to call.
struct CandidateScratch {
  std::vector<int32_t> bests;
  std::vector<int64_t> keys;
  std::vector<int32_t> order;
  std::vector<FoundLogit> found;
};

// The `count` greatest of logits[0, vocab): greatest first, lower ids first among equal ones, NaN as +inf.
// 1 ≤ count ≤ vocab; beyond some hundred the time grows with the square of `count`. Valid until the next call with this
// scratch.
[[nodiscard]] const FoundLogit* find_greatest(const float* logits, int64_t vocab, int64_t count,
                                              CandidateScratch& scratch);

}  // namespace xlstm::cpu
