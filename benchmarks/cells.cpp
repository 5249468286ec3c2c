// The mLSTM cell of the CPU's compiled kernels:
//   cells/step/SHAPE/STATE_DTYPE/batch:N          a token of N sequences
//   cells/sequence/SHAPE/STATE_DTYPE/tokens:N     what is left behind the last full chunk
//   cells/chunkwise/SHAPE/STATE_DTYPE/tokens:N    chunks of 64
//
// items_per_second: tokens through one block. bytes_per_second, of the step alone: state read and written.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <memory>
#include <vector>

#include "benchmarks/benchmark_main.h"
#include "xlstm/bench/bench.h"
#include "xlstm/core/thread_pool.h"
#include "xlstm/model/state.h"
#include "xlstm/model/workspace.h"
#include "xlstm/registry/make_kernels.h"

namespace xlstm {
namespace {

constexpr std::array kStateDtypes = {"float32", "bfloat16"};

struct Cell {
  const char* name;
  const char* key;
  const char* argument;
  bool many_spans;  // the argument counts sequences of one token, not tokens of one sequence
  std::vector<int64_t> arguments;
};

const std::vector<Cell>& cells() {
  static const std::vector<Cell> all = {
      {"step", "cpu", "batch", true, {1, 8}},
      {"sequence", "native_sequence__cpu", "tokens", false, {2, 63}},
      {"chunkwise", "chunkwise--cpu", "tokens", false, {512, 2048}},
  };
  return all;
}

void measure(benchmark::State& state, const NamedShape& shape, const char* dtype, const Cell& cell) {
  const SyntheticShape model = parse_shape(shape.text);
  const int64_t count = state.range(0);
  std::vector<Span> spans;
  if (cell.many_spans) {
    for (int64_t slot = 0; slot < count; ++slot) spans.push_back({slot, slot, 1});
  } else {
    spans.push_back({0, 0, count});
  }
  ThreadPool pool(available_cores(), [] { at::set_num_threads(1); });
  Workspace work(model.dims, at::kCPU);
  work.reserve(count, 0);
  for (const at::Tensor& tensor : {work.act.qkvo, work.act.gates}) tensor.normal_();
  xlstm::State memory(
      model.dims,
      {.num_blocks = model.num_blocks, .slots = static_cast<int64_t>(spans.size()), .dtype = torch_dtype(dtype)});
  const KernelSettings settings;
  const std::unique_ptr<CellKernel> kernel = make_cell_kernel(cell.key, "cpu", model.dims, settings, pool);

  int64_t block = 0;
  for ([[maybe_unused]] auto _ : state) {
    kernel->run({work.act, memory.layer(block), spans});
    block = (block + 1) % model.num_blocks;
  }
  state.SetItemsProcessed(state.iterations() * count);
  if (cell.many_spans) {
    const auto bytes = static_cast<int64_t>(memory.bytes()) / model.num_blocks;
    state.SetBytesProcessed(state.iterations() * 2 * bytes);
  }
}

void add_all() {
  at::set_num_threads(available_cores());
  for (const NamedShape& shape : kShapes) {
    for (const char* dtype : kStateDtypes) {
      for (const Cell& cell : cells()) {
        const std::string name = std::string("cells/") + cell.name + '/' + shape.name + '/' + dtype;
        auto* added = add_benchmark(
            name, [&shape, dtype, &cell](benchmark::State& state) { measure(state, shape, dtype, cell); });
        added->ArgName(cell.argument);
        for (const int64_t argument : cell.arguments) added->Arg(argument);
      }
    }
  }
}

}  // namespace
}  // namespace xlstm

int main(int argc, char** argv) {
  return xlstm::run_benchmarks(argc, argv, xlstm::add_all);
}
