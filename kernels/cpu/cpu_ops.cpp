#include "kernels/cpu/cpu_ops.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "kernels/cpu/linear_tile.h"
#include "kernels/cpu/row_ops.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/team.h"
#include "xlstm/core/errors.h"

namespace xlstm {
namespace {

using cpu::Dtype;
using cpu::LinearTile;

// Up to this many values, every thread prepares the input of a product for itself: that is cheaper than a barrier.
constexpr int64_t kPrepareAlone = 8192;

// Tiles of a product over many rows. Both are multiples of every register block's size.
constexpr int64_t kTileRows = 96;
constexpr int64_t kTileCols = 64;

// Columns are given to threads in multiples of this when rows are few.
constexpr int64_t kColumnGrain = 4;

struct Rows {
  float* data = nullptr;
  int64_t stride = 0;
  [[nodiscard]] float* row(int64_t index) const { return data + index * stride; }
};

Rows rows_of(const at::Tensor& tensor) {
  XLSTM_ASSERT(tensor.scalar_type() == at::kFloat && tensor.dim() == 2);
  XLSTM_ASSERT(tensor.stride(1) == 1 || tensor.size(1) == 1);
  return {tensor.data_ptr<float>(), tensor.stride(0)};
}

const float* vector_or_null(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr<float>() : nullptr;
}

Dtype weight_dtype(const at::Tensor& weight) {
  switch (weight.scalar_type()) {
    case at::kFloat: return Dtype::kFloat32;
    case at::kBFloat16: return Dtype::kBfloat16;
    case at::kHalf: return Dtype::kFloat16;
    default:
      fail(ExitCode::kDevice, "weight dtype", "CPU kernels", "float32, bfloat16 or float16",
           c10::toString(weight.scalar_type()));
  }
}

// Part of a linear layer's result.
struct Region {
  int64_t row_begin = 0, row_end = 0;
  int64_t col_begin = 0, col_end = 0;
};

// Deals the regions of a [rows, cols] result to the members of a team: fixed column ranges while every weight is used
// only a few times, so that a thread reads its part of the matrix as one stream, otherwise tiles for whoever is free.
class RegionDealer {
 public:
  void reset() { next_.store(0, std::memory_order_relaxed); }

  template <class Work>
  void deal(int64_t rows, int64_t cols, int member, int team, const Work& work) {
    if (rows <= kTileRows) {
      const auto share = cpu::share_of((cols + kColumnGrain - 1) / kColumnGrain, member, team);
      const int64_t end = std::min(cols, share.end * kColumnGrain);
      for (int64_t col = share.begin * kColumnGrain; col < end; col += kTileCols) {
        work(Region{0, rows, col, std::min(end, col + kTileCols)});
      }
      return;
    }
    const int64_t row_tiles = (rows + kTileRows - 1) / kTileRows;
    const int64_t tiles = row_tiles * ((cols + kTileCols - 1) / kTileCols);
    for (int64_t tile = next_.fetch_add(1); tile < tiles; tile = next_.fetch_add(1)) {
      const int64_t row = tile % row_tiles * kTileRows;
      const int64_t col = tile / row_tiles * kTileCols;
      work(Region{row, std::min(rows, row + kTileRows), col, std::min(cols, col + kTileCols)});
    }
  }

 private:
  std::atomic<int64_t> next_{0};
};

// y (+)= x · Wᵀ + b on a region; col_offset selects rows of W behind the region's columns.
struct Product {
  Product(const Linear& linear, Rows y_rows, bool accumulate_into = false) : y(y_rows) {
    tile.weight = linear.weight.const_data_ptr();
    tile.dtype = weight_dtype(linear.weight);
    tile.in = linear.in;
    tile.bias = vector_or_null(linear.bias);
    tile.y = y.data;
    tile.y_stride = y.stride;
    tile.accumulate = accumulate_into;
  }
  void run(Rows x, const Region& region, int64_t col_offset = 0) const {
    LinearTile part = tile;
    part.x = x.data;
    part.x_stride = x.stride;
    part.row_begin = region.row_begin;
    part.row_end = region.row_end;
    part.col_begin = region.col_begin + col_offset;
    part.col_end = region.col_end + col_offset;
    cpu::linear_tile(part);
  }
  void cap(const Region& region, float soft_cap) const {
    if (soft_cap == 0) return;
    for (int64_t row = region.row_begin; row < region.row_end; ++row) {
      cpu::soft_cap(y.row(row) + region.col_begin, region.col_end - region.col_begin, soft_cap);
    }
  }

  Rows y;
  LinearTile tile;
};

class CpuOps : public DeviceOps {
 public:
  CpuOps(const ModelDims& dims, ThreadPool& pool)
      : dims_(dims), pool_(pool), scratch_(static_cast<size_t>(pool.size())) {}

  [[nodiscard]] Linear pack(Linear canonical) const override {
    XLSTM_ASSERT(canonical.weight.dim() == 2 && canonical.weight.size(0) == canonical.out &&
                 canonical.weight.size(1) == canonical.in);
    static_cast<void>(weight_dtype(canonical.weight));
    canonical.weight = canonical.weight.contiguous();
    if (canonical.bias.defined()) canonical.bias = canonical.bias.contiguous();
    return canonical;
  }

  [[nodiscard]] at::Tensor place(at::Tensor tensor) const override { return tensor.contiguous(); }

  void begin_pass(const RowPlan& /*plan*/) override {}
  void end_pass() override {}

  void embed(const Weights& weights, std::span<const int64_t> ids, Activations& act) override {
    const at::Tensor& table = weights.embedding;
    const Dtype dtype = weight_dtype(table);
    const auto* data = static_cast<const char*>(table.const_data_ptr());
    const auto row_bytes = dims_.embedding_dim * static_cast<int64_t>(table.element_size());
    const Rows x = rows_of(act.x);
    for (size_t row = 0; row < ids.size(); ++row) {
      XLSTM_ASSERT(ids[row] >= 0 && ids[row] < table.size(0));
      cpu::to_float32(data + ids[row] * row_bytes, dtype, dims_.embedding_dim, x.row(static_cast<int64_t>(row)));
    }
  }

  void mixer_in(const BlockWeights& block, int64_t rows, Activations& act) override {
    const Rows x = rows_of(act.x);
    const Product qkvo(block.qkvo, rows_of(act.qkvo));
    const Product gates(block.gates, rows_of(act.gates));
    multiply(
        {rows, dims_.embedding_dim, act.normed},
        [&](int64_t row, float* out) { rms_norm(block.norm_mlstm, x.row(row), out); },
        [&](int member, Rows input) {
          first_.deal(rows, block.qkvo.out, member, pool_.size(),
                      [&](const Region& region) { qkvo.run(input, region); });
          second_.deal(rows, block.gates.out, member, pool_.size(), [&](const Region& region) {
            gates.run(input, region);
            gates.cap(region, dims_.gate_soft_cap);
          });
        });
  }

  void mixer_out(const BlockWeights& block, int64_t rows, Activations& act) override {
    const Rows h = rows_of(act.h);
    const Rows o = rows_of(act.o);
    const Product out_proj(block.out_proj, rows_of(act.x), true);
    cpu::GatedHeadNormArgs norm;
    norm.weight = vector_or_null(block.multihead_norm.weight);
    norm.bias = vector_or_null(block.multihead_norm.bias);
    norm.heads = dims_.num_heads;
    norm.head_dim = dims_.head_dim_v;
    norm.eps = dims_.norm_eps;
    multiply(
        {rows, dims_.v_dim(), act.normed},
        [&](int64_t row, float* out) {
          cpu::GatedHeadNormArgs args = norm;
          args.h = h.row(row);
          args.gate = o.row(row);
          args.out = out;
          cpu::gated_head_norm(args);
        },
        [&](int member, Rows input) {
          first_.deal(rows, block.out_proj.out, member, pool_.size(),
                      [&](const Region& region) { out_proj.run(input, region); });
        });
  }

  void feed_forward(const BlockWeights& block, int64_t rows, Activations& act) override {
    const Rows x = rows_of(act.x);
    const Rows ffn = rows_of(act.ffn);
    const Product gate_up(block.ffn_gate_up, ffn);
    const Product down(block.ffn_down, x, true);
    multiply(
        {rows, dims_.embedding_dim, act.normed},
        [&](int64_t row, float* out) { rms_norm(block.norm_ffn, x.row(row), out); },
        [&](int member, Rows input) {
          first_.deal(rows, dims_.ffn_dim, member, pool_.size(), [&](const Region& region) {
            gate_up.run(input, region);
            gate_up.run(input, region, dims_.ffn_dim);
            for (int64_t row = region.row_begin; row < region.row_end; ++row) {
              float* gate = ffn.row(row) + region.col_begin;
              cpu::silu_multiply(gate, gate + dims_.ffn_dim, region.col_end - region.col_begin);
            }
          });
        });
    first_.reset();
    cpu::run_on_team(pool_, [&](int member) {
      first_.deal(rows, block.ffn_down.out, member, pool_.size(), [&](const Region& region) { down.run(ffn, region); });
    });
  }

  void head(const Weights& weights, const RowPlan& plan, Activations& act, at::Tensor& logits) override {
    const std::vector<int64_t>& logit_rows = plan.logit_rows();
    const auto rows = static_cast<int64_t>(logit_rows.size());
    if (rows == 0) return;
    const Rows x = rows_of(act.x);
    const Product product(weights.head, rows_of(logits));
    multiply(
        {rows, dims_.embedding_dim, act.normed},
        [&](int64_t index, float* out) {
          const float* row = x.row(logit_rows[static_cast<size_t>(index)]);
          if (weights.out_norm.weight.defined()) {
            rms_norm(weights.out_norm, row, out);
          } else {
            std::copy_n(row, dims_.embedding_dim, out);
          }
        },
        [&](int member, Rows input) {
          first_.deal(rows, weights.head.out, member, pool_.size(), [&](const Region& region) {
            product.run(input, region);
            product.cap(region, dims_.logit_soft_cap);
          });
        });
  }

 private:
  struct Input {
    int64_t rows;
    int64_t features;
    const at::Tensor& shared;  // where the prepared rows go if one thread alone does not prepare them
  };

  // prepare(row, out) for each row, then work(member, prepared rows) on every member.
  template <class Prepare, class Work>
  void multiply(const Input& input, const Prepare& prepare, const Work& work) {
    first_.reset();
    second_.reset();
    if (input.rows * input.features <= kPrepareAlone) {
      cpu::run_on_team(pool_, [&](int member) {
        const Rows own{scratch_[static_cast<size_t>(member)].floats(input.rows * input.features), input.features};
        for (int64_t row = 0; row < input.rows; ++row) prepare(row, own.row(row));
        work(member, own);
      });
      return;
    }
    const Rows shared = rows_of(input.shared);
    cpu::for_each_static(pool_, input.rows, [&](int64_t row) { prepare(row, shared.row(row)); });
    cpu::run_on_team(pool_, [&](int member) { work(member, shared); });
  }

  void rms_norm(const Norm& norm, const float* x, float* out) const {
    cpu::rms_norm(
        {x, vector_or_null(norm.weight), vector_or_null(norm.bias), dims_.embedding_dim, dims_.norm_eps, out});
  }

  ModelDims dims_;
  ThreadPool& pool_;
  std::vector<cpu::Scratch> scratch_;  // one per member
  RegionDealer first_;
  RegionDealer second_;
};

}  // namespace

std::unique_ptr<DeviceOps> make_cpu_ops(const ModelDims& dims, ThreadPool& pool) {
  return std::make_unique<CpuOps>(dims, pool);
}

}  // namespace xlstm
