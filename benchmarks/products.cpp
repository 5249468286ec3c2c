// The four operations with a matrix product, of the CPU's compiled kernels: products/OPERATION/SHAPE/DTYPE/rows:N.
//
// bytes_per_second: weights read (scales included). FLOP: 2 for each weight and row.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <memory>
#include <string>
#include <vector>

#include "benchmarks/benchmark_main.h"
#include "xlstm/bench/bench.h"
#include "xlstm/core/thread_pool.h"
#include "xlstm/model/load_weights.h"
#include "xlstm/model/weight_formats.h"
#include "xlstm/model/workspace.h"
#include "xlstm/registry/make_kernels.h"

namespace xlstm {
namespace {

constexpr std::array kDtypes = {"float32", "bfloat16", "float16", "int8", "int4"};
constexpr std::array<int64_t, 3> kRows = {1, 8, 512};

// The weights of some blocks, and room for a pass.
class Bed {
 public:
  Bed(const NamedShape& shape, const std::string& dtype)
      : dims(parse_shape(shape.text).dims),
        ops_(make_ops("cpu", "cpu", dims, pool_)),
        weights_(random_weights({.dims = dims, .num_blocks = shape.num_blocks, .seed = 1}, *ops_,
                                {.formats = weight_formats(dtype), .pool = pool_, .progress = false})),
        work_(dims, at::kCPU) {}

  void reserve(int64_t rows) {
    plan_.clear();
    for (int64_t slot = 0; slot < rows; ++slot) plan_.add(slot, 1, LogitRows::kLast);
    work_.reserve(rows, rows);
    for (const at::Tensor& tensor : {work_.act.x, work_.act.qkvo, work_.act.h}) tensor.normal_();
  }
  [[nodiscard]] DeviceOps& ops() { return *ops_; }
  [[nodiscard]] const Weights& weights() const { return weights_; }
  [[nodiscard]] const RowPlan& plan() const { return plan_; }
  [[nodiscard]] Workspace& work() { return work_; }

  const ModelDims dims;

 private:
  ThreadPool pool_{available_cores(), [] { at::set_num_threads(1); }};
  std::unique_ptr<DeviceOps> ops_;
  Weights weights_;
  Workspace work_;
  RowPlan plan_;
};

// A function is called several times until the number of its iterations is found: the last bed is kept.
Bed& bed_of(const NamedShape& shape, const std::string& dtype) {
  static std::unique_ptr<Bed> last;
  static std::string name;
  const std::string wanted = shape.name + dtype;
  if (name != wanted) {
    last.reset();
    last = std::make_unique<Bed>(shape, dtype);
    name = wanted;
  }
  return *last;
}

struct Product {
  const char* name;
  std::vector<Linear BlockWeights::*> matrices;  // none: the head
  void (*run)(Bed& bed, const BlockWeights& block, int64_t rows);
};

const std::vector<Product>& products() {
  static const std::vector<Product> all = {
      {"mixer_in",
       {&BlockWeights::qkvo, &BlockWeights::gates},
       [](Bed& bed, const BlockWeights& block, int64_t rows) { bed.ops().mixer_in(block, rows, bed.work().act); }},
      {"mixer_out",
       {&BlockWeights::out_proj},
       [](Bed& bed, const BlockWeights& block, int64_t rows) { bed.ops().mixer_out(block, rows, bed.work().act); }},
      {"feed_forward",
       {&BlockWeights::ffn_gate_up, &BlockWeights::ffn_down},
       [](Bed& bed, const BlockWeights& block, int64_t rows) { bed.ops().feed_forward(block, rows, bed.work().act); }},
      {"head",
       {},
       [](Bed& bed, const BlockWeights& /*block*/, int64_t /*rows*/) {
         bed.ops().head(bed.weights(), bed.plan(), bed.work().act, bed.work().logits);
       }},
  };
  return all;
}

void measure(benchmark::State& state, Bed& bed, const Product& product) {
  const int64_t rows = state.range(0);
  bed.reserve(rows);
  double elements = 0;
  uint64_t bytes = 0;
  const auto count = [&](const Linear& matrix) {
    elements += static_cast<double>(matrix.out) * static_cast<double>(matrix.in);
    bytes += matrix.weight.nbytes();
  };
  const std::vector<BlockWeights>& blocks = bed.weights().blocks;
  for (const auto matrix : product.matrices) count(blocks.front().*matrix);
  if (product.matrices.empty()) count(bed.weights().head);

  size_t block = 0;
  bed.ops().begin_pass(bed.plan());
  for ([[maybe_unused]] auto _ : state) {
    product.run(bed, blocks[block], rows);
    block = (block + 1) % blocks.size();
  }
  bed.ops().end_pass();
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes));
  state.counters["FLOP"] = per_call(2 * elements * static_cast<double>(rows));
}

void add_all() {
  at::set_num_threads(available_cores());
  for (const NamedShape& shape : kShapes) {
    for (const char* dtype : kDtypes) {
      for (const Product& product : products()) {
        const std::string name = std::string("products/") + product.name + '/' + shape.name + '/' + dtype;
        auto* added = add_benchmark(name, [&shape, dtype, &product](benchmark::State& state) {
          measure(state, bed_of(shape, dtype), product);
        });
        added->ArgName("rows");
        for (const int64_t rows : kRows) added->Arg(rows);
      }
    }
  }
}

}  // namespace
}  // namespace xlstm

int main(int argc, char** argv) {
  return xlstm::run_benchmarks(argc, argv, xlstm::add_all);
}
