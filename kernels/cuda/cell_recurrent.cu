// A block takes a strip of columns of one head of one span. C stays in its registers: kColumnLanes threads beside each
// other hold kVector columns each, kRowLanes of them below each other every kRowLanes-th row. Every block computes the
// gates and n for itself, which are small beside its part of C; the last one of a head to come by stores n and m.
#include <algorithm>

#include "kernels/cuda/cell_recurrent_parts.h"

namespace xlstm::cuda {
namespace {

constexpr unsigned kMaxRows = 8;             // rows of C that a thread holds; more rows go by in shares
constexpr unsigned kGroupBytes = 64 * 1024;  // of shared memory for a group's tokens; a single token may take more

// So many steps at a time on a processor have enough of C under way to use the memory fully.
template <unsigned kVector>
constexpr unsigned kStepBlocks = kVector > 4 ? 3 : 4;

// One token. The state is read while the kernel before still runs. Which slot it is may not have reached the device by
// then: the slot found is as good as any, and the right one is read later if it was another.
template <class State, unsigned kVector, unsigned kRows>
__global__ void __launch_bounds__(kRecurrentThreads, kStepBlocks<kVector>) step(RecurrentArgs args) {
  XLSTM_DYNAMIC_SHARED(float, memory);
  using Columns = Strip<State, kVector, kRows>;
  const CellTensors& cell = args.call.cell;
  const Shared shared = divide(memory, args, Columns::kWidth);
  typename Columns::Raw raw[kRows];
  const int32_t found = span_of(args).slot;
  const int32_t guess = 0 <= found && found < args.call.slots ? found : 0;
  int64_t state = state_of(args, guess);
  Columns(cell, state).load(0, raw);
  float first_n = read_normaliser<State>(cell, state);
  float m = cell.m[state];

  wait_for_previous();
  start_next();
  const int32_t row = span_of(args).first_row;
  const int32_t slot = span_of(args).slot;
  if (slot != guess) {
    state = state_of(args, slot);
    Columns(cell, state).load(0, raw);
    first_n = read_normaliser<State>(cell, state);
    m = cell.m[state];
  }
  Ahead<1, Columns::kWidth> ahead;
  read_ahead(cell, row, 1, ahead);
  load_normaliser<State>(cell, state, first_n, shared.n);
  const Gates gates = gates_of<1>(ahead.input, ahead.forget, 1, m);
  Group group{row, 1, 0, true, true};
  stage_group(args, group, ahead, gates, shared);
  __syncthreads();
  const float before = arrive(args, state);

  const Columns columns(cell, state);
  float values[kVector];
  read_vector(shared.values + threadIdx.x % kColumnLanes * kVector, values);
  for (int32_t begin = 0; begin < cell.dk; begin += static_cast<int32_t>(Columns::kShareRows)) {
    if (begin > 0) columns.load(begin, raw);
    float sums[kVector] = {};
    typename Columns::Raw* to = columns.share(begin);
    XLSTM_UNROLL
    for (unsigned j = 0; j < kRows; ++j) {
      float c[kVector];
      Columns::Piece::unpack(raw[j], c);
      advance_row(shared.operands[columns.row_of(begin, j)], gates.forget, values, c, sums);
      if (columns.row_of(begin, j) < columns.dk) *to = Columns::Piece::pack(c);
      to += columns.row_step;
    }
    if (begin > 0) __syncthreads();  // the share before has been read
    write_partials(sums, 0, shared);
    __syncthreads();
    group.first_share = begin == 0;
    group.with_n = begin + static_cast<int32_t>(Columns::kShareRows) >= cell.dk;
    write_h<Columns::kWidth>(args, group, shared);
  }
  store_if_last<State>(args, state, before, m, shared);
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
  const volatile CellSpan& staged = span_of(args);
  const CellSpan span{staged.slot, staged.first_row, staged.rows, 0};
  const int64_t state = state_of(args, span.slot);
  const Columns columns(cell, state);
  const float first_m = cell.m[state];
  float m = first_m;
  float before = 0.0F;
  Group group{};
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
    read_ahead(cell, span.first_row, lesser(args.tokens, span.rows), ahead);
    for (int32_t done = 0; done < span.rows; done += args.tokens) {
      group.first_row = span.first_row + done;
      group.count = lesser(args.tokens, span.rows - done);
      const Gates gates = gates_of<kGroupTokens>(ahead.input, ahead.forget, group.count, m);
      stage_group(args, group, ahead, gates, shared);
      const int32_t left = span.rows - done - group.count;
      if (left > 0) read_ahead(cell, group.first_row + group.count, lesser(args.tokens, left), ahead);
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
  const RecurrentArgs args{call, static_cast<int32_t>(padded_dk), static_cast<int32_t>(tokens)};
  Grid grid{.x = rounded_up(call.cell.dv, Columns::kWidth) / Columns::kWidth,
            .y = static_cast<unsigned>(call.cell.heads),
            .z = static_cast<unsigned>(call.span_count),
            .threads = kRecurrentThreads,
            .shared_bytes = shared_bytes_of(tokens, padded_dk, Columns::kWidth)};
  if (kStep && int64_t{grid.x} * grid.y * grid.z <= queue.processors()) {
    grid.shared_bytes = std::max(grid.shared_bytes, static_cast<unsigned>(kTwoBlocksBytes));
  }
  if constexpr (kStep) {
    run<step<State, kVector, kRows>>(queue, grid, args);
  } else {
    run<sequence<State, kVector, kRows>>(queue, grid, args);
  }
}

template <class State, unsigned kVector, bool kStep>
void launch_rows(Queue& queue, const Recurrent& call) {
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
