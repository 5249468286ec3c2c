// One token of the mLSTM recurrence, on the calling thread.
#pragma once

#include "kernels/cpu/head_rows.h"

namespace xlstm::cpu {

// Some heads of one sequence. The pointers are the first head's; in q, k, v, h and the gates the next head lies behind.
struct StepArgs {
  HeadRows rows;    // one token
  HeadState state;  // updated in place
  HeadDims dims;
  int64_t heads = 1;
  int64_t c_head = 0;  // elements between the heads' C, n and m
  int64_t n_head = 0;
  int64_t m_head = 0;
};

// Reads and writes C once, from front to back. The result of a head does not depend on the heads beside it.
void run_step(const StepArgs& args);

}  // namespace xlstm::cpu
