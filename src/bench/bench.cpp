#include "xlstm/bench/bench.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"
#include "xlstm/runtime/engine.h"

namespace xlstm {
namespace {

double peak_resident_mb() {
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
#if defined(__APPLE__)
  return static_cast<double>(usage.ru_maxrss) / 1e6;  // bytes
#else
  return static_cast<double>(usage.ru_maxrss) * 1024 / 1e6;  // kilobytes
#endif
}

// A shape is typed in a second and may stand for terabytes.
void require_memory(const SyntheticShape& shape, const std::string& dtype) {
  const ModelDims& d = shape.dims;
  const auto width = static_cast<double>(d.embedding_dim);
  const double block = width * static_cast<double>(d.qkvo_dim() + d.v_dim() + 3 * d.ffn_dim);
  const double parameters =
      block * static_cast<double>(shape.num_blocks) + 2 * width * static_cast<double>(d.vocab_size);
  const double needed = parameters * (dtype == "float32" ? 4 : 2);
  const double present = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE));
  if (needed > present) {
    fail(ExitCode::kMemory, "--shape", "command line",
         cat("weights that fit into ", bytes_text(static_cast<uint64_t>(present)), " of memory"),
         cat(fixed(needed / 1e9, 1), " GB"));
  }
}

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Runs passes over `batch` sequences with made-up ids.
class Runner {
 public:
  Runner(Engine& engine, int64_t batch) : engine_(engine), batch_(batch), state_(engine.make_state(batch)) {}

  // Prompts of `length` tokens, in segments that hold all sequences; logits for the last rows only.
  void prefill(int64_t length) {
    const int64_t chunk = engine_.model().chunk_size();
    const int64_t segment = std::max(chunk, engine_.segment_rows(false) / batch_ / chunk * chunk);
    for (int64_t begin = 0; begin < length; begin += segment) {
      const int64_t rows = std::min(segment, length - begin);
      pass(rows, begin + rows == length ? LogitRows::kLast : LogitRows::kNone);
    }
  }

  void decode(int64_t tokens) {
    for (int64_t t = 0; t < tokens; ++t) pass(1, LogitRows::kLast);
  }

  [[nodiscard]] uint64_t state_bytes() const { return state_.bytes(); }

 private:
  void pass(int64_t rows, LogitRows logits) {
    plan_.clear();
    for (int64_t slot = 0; slot < batch_; ++slot) plan_.add(slot, rows, logits);
    const int64_t vocab = engine_.dims().vocab_size;
    ids_.resize(static_cast<size_t>(plan_.rows()));
    for (int64_t& id : ids_) id = next_id_ = (next_id_ * 31 + 7) % vocab;
    engine_.forward(plan_, ids_, state_);
  }

  Engine& engine_;
  int64_t batch_;
  State state_;
  RowPlan plan_;
  std::vector<int64_t> ids_;
  int64_t next_id_ = 1;
};

BenchRow describe(const BenchRequest& request, Engine& engine, int64_t batch) {
  BenchRow row;
  row.model = request.model ? request.model->filename().string() : request.shape;
  row.device = request.resolution.device;
  row.dtype = request.resolution.weight_dtype;
  row.batch = batch;
  row.threads = request.resolution.threads;
  row.workers = request.resolution.workers;
  row.heads_per_band = std::min(request.opts.heads_per_band, engine.dims().num_heads);
  row.chunk_size = request.opts.chunk_size;
  row.repeats = request.repeats;
  return row;
}

// Median, least and greatest rate of `repeats` runs after one warm-up.
void measure(BenchRow& row, int64_t tokens, const std::function<void()>& run) {
  run();
  std::vector<double> rates;
  for (int64_t i = 0; i < row.repeats; ++i) rates.push_back(static_cast<double>(tokens) / seconds_of(run));
  std::sort(rates.begin(), rates.end());
  row.tok_s = rates[rates.size() / 2];
  row.tok_s_min = rates.front();
  row.tok_s_max = rates.back();
  row.peak_mb = peak_resident_mb();
}

}  // namespace

std::vector<BenchRow> run_bench(const BenchRequest& request, const std::function<void(const BenchRow&)>& on_row) {
  const auto load = [&] {
    if (request.model) return Engine::load(request.opts, request.resolution, *request.model);
    const SyntheticShape shape = parse_shape(request.shape);
    require_memory(shape, request.resolution.weight_dtype);
    return Engine::synthetic(request.opts, request.resolution, shape.dims, shape.num_blocks);
  };
  Engine engine = load();
  std::vector<BenchRow> rows;
  const auto finish = [&](BenchRow row) {
    if (on_row) on_row(row);
    rows.push_back(std::move(row));
  };
  for (const int64_t batch : request.batch) {
    Runner runner(engine, batch);
    for (const int64_t length : request.n_prompt) {
      if (length == 0) continue;
      BenchRow row = describe(request, engine, batch);
      row.test = "prefill";
      row.kernel = length >= row.chunk_size ? request.resolution.chunkwise : request.resolution.sequence;
      row.n_prompt = length;
      measure(row, length * batch, [&] { runner.prefill(length); });
      finish(std::move(row));
    }
    for (const int64_t tokens : request.n_gen) {
      if (tokens == 0) continue;
      BenchRow row = describe(request, engine, batch);
      row.test = "decode";
      row.kernel = request.resolution.step;
      row.n_gen = tokens;
      measure(row, tokens * batch, [&] { runner.decode(tokens); });
      const double steps_per_second = row.tok_s / static_cast<double>(batch);
      row.weight_gb_s = steps_per_second * static_cast<double>(bytes_read_per_token(engine.model().weights())) / 1e9;
      row.state_gb_s = steps_per_second * 2 * static_cast<double>(runner.state_bytes()) / 1e9;
      finish(std::move(row));
    }
  }
  return rows;
}

}  // namespace xlstm
