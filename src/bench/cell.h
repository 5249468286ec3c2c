// One block's cell with made-up activations.
#pragma once

#include <cstdint>
#include <memory>

#include "src/bench/settings.h"
#include "xlstm/model/state.h"
#include "xlstm/registry/make_kernels.h"

namespace xlstm {

// Tokens of each sequence that pass at once when `batch` of them share `segment` rows, of which kMostPassRows count:
// whole chunks, at least one.
[[nodiscard]] int64_t rows_per_pass(int64_t segment, int64_t batch, int64_t chunk_size);

struct Workload {
  int64_t length = 0;  // tokens per sequence, prefilled or decoded
  int64_t batch = 1;
};

// Runs the chunkwise kernels of one group of settings over `batch` sequences. Not thread-safe.
class CellRunner {
 public:
  CellRunner(const ModelDims& dims, const LoadGroup& group, const Workload& work);

  // Makes the kernel of a setting and runs one chunk, so that its threads and buffers are there.
  void choose(const BenchSetting& setting);
  // The whole chunks of the prompt, in segments as a prefill has them; the state goes on from call to call.
  void run();
  // Tokens of the batch that run() passes through the kernel with this chunk size.
  [[nodiscard]] int64_t tokens(int64_t chunk_size) const {
    return work_.length / chunk_size * chunk_size * work_.batch;
  }
  [[nodiscard]] ThreadPool& pool() { return pool_; }

 private:
  void pass(int64_t rows);

  ModelDims dims_;
  Workload work_;
  ThreadPool pool_;
  State state_;
  Activations act_;
  std::unique_ptr<CellKernel> kernel_;
  int64_t chunk_size_ = 1;
  int64_t rows_ = 1;  // per sequence and pass
  std::vector<Span> spans_;
};

}  // namespace xlstm
