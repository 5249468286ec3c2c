// The CPU's tile kernel over plain memory, without libtorch, so that ThreadSanitizer sees everything.
#pragma once

#include <bit>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "kernels/cpu/chunk_tile.h"
#include "kernels/cpu/scratch.h"
#include "kernels/row_plan.h"
#include "kernels/tile.h"

namespace xlstm::test {

struct RawShape {
  int64_t heads = 1;
  cpu::HeadDims dims;
  bool bfloat16_state = false;
};

// Inputs, outputs and states of some spans with reproducible random values; slots are span numbers.
struct RawCell {
  RawCell(const RawShape& s, std::vector<Span> plan_spans, uint32_t seed) : shape(s), spans(std::move(plan_spans)) {
    std::mt19937 random(seed);
    std::normal_distribution<float> distribution;
    const auto fill = [&](std::vector<float>& values, int64_t count) {
      values.resize(static_cast<size_t>(count));
      for (float& value : values) value = distribution(random);
    };
    const int64_t rows = spans.empty() ? 0 : spans.back().first_row + spans.back().rows;
    const int64_t states = static_cast<int64_t>(spans.size()) * shape.heads;
    fill(q, rows * qk_stride());
    fill(k, rows * qk_stride());
    fill(v, rows * v_stride());
    fill(gates, rows * 2 * shape.heads);
    h.assign(v.size(), 0);
    fill(c, states * shape.dims.dk * shape.dims.dv);
    fill(n, states * shape.dims.dk);
    fill(m, states);
    if (!shape.bfloat16_state) return;
    // The upper half of a float32 is a bfloat16.
    for (std::vector<float>* values : {&c, &n}) {
      for (const float value : *values) {
        narrow.push_back({static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16)});
      }
    }
  }

  [[nodiscard]] int64_t qk_stride() const { return shape.heads * shape.dims.dk; }
  [[nodiscard]] int64_t v_stride() const { return shape.heads * shape.dims.dv; }

  // One head of a tile; no chain and no carried state.
  [[nodiscard]] cpu::ChunkTileArgs args(const Tile& tile, int64_t head) {
    const int64_t row = spans[static_cast<size_t>(tile.span)].first_row + tile.token_begin;
    const int64_t state = tile.span * shape.heads + head;
    const int64_t dk = shape.dims.dk;
    const int64_t dv = shape.dims.dv;
    cpu::ChunkTileArgs args;
    args.dims = shape.dims;
    args.rows.q = q.data() + row * qk_stride() + head * dk;
    args.rows.k = k.data() + row * qk_stride() + head * dk;
    args.rows.v = v.data() + row * v_stride() + head * dv;
    args.rows.h = h.data() + row * v_stride() + head * dv;
    args.rows.i_gate = gates.data() + row * 2 * shape.heads + head;
    args.rows.f_gate = args.rows.i_gate + shape.heads;
    args.rows.q_stride = args.rows.k_stride = qk_stride();
    args.rows.v_stride = args.rows.h_stride = v_stride();
    args.rows.gate_stride = 2 * shape.heads;
    args.rows.rows = tile.token_end - tile.token_begin;
    args.token = tile.token_begin;
    args.following = spans[static_cast<size_t>(tile.span)].rows - tile.token_end;
    args.state.m = m.data() + state;
    args.state.c_stride = dv;
    if (shape.bfloat16_state) {
      args.state.dtype = cpu::Dtype::kBfloat16;
      args.state.c = narrow.data() + state * dk * dv;
      args.state.n = narrow.data() + static_cast<int64_t>(c.size()) + state * dk;
    } else {
      args.state.c = c.data() + state * dk * dv;
      args.state.n = n.data() + state * dk;
    }
    return args;
  }

  RawShape shape;
  std::vector<Span> spans;
  std::vector<float> q, k, v, gates, h;  // rows of all heads
  std::vector<float> c, n, m;            // [spans, heads, …]
  std::vector<cpu::Bfloat16> narrow;     // C, then n, if the state is bfloat16
};

class RawRunner : public TileRunner {
 public:
  // With `ahead`, tiles of a head may run beside each other.
  RawRunner(RawCell& cell, bool ahead) : cell_(cell), ahead_(ahead), chains_(cell.m.size()) {
    carried_ = memory_.floats(carried_floats() * static_cast<int64_t>(cell.m.size()));
    rewind();
  }

  // For a next call, which goes on from the states of the last.
  void rewind() const {
    for (size_t head = 0; head < chains_.size(); ++head) chains_[head].reset(cell_.m[head]);
  }
  [[nodiscard]] bool runs_ahead() const override { return ahead_; }
  void run(const Tile& tile) const override {
    for (int64_t head = tile.head_begin; head < tile.head_end; ++head) {
      const auto index = static_cast<size_t>(tile.span * cell_.shape.heads + head);
      cpu::ChunkTileArgs args = cell_.args(tile, head);
      args.chain = &chains_[index];
      args.carried = carried_ + static_cast<int64_t>(index) * carried_floats();
      cpu::run_chunk_tile(args);
    }
  }

 private:
  // Whole cache lines.
  [[nodiscard]] int64_t carried_floats() const { return cpu::carried_state_floats(cell_.shape.dims); }

  RawCell& cell_;
  bool ahead_;
  mutable std::vector<cpu::HeadChain> chains_;
  cpu::Scratch memory_;
  float* carried_ = nullptr;  // of each chain
};

}  // namespace xlstm::test
