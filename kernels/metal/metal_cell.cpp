#include "kernels/metal/metal_cell.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>
#include <span>
#include <string>
#include <utility>

#include "kernels/metal/cell_args.h"
#include "kernels/metal/ints.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

using metal::blocks_of;
using metal::Gpu;
using metal::Kernel;
using metal::to_int;

// A kernel for either dtype of the state.
struct StateKernel {
  StateKernel(const Gpu& gpu, const std::string& name, const std::string& suffix = "")
      : float32(gpu.kernel(cat(name, "_float32", suffix))), bfloat16(gpu.kernel(cat(name, "_bfloat16", suffix))) {}

  [[nodiscard]] Kernel of(const LayerState& state) const {
    return state.c.scalar_type() == at::kFloat ? float32 : bfloat16;
  }

  Kernel float32;
  Kernel bfloat16;
};

// Kernels exist for some numbers of rows of C that they hold: the smallest that is enough, else the largest.
int64_t fitting_size(std::initializer_list<int64_t> sizes, int64_t rows) {
  for (const int64_t size : sizes) {
    if (rows <= size) return size;
  }
  return *(sizes.end() - 1);
}

int64_t stride_of_rows(const at::Tensor& tensor, int64_t features) {
  XLSTM_ASSERT(tensor.scalar_type() == at::kFloat && tensor.dim() == 2 && tensor.size(1) >= features);
  XLSTM_ASSERT(tensor.stride(1) == 1 || tensor.size(1) == 1);
  return tensor.stride(0);
}

// What all kernels do with the spans of a call: check it, and go through as many spans at a time as fit a command.
class MetalCell : public CellKernel {
 public:
  void run(const CellArgs& call) override {
    const shader::CellArgs args = checked(call);
    if (args.rows == 0) return;  // nothing but empty spans
    grow(scratch_, shader::kCellArrays * dims_.num_heads * args.rows);
    for (size_t begin = 0; begin < call.spans.size(); begin += shader::kCellSpans) {
      const size_t count = std::min<size_t>(call.spans.size() - begin, shader::kCellSpans);
      run_spans(call, call.spans.subspan(begin, count), args);
    }
  }

 protected:
  MetalCell(const ModelDims& dims, std::shared_ptr<Gpu> gpu) : dims_(dims), gpu_(std::move(gpu)) {}

  // Appends the commands for at most kCellSpans spans. `args`: all but the spans and the tiles.
  virtual void run_spans(const CellArgs& call, std::span<const Span> spans, shader::CellArgs args) = 0;

  void grow(at::Tensor& scratch, int64_t floats) const {
    if (scratch.defined() && scratch.numel() >= floats) return;
    scratch = at::empty({floats}, at::TensorOptions().device(gpu_->tensors()).dtype(at::kFloat));
  }

  // A threadgroup per column block of C, head and span.
  [[nodiscard]] metal::Grid columns_grid(int64_t heads, int64_t spans, int simds) const {
    return {{blocks_of(dims_.head_dim_v, shader::kCellColumns), heads, spans}, 32 * simds};
  }

  ModelDims dims_;
  std::shared_ptr<Gpu> gpu_;
  at::Tensor scratch_;  // [kCellArrays, NH, rows]

 private:
  [[nodiscard]] shader::CellArgs checked(const CellArgs& call) const {
    const Activations& act = call.act;
    const LayerState& state = call.state;
    XLSTM_ASSERT(state.c.dim() == 4 && state.c.size(1) == dims_.num_heads && state.c.size(2) == dims_.head_dim_qk &&
                 state.c.size(3) == dims_.head_dim_v);
    XLSTM_ASSERT(state.n.dim() == 3 && state.n.size(1) == dims_.num_heads && state.n.size(2) == dims_.head_dim_qk);
    XLSTM_ASSERT(state.m.dim() == 2 && state.m.size(1) == dims_.num_heads && state.m.scalar_type() == at::kFloat);
    XLSTM_ASSERT(state.c.is_contiguous() && state.n.is_contiguous() && state.m.is_contiguous());
    XLSTM_ASSERT(state.c.scalar_type() == at::kFloat || state.c.scalar_type() == at::kBFloat16);
    XLSTM_ASSERT(state.n.scalar_type() == state.c.scalar_type());

    shader::CellArgs args{};
    args.heads = to_int(dims_.num_heads);
    args.dk = to_int(dims_.head_dim_qk);
    args.dv = to_int(dims_.head_dim_v);
    args.dk_end = args.dk;
    args.qkv_stride = to_int(stride_of_rows(act.q, dims_.qk_dim()));
    XLSTM_ASSERT(stride_of_rows(act.k, dims_.qk_dim()) == args.qkv_stride);
    XLSTM_ASSERT(stride_of_rows(act.v, dims_.v_dim()) == args.qkv_stride);
    args.gates_stride = to_int(stride_of_rows(act.gates, 2 * dims_.num_heads));
    args.h_stride = to_int(stride_of_rows(act.h, dims_.v_dim()));
    for (const Span& span : call.spans) {
      if (span.rows > 0) args.rows = std::max(args.rows, to_int(span.first_row + span.rows));
    }
    args.scale = 1.0F / std::sqrt(static_cast<float>(dims_.head_dim_qk));
    args.eps = dims_.cell_eps;
    return args;
  }
};

// Sets `args` to one share of the rows of C after the other, of `size` rows, and calls run(args): a threadgroup holds
// no more than that, and h is summed up over the calls.
template <class Run>
void for_each_share(shader::CellArgs& args, int64_t size, const Run& run) {
  for (int64_t begin = 0; begin < args.dk; begin += size) {
    args.dk_begin = to_int(begin);
    args.dk_end = to_int(std::min<int64_t>(args.dk, begin + size));
    run(args);
  }
}

class MetalRecurrent : public MetalCell {
 public:
  MetalRecurrent(const ModelDims& dims, std::shared_ptr<Gpu> gpu, bool single_rows)
      : MetalCell(dims, std::move(gpu)),
        single_rows_(single_rows),
        held_(fitting_size({8, 16, 32, 64}, blocks_of(dims.head_dim_qk, shader::kRecurrentSimds))),
        gates_(*gpu_, "cell_recurrent_gates"),
        cell_(*gpu_, "cell_recurrent", cat("_", held_)) {}

 private:
  void run_spans(const CellArgs& call, std::span<const Span> spans, shader::CellArgs args) override {
    for (size_t i = 0; i < spans.size(); ++i) {
      XLSTM_ASSERT(spans[i].rows == 1 || !single_rows_);
      args.spans[i] = {to_int(spans[i].slot), to_int(spans[i].first_row), to_int(spans[i].rows), 0};
    }
    const Activations& act = call.act;
    LayerState& state = call.state;
    const auto count = static_cast<int64_t>(spans.size());
    const metal::Grid heads{{1, dims_.num_heads, count}, 32};
    gpu_->run(gates_.of(state), heads, args, {act.q, act.k, act.gates, state.n, state.m, scratch_});
    const metal::Grid columns = columns_grid(dims_.num_heads, count, shader::kRecurrentSimds);
    for_each_share(args, held_ * shader::kRecurrentSimds, [&](const shader::CellArgs& share) {
      gpu_->run(cell_.of(state), columns, share, {act.q, act.k, act.v, scratch_, state.c, act.h});
    });
  }

  bool single_rows_;
  int64_t held_;  // rows of C per simdgroup
  StateKernel gates_;
  StateKernel cell_;
};

class MetalChunkwise : public MetalCell {
 public:
  MetalChunkwise(const ModelDims& dims, const MetalChunkwiseOptions& options, std::shared_ptr<Gpu> gpu)
      : MetalCell(dims, std::move(gpu)),
        options_(options),
        tile_(std::min<int64_t>(options.chunk_size, shader::kCellTile)),
        held_(fitting_size({64, 128, 256}, dims.head_dim_qk)),
        gates_(gpu_->kernel("cell_chunk_gates")),
        scores_kernel_(gpu_->kernel("cell_chunk_scores")),
        normalizer_(*gpu_, "cell_chunk_normalizer"),
        states_(*gpu_, "cell_chunk_states", cat("_", held_)) {
    XLSTM_ASSERT(options.chunk_size >= 1 && options.heads_per_band >= 0);
    if (options_.heads_per_band == 0) options_.heads_per_band = dims.num_heads;
  }

 private:
  void run_spans(const CellArgs& call, std::span<const Span> spans, shader::CellArgs args) override {
    args.tile = to_int(tile_);
    args.score_stride = to_int(blocks_of(tile_, 8) * 8);
    int64_t tiles = 0;
    int64_t longest = 0;
    for (size_t i = 0; i < spans.size(); ++i) {
      XLSTM_ASSERT(spans[i].rows % options_.chunk_size == 0);
      args.spans[i] = {to_int(spans[i].slot), to_int(spans[i].first_row), to_int(spans[i].rows), to_int(tiles)};
      tiles += blocks_of(spans[i].rows, tile_);
      longest = std::max(longest, blocks_of(spans[i].rows, tile_));
    }
    if (tiles == 0) return;
    grow(scores_, tiles * dims_.num_heads * args.score_stride * args.score_stride);
    for (int64_t head = 0; head < dims_.num_heads; head += options_.heads_per_band) {
      args.head_begin = to_int(head);
      run_band(
          call, args,
          {{longest, std::min(options_.heads_per_band, dims_.num_heads - head), static_cast<int64_t>(spans.size())}});
    }
  }

  // `band`: tiles of the longest span, heads, spans.
  void run_band(const CellArgs& call, shader::CellArgs args, const std::array<int64_t, 3>& band) {
    const Activations& act = call.act;
    LayerState& state = call.state;
    const auto per_head = [&](int simds) { return metal::Grid{{1, band[1], band[2]}, 32 * simds}; };
    gpu_->run(gates_, per_head(1), args, {act.gates, state.m, scratch_});
    gpu_->run(scores_kernel_, {band, 32 * shader::kChunkSimds}, args, {act.q, act.k, scratch_, scores_});
    gpu_->run(normalizer_.of(state), per_head(shader::kNormalizerSimds), args,
              {act.q, act.k, scores_, state.n, scratch_});
    const metal::Grid columns = columns_grid(band[1], band[2], shader::kChunkSimds);
    for_each_share(args, held_, [&](const shader::CellArgs& share) {
      gpu_->run(states_.of(state), columns, share, {act.q, act.k, act.v, scratch_, scores_, state.c, act.h});
    });
  }

  MetalChunkwiseOptions options_;
  int64_t tile_;
  int64_t held_;  // rows of C per threadgroup
  Kernel gates_;
  Kernel scores_kernel_;
  StateKernel normalizer_;
  StateKernel states_;
  at::Tensor scores_;  // of all tiles and heads
};

}  // namespace

std::unique_ptr<CellKernel> make_metal_step(const ModelDims& dims, std::shared_ptr<metal::Gpu> gpu) {
  return std::make_unique<MetalRecurrent>(dims, std::move(gpu), /*single_rows=*/true);
}

std::unique_ptr<CellKernel> make_metal_sequence(const ModelDims& dims, std::shared_ptr<metal::Gpu> gpu) {
  return std::make_unique<MetalRecurrent>(dims, std::move(gpu), /*single_rows=*/false);
}

std::unique_ptr<CellKernel> make_metal_chunkwise(const ModelDims& dims, const MetalChunkwiseOptions& options,
                                                 std::shared_ptr<metal::Gpu> gpu) {
  return std::make_unique<MetalChunkwise>(dims, options, std::move(gpu));
}

}  // namespace xlstm
