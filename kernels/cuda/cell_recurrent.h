// The mLSTM cell token by token: C, n and m are read once and written once per call. Formulas: kernels/cell.h.
//
// h and the state are the same bits whether tokens come in one call or in several, beside whichever spans, and, but for
// the rounding at a call's end, whatever type the state has.
#pragma once

#include <cstdint>

#include "kernels/cuda/cell_args.h"
#include "kernels/cuda/queue.h"

namespace xlstm::cuda {

struct Recurrent {
  CellTensors cell;
  const int32_t* spans;  // [span_count] CellSpan; slots differ, none is empty
  float* arrivals;       // [slots, heads] zeros, which a call leaves as it found them
  int32_t span_count;
  int32_t slots;
};

constexpr int64_t kMaxRecurrentDk = 16384;  // of which q and k fit into a block's shared memory

// Every span is one token. The state is read before the kernels that are still running have ended: none of them may
// write it, so that there is at most one such call per layer and pass, before run_sequence() and the chunkwise kernels.
void run_step(Queue& queue, const Recurrent& call);

void run_sequence(Queue& queue, const Recurrent& call);

}  // namespace xlstm::cuda
