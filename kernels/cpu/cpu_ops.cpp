#include "kernels/cpu/cpu_ops.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/cpu/candidates.h"
#include "kernels/cpu/cpu_matrix.h"
#include "kernels/cpu/panel_kernels.h"
#include "kernels/cpu/row_ops.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/team.h"
#include "xlstm/core/errors.h"

namespace xlstm {
namespace {

using cpu::CpuMatrix;
using cpu::Dtype;
using cpu::InputLayout;
using cpu::kRowGrain;
using cpu::PlainFinish;
using cpu::Region;
using cpu::RowsOf;

// Up to this many values, every thread prepares the input of a product for itself: that is cheaper than a barrier.
constexpr int64_t kPrepareAlone = 8192;

// Up to this many rows a product is bound by reading the weights, and a thread reads its part of them as one stream.
constexpr int64_t kStreamedRows = 2 * kRowGrain;

// Tiles of a product over many rows: prepared rows that stay in the second-level cache (1 MiB on current server cores)
// beside a panel, times a few panels, so that the last tiles leave no thread idle for long.
constexpr int64_t kTileBytes = 384 << 10;
constexpr int64_t kTilePanels = 8;

// More are seldom asked for, and all of them are not much slower to look at.
constexpr int64_t kMaxCandidates = 256;

RowsOf rows_of(const at::Tensor& tensor) {
  XLSTM_ASSERT(tensor.scalar_type() == at::kFloat && tensor.dim() == 2);
  XLSTM_ASSERT(tensor.stride(1) == 1 || tensor.size(1) == 1);
  return {tensor.data_ptr<float>(), tensor.stride(0)};
}

const float* vector_or_null(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<const float*>(tensor.const_data_ptr()) : nullptr;
}

Dtype table_dtype(const at::Tensor& table) {
  switch (table.scalar_type()) {
    case at::kFloat: return Dtype::kFloat32;
    case at::kBFloat16: return Dtype::kBfloat16;
    case at::kHalf: return Dtype::kFloat16;
    default:
      fail(ExitCode::kDevice, "embedding dtype", "CPU kernels", "float32, bfloat16 or float16",
           c10::toString(table.scalar_type()));
  }
}

// Deals the regions of a product to the members of a team: one range of panels each while rows are few, otherwise tiles
// for whoever is free.
class RegionDealer {
 public:
  void reset() { next_.store(0, std::memory_order_relaxed); }

  template <class Work>
  void deal(const CpuMatrix& matrix, int64_t rows, int member, int team, const Work& work) {
    const int64_t panels = matrix.panels();
    if (rows <= kStreamedRows) {
      const auto share = cpu::share_of(panels, member, team);
      if (share.begin < share.end) work(Region{0, rows, share.begin, share.end});
      return;
    }
    const int64_t tile_rows = std::max<int64_t>(1, kTileBytes / matrix.input().row_bytes() / kRowGrain) * kRowGrain;
    const int64_t column_tiles = (panels + kTilePanels - 1) / kTilePanels;
    const int64_t tiles = (rows + tile_rows - 1) / tile_rows * column_tiles;
    for (int64_t tile = next_.fetch_add(1); tile < tiles; tile = next_.fetch_add(1)) {
      const int64_t row = tile / column_tiles * tile_rows;
      const int64_t panel = tile % column_tiles * kTilePanels;
      work(Region{row, std::min(rows, row + tile_rows), panel, std::min(panels, panel + kTilePanels)});
    }
  }

 private:
  std::atomic<int64_t> next_{0};
};

// The rows that some matrices are multiplied with.
template <size_t kMatrices>
struct Input {
  int64_t rows;
  int64_t features;
  std::array<CpuMatrix, kMatrices> matrices;
};

template <size_t kMatrices>
using PreparedInput = std::array<std::byte*, kMatrices>;  // for each matrix, in the form of its kernel

class CpuOps : public DeviceOps {
 public:
  CpuOps(const ModelDims& dims, ThreadPool& pool) : dims_(dims), pool_(pool), own_(static_cast<size_t>(pool.size())) {}
  ~CpuOps() override { abandon(); }
  CpuOps(const CpuOps&) = delete;
  CpuOps& operator=(const CpuOps&) = delete;

  [[nodiscard]] Linear pack(Linear canonical, RowOrder order) const override {
    return cpu::pack_linear(canonical, order, weight_memory_, pool_);
  }

  [[nodiscard]] InputRounding input_rounding(WeightFormat weights) const override {
    switch (cpu::pick_panel_kernel({weights, 1, 1, 1}).input) {
      case cpu::InputKind::kFloat32: return InputRounding::kNone;
      case cpu::InputKind::kBfloat16: return InputRounding::kBfloat16;
      case cpu::InputKind::kInt8: return InputRounding::kInt8;
    }
    return InputRounding::kNone;
  }

  [[nodiscard]] at::Tensor place(at::Tensor tensor) const override { return tensor.contiguous(); }

  void begin_pass(const RowPlan& /*plan*/) override { abandon(); }
  void end_pass() override { finish(); }

  void embed(const Weights& weights, std::span<const int64_t> ids, Activations& act) override {
    const at::Tensor& table = weights.embedding;
    const Dtype dtype = table_dtype(table);
    const auto* data = static_cast<const char*>(table.const_data_ptr());
    const auto row_bytes = dims_.embedding_dim * static_cast<int64_t>(table.element_size());
    const RowsOf x = rows_of(act.x);
    for (size_t row = 0; row < ids.size(); ++row) {
      XLSTM_ASSERT(ids[row] >= 0 && ids[row] < table.size(0));
      cpu::to_float32(data + ids[row] * row_bytes, dtype, dims_.embedding_dim, x.row(static_cast<int64_t>(row)));
    }
  }

  void mixer_in(const BlockWeights& block, int64_t rows, Activations& act) override {
    const RowsOf x = rows_of(act.x);
    const RowsOf qkvo = rows_of(act.qkvo);
    const RowsOf gates = rows_of(act.gates);
    multiply(
        Input<2>{rows, dims_.embedding_dim, {CpuMatrix(block.qkvo), CpuMatrix(block.gates)}},
        [x, norm = row_norm(block.norm_mlstm)](int64_t row, float* out) { return norm.run(x.row(row), out); },
        [this, qkvo, gates](int member, const Input<2>& in, const PreparedInput<2>& input) {
          const auto& [wqkvo, wgates] = in.matrices;
          first_.deal(wqkvo, in.rows, member, pool_.size(),
                      [&](const Region& region) { wqkvo.multiply(input[0], in.rows, region, {}, qkvo); });
          second_.deal(wgates, in.rows, member, pool_.size(), [&](const Region& region) {
            wgates.multiply(input[1], in.rows, region, {false, dims_.gate_soft_cap}, gates);
          });
        });
    pool_.join();
  }

  void mixer_out(const BlockWeights& block, int64_t rows, Activations& act) override {
    hold(act);
    const RowsOf h = rows_of(act.h);
    const RowsOf o = rows_of(act.o);
    const RowsOf x = rows_of(act.x);
    cpu::GatedHeadNormArgs norm;
    norm.weight = vector_or_null(block.multihead_norm.weight);
    norm.bias = vector_or_null(block.multihead_norm.bias);
    norm.heads = dims_.num_heads;
    norm.head_dim = dims_.head_dim_v;
    norm.eps = dims_.norm_eps;
    multiply(
        Input<1>{rows, dims_.v_dim(), {CpuMatrix(block.out_proj)}},
        [h, o, norm](int64_t row, float* out) {
          cpu::GatedHeadNormArgs args = norm;
          args.h = h.row(row);
          args.gate = o.row(row);
          args.out = out;
          cpu::gated_head_norm(args);
          return out;
        },
        [this, x](int member, const Input<1>& in, const PreparedInput<1>& input) {
          first_.deal(in.matrices[0], in.rows, member, pool_.size(),
                      [&](const Region& region) { in.matrices[0].multiply(input[0], in.rows, region, {true}, x); });
        });
  }

  void feed_forward(const BlockWeights& block, int64_t rows, Activations& act) override {
    hold(act);
    const RowsOf x = rows_of(act.x);
    const RowsOf ffn = rows_of(act.ffn);
    multiply(
        Input<1>{rows, dims_.embedding_dim, {CpuMatrix(block.ffn_gate_up, RowOrder::kGateUp)}},
        [x, norm = row_norm(block.norm_ffn)](int64_t row, float* out) { return norm.run(x.row(row), out); },
        [this, ffn](int member, const Input<1>& in, const PreparedInput<1>& input) {
          first_.deal(in.matrices[0], in.rows, member, pool_.size(),
                      [&](const Region& region) { in.matrices[0].multiply_gate_up(input[0], in.rows, region, ffn); });
        });
    multiply(
        Input<1>{rows, dims_.ffn_dim, {CpuMatrix(block.ffn_down)}}, [ffn](int64_t row, float*) { return ffn.row(row); },
        [this, x](int member, const Input<1>& in, const PreparedInput<1>& input) {
          first_.deal(in.matrices[0], in.rows, member, pool_.size(),
                      [&](const Region& region) { in.matrices[0].multiply(input[0], in.rows, region, {true}, x); });
        });
  }

  void head(const Weights& weights, const RowPlan& plan, Activations& act, at::Tensor& logits) override {
    const std::vector<int64_t>& logit_rows = plan.logit_rows();
    const auto rows = static_cast<int64_t>(logit_rows.size());
    if (rows == 0) return;
    const RowsOf x = rows_of(act.x);
    const RowsOf y = rows_of(logits);
    multiply(
        Input<1>{rows, dims_.embedding_dim, {CpuMatrix(weights.head)}},
        [x, indices = logit_rows.data(), norm = row_norm(weights.out_norm)](int64_t index, float* out) {
          float* const row = x.row(indices[index]);
          return norm.weight == nullptr ? row : norm.run(row, out);
        },
        [this, y](int member, const Input<1>& in, const PreparedInput<1>& input) {
          first_.deal(in.matrices[0], in.rows, member, pool_.size(), [&](const Region& region) {
            in.matrices[0].multiply(input[0], in.rows, region, {false, dims_.logit_soft_cap}, y);
          });
        });
    pool_.join();
  }

  [[nodiscard]] int64_t max_candidates() const override { return kMaxCandidates; }

  void find_candidates(const at::Tensor& logits, int64_t vocab, at::Tensor& candidates) override {
    const int64_t count = candidates.size(1);
    XLSTM_ASSERT(logits.stride(1) == 1 && candidates.is_contiguous() && vocab <= logits.size(1));
    XLSTM_ASSERT(count >= 1 && count <= vocab && candidates.size(0) <= logits.size(0));
    const RowsOf rows = rows_of(logits);
    auto* out = static_cast<int32_t*>(candidates.mutable_data_ptr());
    for (int64_t row = 0; row < candidates.size(0); ++row) {
      const cpu::FoundLogit* const found = cpu::find_greatest(rows.row(row), vocab, count, candidate_scratch_);
      for (int64_t i = 0; i < count; ++i) {
        *out++ = found[i].id;
        *out++ = std::bit_cast<int32_t>(found[i].logit);
      }
    }
  }

 private:
  struct MemberMemory {
    cpu::Scratch row;       // a row of the input
    cpu::Scratch prepared;  // all rows, where every member prepares them for itself
  };

  // Jobs may go on after the operation that started them. Their tensors must outlive them even if the pass is
  // abandoned.
  void hold(const Activations& act) {
    if (!held_.x.is_same(act.x)) held_ = act;
  }

  void finish() {
    pool_.join();
    held_ = {};
  }

  void abandon() noexcept {
    if (!held_.x.defined()) return;
    try {
      finish();
    } catch (...) {
      held_ = {};  // what failed belongs to results that nobody asks for any more
    }
  }

  // prepare(row, scratch) gives each row of the input, then work(member, input, prepared) runs on every member. Small
  // products are started only; all are in order with the pool's other jobs. Both functions are copied, and must refer
  // to nothing that ends before the pass.
  template <size_t kMatrices, class Prepare, class Work>
  void multiply(const Input<kMatrices>& input, const Prepare& prepare, const Work& work) {
    if (input.rows * input.features <= kPrepareAlone && input.rows <= kStreamedRows) {
      pool_.start([this, input, prepare, work](int member) {
        MemberMemory& own = own_[static_cast<size_t>(member)];
        const PreparedInput<kMatrices> prepared = plan_input(input, own.prepared);
        prepare_rows(input, {0, input.rows}, prepare, prepared, own.row.floats(input.features));
        work(member, input, prepared);
      });
      return;
    }
    pool_.join();
    first_.reset();
    second_.reset();
    const PreparedInput<kMatrices> prepared = plan_input(input, shared_);
    const int64_t grains = (input.rows + kRowGrain - 1) / kRowGrain;
    cpu::run_on_team(pool_, [&](int member) {
      const cpu::Share share = cpu::share_of(grains, member, pool_.size());
      const cpu::Share rows{share.begin * kRowGrain, std::min(input.rows, share.end * kRowGrain)};
      prepare_rows(input, rows, prepare, prepared, own_[static_cast<size_t>(member)].row.floats(input.features));
    });
    cpu::run_on_team(pool_, [&](int member) { work(member, input, prepared); });
  }

  template <size_t kMatrices>
  static PreparedInput<kMatrices> plan_input(const Input<kMatrices>& input, cpu::Scratch& memory) {
    std::array<int64_t, kMatrices> floats{};
    for (size_t i = 0; i < kMatrices; ++i) {
      floats[i] = cpu::ScratchPlan::padded(input.matrices[i].input().bytes(input.rows) / 4);
    }
    cpu::ScratchPlan plan(memory.floats(std::accumulate(floats.begin(), floats.end(), int64_t{0})));
    PreparedInput<kMatrices> prepared{};
    for (size_t i = 0; i < kMatrices; ++i) prepared[i] = reinterpret_cast<std::byte*>(plan.take(floats[i]));
    return prepared;
  }

  template <size_t kMatrices, class Prepare>
  static void prepare_rows(const Input<kMatrices>& input, const cpu::Share& rows, const Prepare& prepare,
                           const PreparedInput<kMatrices>& prepared, float* row_memory) {
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const float* const values = prepare(row, row_memory);
      for (size_t i = 0; i < kMatrices; ++i) {
        const InputLayout& layout = input.matrices[i].input();
        const int64_t block = row / layout.block_rows();
        const int64_t first = block * layout.block_rows();
        const int64_t block_rows = std::min(layout.block_rows(), input.rows - first);
        layout.write(values, row - first, block_rows, prepared[i] + block * layout.block_bytes());
      }
    }
  }

  struct RowNorm {
    const float* weight;
    const float* bias;
    int64_t count;
    float eps;
    float* run(const float* x, float* out) const {
      cpu::rms_norm({x, weight, bias, count, eps, out});
      return out;
    }
  };

  [[nodiscard]] RowNorm row_norm(const Norm& norm) const {
    return {vector_or_null(norm.weight), vector_or_null(norm.bias), dims_.embedding_dim, dims_.norm_eps};
  }

  ModelDims dims_;
  ThreadPool& pool_;
  mutable cpu::WeightMemory weight_memory_;
  std::vector<MemberMemory> own_;  // one per member
  cpu::Scratch shared_;
  RegionDealer first_;
  RegionDealer second_;
  Activations held_;  // of a pass that may have jobs going on
  cpu::CandidateScratch candidate_scratch_;
};

}  // namespace

std::unique_ptr<DeviceOps> make_cpu_ops(const ModelDims& dims, ThreadPool& pool) {
  return std::make_unique<CpuOps>(dims, pool);
}

}  // namespace xlstm
