// How the modes of a search choose their candidates.
#pragma once

#include <memory>

#include "xlstm/tune/search.h"

namespace xlstm {

[[nodiscard]] std::unique_ptr<Proposer> make_proposer(const SearchPlan& plan);

// The candidates that a search in this mode measures at most, those tried first included.
[[nodiscard]] int64_t most_candidates(const SearchPlan& plan);

}  // namespace xlstm
