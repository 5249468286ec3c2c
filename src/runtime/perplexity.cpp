#include "xlstm/runtime/perplexity.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "xlstm/core/errors.h"
#include "xlstm/runtime/sequence.h"

namespace xlstm {
namespace {

// -ln softmax(logits)[target]
double negative_log_likelihood(std::span<const float> logits, int64_t target) {
  const float top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - top));
  return std::log(sum) + static_cast<double>(top) - static_cast<double>(logits[static_cast<size_t>(target)]);
}

}  // namespace

DocumentScore score_document(Engine& engine, const std::vector<int64_t>& ids) {
  DocumentScore score;
  if (ids.size() < 2) return score;
  engine.require_ids(ids, "document");
  const auto vocab = static_cast<size_t>(engine.dims().vocab_size);
  Sequence sequence(engine);
  size_t next = 1;  // the id that the next row of logits predicts
  // The last id is only predicted, never fed.
  sequence.feed(std::span(ids).first(ids.size() - 1), [&](std::span<const float> rows) {
    for (size_t begin = 0; begin < rows.size(); begin += vocab) {
      score.nll += negative_log_likelihood(rows.subspan(begin, vocab), ids[next]);
      ++next;
    }
  });
  if (!std::isfinite(score.nll)) {
    fail(ExitCode::kCheckpoint, "logits", "perplexity", "finite numbers", "NaN or infinity; the weights are damaged");
  }
  score.tokens = static_cast<int64_t>(next) - 1;
  return score;
}

}  // namespace xlstm
