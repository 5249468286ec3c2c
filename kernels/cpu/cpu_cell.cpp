#include "kernels/cpu/cpu_cell.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "kernels/cpu/cell_view.h"
#include "kernels/cpu/chunk_tile.h"
#include "kernels/cpu/recurrence.h"
#include "kernels/cpu/team.h"
#include "xlstm/core/errors.h"

namespace xlstm {
namespace {

using cpu::CellView;
using cpu::HeadDims;
using cpu::HeadState;

HeadDims head_dims(const ModelDims& dims) {
  return {dims.head_dim_qk, dims.head_dim_v, dims.cell_eps};
}

// Step and sequence: the recurrence, parallel over spans, heads and, when there are few of those, columns of C.
class RecurrentKernel : public CellKernel {
 public:
  RecurrentKernel(const ModelDims& dims, bool single_step, ThreadPool& pool)
      : dims_(dims), single_step_(single_step), pool_(pool) {}

  void run(const CellArgs& args) override {
    const CellView view(dims_, args);
    const auto heads = static_cast<int64_t>(args.spans.size()) * dims_.num_heads;
    if (heads == 0) return;
    const int64_t parts = parts_per_head(heads);
    const int64_t grains = (dims_.head_dim_v + cpu::kRecurrenceColumnGrain - 1) / cpu::kRecurrenceColumnGrain;
    const int64_t n_stride = dims_.head_dim_qk;
    n_.resize(static_cast<size_t>(heads * parts * n_stride));
    m_.resize(static_cast<size_t>(heads * parts));

    const auto unit = [&](int64_t index) {
      const int64_t head = index / parts;
      const int64_t part = index % parts;
      const Span& span = args.spans[static_cast<size_t>(head / dims_.num_heads)];
      XLSTM_ASSERT(!single_step_ || span.rows == 1);
      if (span.rows == 0) return;
      cpu::RecurrenceArgs part_args;
      part_args.rows = view.rows(span, head % dims_.num_heads, 0, span.rows);
      part_args.state = view.state(span.slot, head % dims_.num_heads);
      part_args.dims = head_dims(dims_);
      part_args.col_begin = grains * part / parts * cpu::kRecurrenceColumnGrain;
      part_args.col_end = std::min(dims_.head_dim_v, grains * (part + 1) / parts * cpu::kRecurrenceColumnGrain);
      part_args.n_next = n_.data() + index * n_stride;
      part_args.m_next = m_.data() + index;
      cpu::run_recurrence(part_args);
      if (parts == 1) cpu::store_normalizer(part_args.state, part_args.n_next, *part_args.m_next, n_stride);
    };
    if (single_step_) {
      cpu::for_each_static(pool_, heads * parts, unit);
    } else {
      cpu::for_each_dynamic(pool_, heads * parts, unit);
    }
    if (parts > 1) store_normalizers(view, args.spans, parts);
  }

 private:
  // One part if the heads fill the team evenly or nearly so.
  [[nodiscard]] int64_t parts_per_head(int64_t heads) const {
    const int64_t team = pool_.size();
    if (heads % team == 0 || heads >= 4 * team) return 1;
    const int64_t grains = (dims_.head_dim_v + cpu::kRecurrenceColumnGrain - 1) / cpu::kRecurrenceColumnGrain;
    return std::min(grains, (2 * team + heads - 1) / heads);
  }

  // All parts of a head computed the same n and m from the old ones.
  void store_normalizers(const CellView& view, std::span<const Span> spans, int64_t parts) const {
    int64_t index = 0;
    for (const Span& span : spans) {
      for (int64_t head = 0; head < dims_.num_heads; ++head, index += parts) {
        if (span.rows == 0) continue;
        cpu::store_normalizer(view.state(span.slot, head), n_.data() + index * dims_.head_dim_qk,
                              m_[static_cast<size_t>(index)], dims_.head_dim_qk);
      }
    }
  }

  ModelDims dims_;
  bool single_step_;
  ThreadPool& pool_;
  std::vector<float> n_;
  std::vector<float> m_;
};

// The arguments of one tile of one head, without a chain.
cpu::ChunkTileArgs tile_args(const ModelDims& dims, const CellView& view, const Span& span, int64_t head, int64_t begin,
                             int64_t end) {
  return {view.rows(span, head, begin, end), view.state(span.slot, head), head_dims(dims)};
}

class ChunkwiseKernel : public CellKernel {
 public:
  ChunkwiseKernel(const ModelDims& dims, int64_t chunk_size, ThreadPool& pool)
      : dims_(dims), chunk_size_(chunk_size), pool_(pool) {
    XLSTM_ASSERT(chunk_size >= 1);
  }

  void run(const CellArgs& args) override {
    const CellView view(dims_, args);
    for (const Span& span : args.spans) XLSTM_ASSERT(span.rows % chunk_size_ == 0);
    const auto heads = static_cast<int64_t>(args.spans.size()) * dims_.num_heads;
    cpu::for_each_dynamic(pool_, heads, [&](int64_t index) {
      const int64_t head = index % dims_.num_heads;
      const Span& span = args.spans[static_cast<size_t>(index / dims_.num_heads)];
      for (int64_t token = 0; token < span.rows; token += chunk_size_) {
        cpu::run_chunk_tile(tile_args(dims_, view, span, head, token, token + chunk_size_));
      }
    });
  }

 private:
  ModelDims dims_;
  int64_t chunk_size_;
  ThreadPool& pool_;
};

class CpuTileKernel : public TileKernel, private TileRunner {
 public:
  explicit CpuTileKernel(const ModelDims& dims) : dims_(dims) {}

  [[nodiscard]] const TileRunner& bind(const CellArgs& args) override {
    view_.emplace(dims_, args);
    spans_ = args.spans;
    const size_t heads = spans_.size() * static_cast<size_t>(dims_.num_heads);
    if (chains_.size() < heads) chains_ = std::vector<cpu::HeadChain>(heads);
    for (size_t span = 0; span < spans_.size(); ++span) {
      for (int64_t head = 0; head < dims_.num_heads; ++head) {
        chain(static_cast<int64_t>(span), head).reset(*view_->state(spans_[span].slot, head).m);
      }
    }
    return *this;
  }

 private:
  [[nodiscard]] bool runs_ahead() const override { return true; }

  void run(const Tile& tile) const override {
    XLSTM_ASSERT(tile.span >= 0 && tile.span < static_cast<int64_t>(spans_.size()));
    XLSTM_ASSERT(tile.head_begin >= 0 && tile.head_end <= dims_.num_heads);
    const Span& span = spans_[static_cast<size_t>(tile.span)];
    try {
      XLSTM_ASSERT(tile.token_begin >= 0 && tile.token_begin < tile.token_end && tile.token_end <= span.rows);
      for (int64_t head = tile.head_begin; head < tile.head_end; ++head) {
        cpu::ChunkTileArgs args = tile_args(dims_, *view_, span, head, tile.token_begin, tile.token_end);
        args.chain = &chain(tile.span, head);
        args.token = tile.token_begin;
        cpu::run_chunk_tile(args);
      }
    } catch (...) {
      for (int64_t head = tile.head_begin; head < tile.head_end; ++head) chain(tile.span, head).give_up();
      throw;
    }
  }

  [[nodiscard]] cpu::HeadChain& chain(int64_t span, int64_t head) const {
    return chains_[static_cast<size_t>(span * dims_.num_heads + head)];
  }

  ModelDims dims_;
  std::optional<CellView> view_;
  std::span<const Span> spans_;
  mutable std::vector<cpu::HeadChain> chains_;  // for each head of each span
};

}  // namespace

std::unique_ptr<CellKernel> make_cpu_step(const ModelDims& dims, ThreadPool& pool) {
  return std::make_unique<RecurrentKernel>(dims, true, pool);
}

std::unique_ptr<CellKernel> make_cpu_sequence(const ModelDims& dims, ThreadPool& pool) {
  return std::make_unique<RecurrentKernel>(dims, false, pool);
}

std::unique_ptr<CellKernel> make_cpu_chunkwise(const ModelDims& dims, int64_t chunk_size, ThreadPool& pool) {
  return std::make_unique<ChunkwiseKernel>(dims, chunk_size, pool);
}

std::unique_ptr<TileKernel> make_cpu_tile_kernel(const ModelDims& dims) {
  return std::make_unique<CpuTileKernel>(dims);
}

}  // namespace xlstm
