// How well a model predicts a text.
#pragma once

#include <cstdint>
#include <vector>

#include "xlstm/runtime/engine.h"

namespace xlstm {

struct DocumentScore {
  int64_t tokens = 0;  // ids that were predicted: all but the first
  double nll = 0;      // sum of -ln p over them, p over the whole vocabulary
};

// Scores one document from a fresh state. A document of fewer than two ids predicts nothing: 0 tokens.
// Error kUsage for an id outside the vocabulary, kCheckpoint for weights that give no numbers.
[[nodiscard]] DocumentScore score_document(Engine& engine, const std::vector<int64_t>& ids);

}  // namespace xlstm
