#include "kernels/cpu/cpu_cell.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "kernels/cpu/cell_view.h"
#include "kernels/cpu/chunk_tile.h"
#include "kernels/cpu/recurrence.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/team.h"
#include "xlstm/core/errors.h"

namespace xlstm {
namespace {

using cpu::CellView;
using cpu::HeadRows;
using cpu::HeadState;

// Heads may be cut by columns of C where these are multiples of it: no result depends on the cut.
constexpr int64_t kColumnGrain = 32;

// From this many tokens on a head's tiles take less time than its steps, which read and write C for each token.
constexpr int64_t kFewestTileTokens = 8;
// Tokens of such a tile: as the chunkwise kernels' at their usual chunk size.
constexpr int64_t kSequenceTile = 32;

// The heads of all spans over the team; if there are too few of them, cut by columns of C. Derived classes say what is
// done with a head.
class RecurrentKernel : public CellKernel {
 public:
  RecurrentKernel(const ModelDims& dims, ThreadPool& pool) : dims_(dims), pool_(pool) {}

 protected:
  struct Unit {
    HeadRows rows;
    HeadState state;
    cpu::HeadDims dims;
  };

  // One part if the heads fill the team evenly or nearly so.
  [[nodiscard]] int64_t parts_per_head(int64_t heads) const {
    const int64_t team = pool_.size();
    if (heads % team == 0 || heads >= 4 * team) return 1;
    const int64_t grains = (dims_.head_dim_v + kColumnGrain - 1) / kColumnGrain;
    return std::min(grains, (2 * team + heads - 1) / heads);
  }

  // Calls run(Unit) for all parts of all heads, beside each other. Every part needs the old n and m, so each works on
  // copies; those of the first part become the new ones when all are done.
  template <class Run>
  void run_parts(const CellView& view, std::span<const Span> spans, int64_t parts, const Run& run) {
    const int64_t heads = static_cast<int64_t>(spans.size()) * dims_.num_heads;
    const int64_t grains = (dims_.head_dim_v + kColumnGrain - 1) / kColumnGrain;
    if (parts > 1) {
      n_.resize(static_cast<size_t>(heads * parts * dims_.head_dim_qk));
      m_.resize(static_cast<size_t>(heads * parts));
    }
    const auto state_of = [&](int64_t head) {
      return view.state(spans[static_cast<size_t>(head / dims_.num_heads)].slot, head % dims_.num_heads);
    };
    const auto bytes = [&](const HeadState& state) {
      return static_cast<size_t>(dims_.head_dim_qk * state.element_size());
    };
    cpu::for_each_dynamic(pool_, heads * parts, [&](int64_t index) {
      const int64_t head = index / parts;
      const int64_t begin = grains * (index % parts) / parts * kColumnGrain;
      const int64_t end = std::min(dims_.head_dim_v, grains * (index % parts + 1) / parts * kColumnGrain);
      const Span& span = spans[static_cast<size_t>(head / dims_.num_heads)];
      const HeadState state = state_of(head);
      Unit unit{view.rows(span, head % dims_.num_heads, 0, span.rows).from_column(begin), state.from_column(begin),
                view.head_dims()};
      unit.dims.dv = end - begin;
      if (parts > 1) {
        unit.state.n = n_.data() + index * dims_.head_dim_qk;
        unit.state.m = m_.data() + index;
        std::memcpy(unit.state.n, state.n, bytes(state));
        *unit.state.m = *state.m;
      }
      run(unit);
    });
    for (int64_t head = 0; parts > 1 && head < heads; ++head) {
      const HeadState state = state_of(head);
      std::memcpy(state.n, n_.data() + head * parts * dims_.head_dim_qk, bytes(state));
      *state.m = m_[static_cast<size_t>(head * parts)];
    }
  }

  ModelDims dims_;
  ThreadPool& pool_;

 private:
  std::vector<float> n_;  // a copy may be of a narrower type
  std::vector<float> m_;
};

void run_steps(const HeadRows& rows, const HeadState& state, const cpu::HeadDims& dims) {
  for (int64_t t = 0; t < rows.rows; ++t) cpu::run_step({rows.part(t, t + 1), state, dims});
}

class StepKernel : public RecurrentKernel {
 public:
  using RecurrentKernel::RecurrentKernel;

  void run(const CellArgs& args) override {
    const CellView view(dims_, args);
    for (const Span& span : args.spans) XLSTM_ASSERT(span.rows == 1);
    const auto heads = static_cast<int64_t>(args.spans.size()) * dims_.num_heads;
    if (heads == 0) return;
    if (const int64_t parts = parts_per_head(heads); parts > 1) {
      return run_parts(view, args.spans, parts, [](const Unit& unit) { run_steps(unit.rows, unit.state, unit.dims); });
    }
    cpu::run_on_team(pool_, [&](int member) {
      const cpu::Share share = cpu::share_of(heads, member, pool_.size());
      for (int64_t head = share.begin; head < share.end;) {
        const int64_t span = head / dims_.num_heads;
        const int64_t end = std::min(share.end, (span + 1) * dims_.num_heads);
        cpu::run_step(view.step(args.spans[static_cast<size_t>(span)], head - span * dims_.num_heads,
                                end - span * dims_.num_heads));
        head = end;
      }
    });
  }
};

class SequenceKernel : public RecurrentKernel {
 public:
  using RecurrentKernel::RecurrentKernel;

  void run(const CellArgs& args) override {
    const CellView view(dims_, args);
    const auto heads = static_cast<int64_t>(args.spans.size()) * dims_.num_heads;
    if (heads == 0) return;
    run_parts(view, args.spans, parts_per_head(heads), [](const Unit& unit) {
      // A narrow state is rounded once, so its steps cannot go through it.
      const bool steps =
          unit.state.dtype == cpu::Dtype::kFloat32 ? unit.rows.rows < kFewestTileTokens : unit.rows.rows == 1;
      if (steps) return run_steps(unit.rows, unit.state, unit.dims);
      cpu::run_chunks({unit.rows, unit.state, unit.dims}, kSequenceTile);
    });
  }
};

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
      cpu::run_chunks({view.rows(span, head, 0, span.rows), view.state(span.slot, head), view.head_dims()},
                      chunk_size_);
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
    carried_ = memory_.floats(static_cast<int64_t>(heads) * cpu::carried_state_floats(view_->head_dims()));
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
        cpu::ChunkTileArgs args;
        args.rows = view_->rows(span, head, tile.token_begin, tile.token_end);
        args.state = view_->state(span.slot, head);
        args.dims = view_->head_dims();
        args.chain = &chain(tile.span, head);
        args.carried = carried_ + index_of(tile.span, head) * cpu::carried_state_floats(args.dims);
        args.token = tile.token_begin;
        args.following = span.rows - tile.token_end;
        cpu::run_chunk_tile(args);
      }
    } catch (...) {
      for (int64_t head = tile.head_begin; head < tile.head_end; ++head) chain(tile.span, head).give_up();
      throw;
    }
  }

  [[nodiscard]] int64_t index_of(int64_t span, int64_t head) const { return span * dims_.num_heads + head; }
  [[nodiscard]] cpu::HeadChain& chain(int64_t span, int64_t head) const {
    return chains_[static_cast<size_t>(index_of(span, head))];
  }

  ModelDims dims_;
  std::optional<CellView> view_;
  std::span<const Span> spans_;
  mutable std::vector<cpu::HeadChain> chains_;  // for each head of each span
  float* carried_ = nullptr;                    // the same
  cpu::Scratch memory_;
};

}  // namespace

std::unique_ptr<CellKernel> make_cpu_step(const ModelDims& dims, ThreadPool& pool) {
  return std::make_unique<StepKernel>(dims, pool);
}

std::unique_ptr<CellKernel> make_cpu_sequence(const ModelDims& dims, ThreadPool& pool) {
  return std::make_unique<SequenceKernel>(dims, pool);
}

std::unique_ptr<CellKernel> make_cpu_chunkwise(const ModelDims& dims, int64_t chunk_size, ThreadPool& pool) {
  return std::make_unique<ChunkwiseKernel>(dims, chunk_size, pool);
}

std::unique_ptr<TileKernel> make_cpu_tile_kernel(const ModelDims& dims) {
  return std::make_unique<CpuTileKernel>(dims);
}

}  // namespace xlstm
