#include "xlstm/bench/bench.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "src/bench/cell.h"
#include "src/bench/rounds.h"
#include "src/bench/settings.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/paths.h"
#include "xlstm/core/run_status.h"
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

// Runs passes over `batch` sequences with made-up ids.
class Runner {
 public:
  Runner(Engine& engine, int64_t batch) : engine_(engine), batch_(batch), state_(engine.make_state(batch)) {}

  // Prompts of `length` tokens, in segments that hold all sequences; logits for the last rows only.
  void prefill(int64_t length) {
    begin_phase(RunPhase::kPrefill, length * batch_);
    const int64_t segment = rows_per_pass(engine_.segment_rows(false), batch_, engine_.model().chunk_size());
    for (int64_t begin = 0; begin < length; begin += segment) {
      const int64_t rows = std::min(segment, length - begin);
      pass(rows, begin + rows == length ? LogitRows::kLast : LogitRows::kNone);
    }
  }

  void decode(int64_t tokens) {
    begin_phase(RunPhase::kDecode, tokens * batch_);
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
    RunCounters& counters = run_counters();
    const bool prefill = counters.phase.load(std::memory_order_relaxed) == RunPhase::kPrefill;
    counters.done.fetch_add(plan_.rows(), std::memory_order_relaxed);
    (prefill ? counters.prompt_tokens : counters.decoded_tokens).fetch_add(plan_.rows(), std::memory_order_relaxed);
  }

  Engine& engine_;
  int64_t batch_;
  State state_;
  RowPlan plan_;
  std::vector<int64_t> ids_;
  int64_t next_id_ = 1;
};

// Rows that differ in their schedule alone.
struct Measured {
  std::vector<BenchRow> rows;
  std::vector<const BenchSetting*> settings;  // one for each row
};

class Bench {
 public:
  Bench(const BenchRequest& request, const std::function<void(const BenchRow&)>& on_row)
      : request_(request), on_row_(on_row) {}

  std::vector<BenchRow> run() {
    const std::vector<LoadGroup> groups = expand_settings(request_);
    if (request_.cell) {
      const ModelDims dims = cell_dims();
      for (const LoadGroup& group : groups) require_chunks(group);
      for (const LoadGroup& group : groups) cells(group, dims);
    } else {
      for (const LoadGroup& group : groups) passes(group);
    }
    return std::move(finished_);
  }

 private:
  [[nodiscard]] Engine load(const BenchSetting& setting) const {
    EngineSettings settings;
    settings.force = request_.force;
    settings.slots = *std::max_element(request_.batch.begin(), request_.batch.end());
    if (request_.model) return Engine::load(setting.opts, setting.resolution, *request_.model, settings);
    const SyntheticShape shape = parse_shape(request_.shape);
    return Engine::synthetic(setting.opts, setting.resolution, shape.dims, shape.num_blocks, settings);
  }

  [[nodiscard]] ModelDims cell_dims() const {
    if (request_.model) return dims_of(resolve_layout(Checkpoint(*request_.model)).config);
    return parse_shape(request_.shape).dims;
  }

  void require_chunks(const LoadGroup& group) const {
    for (const int64_t length : request_.n_prompt) {
      for (const BenchSetting& setting : group) {
        if (length == 0 || length >= setting.opts.chunk_size) continue;
        fail(ExitCode::kUsage, "-p", "command line", cat("a chunk of ", setting.opts.chunk_size, " tokens for --cell"),
             std::to_string(length));
      }
    }
  }

  [[nodiscard]] BenchRow describe(const char* test, const BenchSetting& setting, int64_t batch) const {
    BenchRow row;
    row.test = test;
    row.model = request_.model ? directory_name(*request_.model) : request_.shape;
    row.device = setting.resolution.device;
    row.dtype = setting.resolution.weight_dtype;
    row.batch = batch;
    row.threads = setting.resolution.threads;
    row.repeats = request_.repeats;
    return row;
  }

  // A row for each schedule that the settings come to.
  Measured rows_of(const LoadGroup& group, const BenchRow& common, int64_t num_heads) const {
    Measured measured;
    std::vector<Schedule> seen;
    for (const BenchSetting& setting : group) {
      const Schedule schedule = request_.cell ? chunkwise_schedule(setting, num_heads)
                                              : prefill_schedule(setting, num_heads, common.n_prompt);
      if (std::find(seen.begin(), seen.end(), schedule) != seen.end()) continue;
      seen.push_back(schedule);
      BenchRow row = common;
      row.kernel = schedule.kernel;
      row.workers = schedule.workers;
      row.heads_per_band = schedule.heads_per_band;
      row.chunk_size = schedule.chunk_size;
      measured.rows.push_back(std::move(row));
      measured.settings.push_back(&setting);
    }
    return measured;
  }

  void cells(const LoadGroup& group, const ModelDims& dims) {
    for (const int64_t batch : request_.batch) {
      for (const int64_t length : request_.n_prompt) {
        if (length == 0) continue;
        BenchRow common = describe("cell", group.front(), batch);
        common.dtype = request_.opts.state_dtype;
        common.n_prompt = length;
        Measured measured = rows_of(group, common, dims.num_heads);
        CellRunner runner(dims, group, {length, batch});
        std::vector<Contestant> contestants;
        for (const BenchSetting* setting : measured.settings) {
          contestants.push_back({runner.tokens(setting->opts.chunk_size),
                                 [&runner, setting] { runner.choose(*setting); }, [&runner] { runner.run(); }});
        }
        finish(measure(std::move(measured.rows), contestants));
      }
    }
  }

  void passes(const LoadGroup& group) {
    Engine engine = load(group.front());
    for (const int64_t batch : request_.batch) {
      Runner runner(engine, batch);
      for (const int64_t length : request_.n_prompt) {
        if (length > 0) prefill(group, engine, runner, {length, batch});
      }
      for (const int64_t tokens : request_.n_gen) {
        if (tokens > 0) decode(group.front(), engine, runner, {tokens, batch});
      }
    }
  }

  void prefill(const LoadGroup& group, Engine& engine, Runner& runner, const Workload& work) {
    BenchRow common = describe("prefill", group.front(), work.batch);
    common.n_prompt = work.length;
    Measured measured = rows_of(group, common, engine.dims().num_heads);
    std::vector<Contestant> contestants;
    for (const BenchSetting* setting : measured.settings) {
      // One chunk, so that the new kernel's threads and buffers are there.
      const auto choose = [&engine, &runner, setting, work] {
        engine.reschedule(setting->opts, setting->resolution);
        runner.prefill(std::min(work.length, setting->opts.chunk_size));
      };
      contestants.push_back({work.length * work.batch, choose, [&runner, work] { runner.prefill(work.length); }});
    }
    finish(measure(std::move(measured.rows), contestants));
  }

  void decode(const BenchSetting& setting, Engine& engine, Runner& runner, const Workload& work) {
    BenchRow common = describe("decode", setting, work.batch);
    common.kernel = setting.resolution.step;
    common.n_gen = work.length;
    const Contestant steps{work.length * work.batch, [] {}, [&runner, work] { runner.decode(work.length); }};
    std::vector<BenchRow> rows = measure({std::move(common)}, {steps});
    BenchRow& row = rows.front();
    const double steps_per_second = row.tok_s / static_cast<double>(work.batch);
    row.weight_gb_s = steps_per_second * static_cast<double>(bytes_read_per_token(engine.model().weights())) / 1e9;
    row.state_gb_s = steps_per_second * 2 * static_cast<double>(runner.state_bytes()) / 1e9;
    finish(std::move(rows));
  }

  [[nodiscard]] std::vector<BenchRow> measure(std::vector<BenchRow> rows,
                                              const std::vector<Contestant>& contestants) const {
    const std::vector<Rate> rates = measure_in_turns(contestants, request_.repeats, request_.opts.progress);
    for (size_t i = 0; i < rows.size(); ++i) {
      rows[i].tok_s = rates[i].median;
      rows[i].tok_s_min = rates[i].min;
      rows[i].tok_s_max = rates[i].max;
      rows[i].peak_mb = peak_resident_mb();
    }
    return rows;
  }

  void finish(std::vector<BenchRow> rows) {
    for (BenchRow& row : rows) {
      if (on_row_) on_row_(row);
      finished_.push_back(std::move(row));
    }
  }

  const BenchRequest& request_;
  const std::function<void(const BenchRow&)>& on_row_;
  std::vector<BenchRow> finished_;
};

}  // namespace

std::vector<BenchRow> run_bench(const BenchRequest& request, const std::function<void(const BenchRow&)>& on_row) {
  return Bench(request, on_row).run();
}

}  // namespace xlstm
