// The mLSTM recurrence token by token, for some columns of one head, on the calling thread.
#pragma once

#include "kernels/cpu/head_rows.h"

namespace xlstm::cpu {

struct RecurrenceArgs {
  HeadRows rows;
  HeadState state;  // the columns of C are updated in place, n and m are left as they are
  HeadDims dims;
  int64_t col_begin = 0;  // of C, v and h; a multiple of kRecurrenceColumnGrain
  int64_t col_end = 0;
  float* n_next = nullptr;  // [Dk] n and m after the last token: every part of a head that is split by columns needs
  float* m_next = nullptr;  // the old ones, so the caller stores the new ones when all parts are done
};

constexpr int64_t kRecurrenceColumnGrain = 16;

// h of a token has the same bits however the tokens are spread over calls (with float32 state) and the columns over
// parts.
void run_recurrence(const RecurrenceArgs& args);

// Writes n and m into the state.
void store_normalizer(const HeadState& state, const float* n, float m, int64_t dk);

}  // namespace xlstm::cpu
