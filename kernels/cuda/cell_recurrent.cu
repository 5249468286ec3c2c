// A block takes a strip of columns of one head of one span, or, in a step, one such strip after the other. Of C each
// thread has a part: kColumnLanes threads beside each other have kVector columns each, kRowLanes of them below each
// other every kRowLanes-th row. A sequence keeps it in registers, to a step it comes through shared memory. Every block
// computes the gates and n for itself, which are small beside its part of C; the last one of a head to come by stores n
// and m.
#include <algorithm>

#include "kernels/cuda/cell_recurrent_parts.h"
#include "xlstm/core/errors.h"

namespace xlstm::cuda {
namespace {

constexpr unsigned kMaxRows = 8;             // rows of C that a thread holds; more rows go by in shares
constexpr unsigned kGroupBytes = 64 * 1024;  // of shared memory for a group's tokens; a single token may take more
// Heads of more features leave less of it to C. Step and sequence, and states of every type, are cut into the same
// shares: the order of h's sums depends on them.
constexpr int32_t kLongDk = 8192;
constexpr unsigned kRowsOfLongDk = 4;

constexpr unsigned kStepBlocks = 3;  // on a processor, if they fit
constexpr unsigned kStages = 2;      // shares that a block has: one is worked on, one is under way

// Shares of C's rows in shared memory. Each thread has pieces of its own, so that no other waits for them.
template <class Columns>
struct Landing {
  using Raw = typename Columns::Raw;
  static constexpr unsigned kPieces = Columns::kShareRows / kRowLanes * kRecurrentThreads;
  static constexpr unsigned kBytes = kStages * kPieces * sizeof(Raw);
  static_assert(kBytes % 16 == 0);

  [[nodiscard]] __device__ __forceinline__ Raw& piece(unsigned stage, unsigned j) const {
    return pieces[stage * kPieces + j * kRecurrentThreads + threadIdx.x];
  }
  // Behind the end there are zeros.
  __device__ __forceinline__ void fetch(const Columns& columns, int32_t begin, unsigned stage) const {
    const Raw* from = columns.share(begin);
    XLSTM_UNROLL
    for (unsigned j = 0; j < Columns::kShareRows / kRowLanes; ++j) {
      Raw& to = piece(stage, j);
      if (columns.row_of(begin, j) >= columns.dk) {
        to = Columns::no_piece();
      } else if constexpr (sizeof(Raw) == 16) {
        copy_async_16(&to, from);
      } else {
        to = *from;
      }
      from += columns.row_step;
    }
  }

  Raw* pieces;  // [kStages, kPieces]
};
static_assert(kStages == 2);  // stages take turns below

// What a task needs beside C, on its way.
template <unsigned kWidth>
struct Inputs {
  int64_t state;
  int64_t row;
  float n;  // the thread's first
  float m;
  Ahead<1, kWidth> ahead;
};

// A task of a block, which takes every gridDim.x-th.
struct PlacedTask {
  int32_t number;
  Task task;
  int32_t slot;
  int32_t row;  // of q, k, v and the gates
};

template <class State, unsigned kWidth>
__device__ __forceinline__ void read_inputs(const RecurrentArgs& args, const PlacedTask& now, Inputs<kWidth>& inputs) {
  const CellTensors& cell = args.call.cell;
  inputs.state = state_of(args, now.task, now.slot);
  inputs.row = now.row;
  inputs.n = read_normaliser<State>(cell, inputs.state);
  inputs.m = cell.m[inputs.state];
  read_ahead(cell, now.task, now.row, 1, inputs.ahead);
}

__device__ __forceinline__ void read_span(const RecurrentArgs& args, PlacedTask& now) {
  const volatile CellSpan& span = span_of(args, now.task);
  now.slot = span.slot;
  now.row = span.first_row;
}

// Behind the last task there is only the number.
__device__ __forceinline__ PlacedTask placed_task(const RecurrentArgs& args, int32_t number) {
  PlacedTask now{number, {}, 0, 0};
  if (number < args.tasks) {
    now.task = task_at(args, number);
    read_span(args, now);
  }
  return now;
}

// One token. A block goes through its tasks; what the next one needs is on its way while one is worked on, but for C
// where its columns are no whole vectors. The first task's C is read while the kernel before still runs. Which slot it
// is may not have reached the device by then: the slot found is as good as any, and the right one is read later if it
// was another.
template <class State, unsigned kVector, unsigned kRows>
__global__ void __launch_bounds__(kRecurrentThreads, kStepBlocks) step(RecurrentArgs args) {
  XLSTM_DYNAMIC_SHARED(uint8_t, memory);
  using Columns = Strip<State, kVector, kRows>;
  const CellTensors& cell = args.call.cell;
  const Landing<Columns> landing{reinterpret_cast<typename Columns::Raw*>(memory)};
  const Shared shared = divide(reinterpret_cast<float*>(memory + Landing<Columns>::kBytes), args, Columns::kWidth);
  const auto step_of_tasks = static_cast<int32_t>(gridDim.x);
  const auto first = static_cast<int32_t>(blockIdx.x);
  PlacedTask now = placed_task(args, first);
  const int32_t guess = 0 <= now.slot && now.slot < args.call.slots ? now.slot : 0;
  landing.fetch(Columns(cell, now.task.strip, state_of(args, now.task, guess)), 0, 0);
  commit_copies();

  wait_for_previous();
  start_next();
  read_span(args, now);
  PlacedTask after = placed_task(args, first + step_of_tasks);
  if (now.slot != guess) {
    wait_for_copies<0>();
    landing.fetch(Columns(cell, now.task.strip, state_of(args, now.task, now.slot)), 0, 0);
    commit_copies();
  }
  Inputs<Columns::kWidth> next;
  read_inputs<State>(args, now, next);
  unsigned stage = 0;
  for (; now.number < args.tasks; now = after, after = placed_task(args, now.number + step_of_tasks)) {
    Inputs<Columns::kWidth> inputs = next;
    const Columns columns(cell, now.task.strip, inputs.state);
    const bool is_last = after.number >= args.tasks;
    if (!is_last) read_inputs<State>(args, after, next);
    load_normaliser<State>(cell, inputs.state, inputs.n, shared.n);
    const Gates gates = gates_of<1>(inputs.ahead.input, inputs.ahead.forget, 1, inputs.m);
    Group group{now.task, inputs.row, 1, 0, true, true};
    stage_group(args, group, inputs.ahead, gates, shared);
    __syncthreads();
    const float before = arrive(args, inputs.state);
    float values[kVector];
    read_vector(shared.values + threadIdx.x % kColumnLanes * kVector, values);
    for (int32_t begin = 0; begin < cell.dk; begin += static_cast<int32_t>(Columns::kShareRows)) {
      const int32_t next_begin = begin + static_cast<int32_t>(Columns::kShareRows);
      if (next_begin < cell.dk) {
        landing.fetch(columns, next_begin, stage ^ 1);
      } else if (!is_last) {
        landing.fetch(Columns(cell, after.task.strip, state_of(args, after.task, after.slot)), 0, stage ^ 1);
      }
      commit_copies();
      wait_for_copies<1>();
      float sums[kVector] = {};
      typename Columns::Raw* to = columns.share(begin);
      XLSTM_UNROLL
      for (unsigned j = 0; j < kRows; ++j) {
        float c[kVector];
        Columns::Piece::unpack(landing.piece(stage, j), c);
        advance_row(shared.operands[columns.row_of(begin, j)], gates.forget, values, c, sums);
        if (columns.row_of(begin, j) < columns.dk) *to = Columns::Piece::pack(c);
        to += columns.row_step;
      }
      stage ^= 1;
      if (begin > 0) __syncthreads();  // the share before has been read
      write_partials(sums, 0, shared);
      __syncthreads();
      group.first_share = begin == 0;
      group.with_n = next_begin >= cell.dk;
      write_h<Columns::kWidth>(args, group, shared);
    }
    store_if_last<State>(args, inputs.state, before, inputs.m, shared);
  }
}

__device__ __forceinline__ int32_t lesser(int32_t a, int32_t b) {
  return a < b ? a : b;
}

// The tokens of a group, with C in registers.
template <class Columns, unsigned kVector, unsigned kRows>
__device__ __forceinline__ void advance(const RecurrentArgs& args, const Columns& columns, int32_t begin, int32_t count,
                                        const Gates& gates, const Shared& shared, float (&held)[kRows][kVector]) {
  for (unsigned t = 0; t < static_cast<unsigned>(count); ++t) {
    const float forget = of_token<kGroupTokens>(gates.forget, t);
    const float2* const operands = shared.operands + t * static_cast<unsigned>(args.padded_dk);
    float values[kVector];
    read_vector(shared.values + t * Columns::kWidth + threadIdx.x % kColumnLanes * kVector, values);
    float sums[kVector] = {};
    XLSTM_UNROLL
    for (unsigned j = 0; j < kRows; ++j) {
      advance_row(operands[columns.row_of(begin, j)], forget, values, held[j], sums);
    }
    write_partials(sums, t, shared);
  }
}

// Any number of tokens, in groups; for each share of C's rows over again.
template <class State, unsigned kVector, unsigned kRows>
__global__ void __launch_bounds__(kRecurrentThreads) sequence(RecurrentArgs args) {
  XLSTM_DYNAMIC_SHARED(float, memory);
  start_next();
  wait_for_previous();
  using Columns = Strip<State, kVector, kRows>;
  const CellTensors& cell = args.call.cell;
  const Shared shared = divide(memory, args, Columns::kWidth);
  const Task task{static_cast<int32_t>(blockIdx.x), static_cast<int32_t>(blockIdx.y), static_cast<int32_t>(blockIdx.z)};
  const volatile CellSpan& staged = span_of(args, task);
  const CellSpan span{staged.slot, staged.first_row, staged.rows, 0};
  const int64_t state = state_of(args, task, span.slot);
  const Columns columns(cell, task.strip, state);
  const float first_m = cell.m[state];
  float m = first_m;
  float before = 0.0F;
  Group group{};
  group.task = task;
  for (int32_t begin = 0; begin < cell.dk; begin += static_cast<int32_t>(Columns::kShareRows)) {
    group.first_share = begin == 0;
    group.with_n = begin + static_cast<int32_t>(Columns::kShareRows) >= cell.dk;
    if (group.with_n) load_normaliser<State>(cell, state, read_normaliser<State>(cell, state), shared.n);
    m = first_m;
    typename Columns::Raw raw[kRows];
    columns.load(begin, raw);
    float held[kRows][kVector];
    XLSTM_UNROLL
    for (unsigned j = 0; j < kRows; ++j) Columns::Piece::unpack(raw[j], held[j]);

    Ahead<kGroupTokens, Columns::kWidth> ahead;
    read_ahead(cell, task, span.first_row, lesser(args.tokens, span.rows), ahead);
    for (int32_t done = 0; done < span.rows; done += args.tokens) {
      group.first_row = span.first_row + done;
      group.count = lesser(args.tokens, span.rows - done);
      const Gates gates = gates_of<kGroupTokens>(ahead.input, ahead.forget, group.count, m);
      stage_group(args, group, ahead, gates, shared);
      const int32_t left = span.rows - done - group.count;
      if (left > 0) read_ahead(cell, task, group.first_row + group.count, lesser(args.tokens, left), ahead);
      __syncthreads();
      if (group.with_n && left == 0) before = arrive(args, state);
      advance(args, columns, begin, group.count, gates, shared, held);
      __syncthreads();
      write_h<Columns::kWidth>(args, group, shared);
      group.turn ^= 1;
    }
    typename Columns::Raw* to = columns.share(begin);
    XLSTM_UNROLL
    for (unsigned j = 0; j < kRows; ++j) {
      if (columns.row_of(begin, j) < columns.dk) *to = Columns::Piece::pack(held[j]);
      to += columns.row_step;
    }
  }
  store_if_last<State>(args, state, before, m, shared);
}

unsigned rounded_up(int64_t value, unsigned unit) {
  return static_cast<unsigned>((value + unit - 1) / unit * unit);
}

template <class State, unsigned kVector, unsigned kRows, bool kStep>
void launch(Queue& queue, const Recurrent& call) {
  using Columns = Strip<State, kVector, kRows>;
  const unsigned padded_dk = rounded_up(call.cell.dk, Columns::kShareRows);
  unsigned tokens = kStep ? 1 : kGroupTokens;
  while (tokens > 1 && shared_bytes_of(tokens, padded_dk, Columns::kWidth) > kGroupBytes) --tokens;
  const unsigned strips = rounded_up(call.cell.dv, Columns::kWidth) / Columns::kWidth;
  const int64_t tasks = int64_t{strips} * call.cell.heads * call.span_count;
  XLSTM_ASSERT(tasks <= INT32_MAX / 2);
  const RecurrentArgs args{call, static_cast<int32_t>(padded_dk), static_cast<int32_t>(tokens),
                           static_cast<int32_t>(strips), static_cast<int32_t>(tasks)};
  const unsigned shared_bytes = shared_bytes_of(tokens, padded_dk, Columns::kWidth);
  if constexpr (kStep) {
    const unsigned bytes = Landing<Columns>::kBytes + shared_bytes;
    const int64_t blocks = std::clamp<int64_t>(kProcessorSharedBytes / (bytes + kReservedSharedBytes), 1, kStepBlocks);
    Grid grid{.x = static_cast<unsigned>(std::min(tasks, blocks * queue.processors())),
              .threads = kRecurrentThreads,
              .shared_bytes = bytes};
    if (tasks <= queue.processors()) {
      grid.shared_bytes = std::max(grid.shared_bytes, static_cast<unsigned>(kTwoBlocksBytes));
    }
    run<step<State, kVector, kRows>>(queue, grid, args);
  } else {
    run<sequence<State, kVector, kRows>>(queue,
                                         {.x = strips,
                                          .y = static_cast<unsigned>(call.cell.heads),
                                          .z = static_cast<unsigned>(call.span_count),
                                          .threads = kRecurrentThreads,
                                          .shared_bytes = shared_bytes},
                                         args);
  }
}

template <class State, unsigned kVector, bool kStep>
void launch_rows(Queue& queue, const Recurrent& call) {
  if (call.cell.dk > kLongDk) return launch<State, kVector, kRowsOfLongDk, kStep>(queue, call);
  const auto dk = static_cast<unsigned>(call.cell.dk);
  if (dk <= kRowLanes) return launch<State, kVector, 1, kStep>(queue, call);
  if (dk <= 2 * kRowLanes) return launch<State, kVector, 2, kStep>(queue, call);
  if (dk <= 4 * kRowLanes) return launch<State, kVector, 4, kStep>(queue, call);
  launch<State, kVector, kMaxRows, kStep>(queue, call);
}

template <class State, bool kStep>
void launch_columns(Queue& queue, const Recurrent& call) {
  constexpr unsigned kVector = 16 / sizeof(State);
  if (call.cell.dv % kVector == 0 && reinterpret_cast<uintptr_t>(call.cell.c) % 16 == 0) {
    launch_rows<State, kVector, kStep>(queue, call);
  } else if (call.cell.dk > kLongDk) {
    launch<State, 1, kRowsOfLongDk, kStep>(queue, call);
  } else {
    launch<State, 1, kMaxRows, kStep>(queue, call);
  }
}

template <bool kStep>
void launch_state(Queue& queue, const Recurrent& call) {
  if (call.cell.bfloat16_state != 0) {
    launch_columns<__nv_bfloat16, kStep>(queue, call);
  } else {
    launch_columns<float, kStep>(queue, call);
  }
}

}  // namespace

void run_step(Queue& queue, const Recurrent& call) {
  launch_state<true>(queue, call);
}

void run_sequence(Queue& queue, const Recurrent& call) {
  launch_state<false>(queue, call);
}

}  // namespace xlstm::cuda
