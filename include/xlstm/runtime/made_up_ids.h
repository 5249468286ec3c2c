// Token ids for measurements of speed, which does not depend on what a text says.
#pragma once

#include <cstdint>

namespace xlstm {

// The id after `id`, both in [0, vocab): scattered, so that rows of the embedding are not read again at once.
[[nodiscard]] inline int64_t next_made_up_id(int64_t id, int64_t vocab) {
  return (id * 31 + 7) % vocab;
}

}  // namespace xlstm
