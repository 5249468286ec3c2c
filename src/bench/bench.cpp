#include "xlstm/bench/bench.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "src/bench/cell.h"
#include "src/bench/limits.h"
#include "src/bench/process_figures.h"
#include "src/bench/rounds.h"
#include "src/bench/settings.h"
#include "src/bench/work.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/log.h"
#include "xlstm/core/paths.h"
#include "xlstm/core/run_status.h"
#include "xlstm/core/str.h"
#include "xlstm/runtime/engine.h"
#include "xlstm/runtime/generator.h"
#include "xlstm/runtime/made_up_ids.h"

namespace xlstm {
namespace {

// Runs passes over `batch` sequences: prompts of made-up ids, and steps with the tokens that the device chooses where
// it does that, else with made-up ones.
class Runner {
 public:
  Runner(Engine& engine, int64_t batch, const RuntimeOpts& opts)
      : engine_(engine),
        batch_(batch),
        state_(engine.dims(), {engine.model().num_blocks(), batch, torch_dtype(opts.state_dtype),
                               torch_device(engine.resolution().device)}) {
    std::vector<Draw> draws;
    for (int64_t slot = 0; slot < batch; ++slot) draws.push_back({.sequence = static_cast<uint64_t>(slot)});
    chooser_ = engine.make_chooser(Sampler(sampling_options(opts, /*seed=*/0), engine.usable_vocab()), draws);
  }

  // Prompts of `length` tokens, in segments that hold all sequences; logits for the last rows only.
  void prefill(int64_t length) {
    begin_phase(RunPhase::kPrefill, length * batch_);
    const int64_t segment = rows_per_pass(engine_.segment_rows(false), batch_, engine_.model().chunk_size());
    for (int64_t begin = 0; begin < length; begin += segment) {
      const int64_t rows = std::min(segment, length - begin);
      pass(rows, begin + rows == length ? LogitRows::kLast : LogitRows::kNone)->wait();
    }
  }

  void decode(int64_t tokens) {
    begin_phase(RunPhase::kDecode, tokens * batch_);
    std::shared_ptr<PassLogits> logits = pass(1, LogitRows::kLast);
    for (int64_t t = 1; t < tokens; ++t) {
      if (chooser_) {
        logits = engine_.forward(plan_, *chooser_, std::move(logits), state_);
        (void)chooser_->wait();
        count_rows();
      } else {
        logits->wait();
        logits.reset();  // or the pass would keep them
        logits = pass(1, LogitRows::kLast);
      }
    }
    logits->wait();
  }

  [[nodiscard]] uint64_t state_bytes() const { return state_.bytes(); }

 private:
  std::shared_ptr<PassLogits> pass(int64_t rows, LogitRows logits) {
    plan_.clear();
    for (int64_t slot = 0; slot < batch_; ++slot) plan_.add(slot, rows, logits);
    const int64_t vocab = engine_.dims().vocab_size;
    ids_.resize(static_cast<size_t>(plan_.rows()));
    for (int64_t& id : ids_) id = last_id_ = next_made_up_id(last_id_, vocab);
    std::shared_ptr<PassLogits> begun = engine_.forward(plan_, ids_, state_);
    count_rows();
    return begun;
  }

  void count_rows() const {
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
  int64_t last_id_ = 0;
  std::unique_ptr<TokenChooser> chooser_;
};

void log_limits(const BenchLimits& limits) {
  std::vector<std::string> parts = {cat("reads ", fixed(limits.read_gb_s, 1), " GB/s"),
                                    cat("copies ", fixed(limits.copy_gb_s, 1), " GB/s")};
  for (const auto& [dtype, rate] : limits.gemm_gflop_s)
    parts.push_back(cat("gemm_", dtype, " ", fixed(rate, 0), " GFLOP/s"));
  for (const auto& [kind, rate] : limits.peak_gflop_s) parts.push_back(cat(kind, ' ', fixed(rate, 0), " GFLOP/s"));
  if (limits.barrier_ns) parts.push_back(cat("barrier ", fixed(*limits.barrier_ns, 0), " ns"));
  log::info(cat("limits of ", limits.device, ": ", join(parts, ", ")));
}

void warn_if_never_steady(const BenchRow& row) {
  if (row.rejected < row.repeats || row.rejected == 0 || row.limit_share) return;
  log::warn(cat(row.test, " of ", row.model, ": the machine changed during each of ", row.rejected,
                " samples, so the row has their speed but no share of a limit"));
}

// The type that a cell multiplies in, whatever that of the state is.
std::string cell_products(const Resolution& resolution) {
  const bool rounded = device_kind(resolution.device) == "cuda" && resolution.weight_dtype != "float32";
  return rounded ? "bfloat16" : "float32";
}

// Rows that differ in their schedule alone.
struct Measured {
  std::vector<BenchRow> rows;
  std::vector<const BenchSetting*> settings;  // one for each row
};

class Bench {
 public:
  Bench(const BenchRequest& request, const std::function<void(const BenchRow&)>& on_row)
      : request_(request), on_row_(on_row) {}

  BenchResult run() {
    const std::vector<LoadGroup> groups = expand_settings(request_);
    if (request_.cell) {
      const ModelDims dims = cell_dims();
      for (const LoadGroup& group : groups) require_chunks(group);
      measure_limits(groups);
      for (const LoadGroup& group : groups) {
        make_probes(group);
        for (const LoadGroup& part : by_state_dtype(group)) cells(part, dims);
      }
    } else {
      measure_limits(groups);
      for (const LoadGroup& group : groups) passes(group);
    }
    return std::move(result_);
  }

 private:
  // Of the group with most threads.
  void measure_limits(const std::vector<LoadGroup>& groups) {
    if (!request_.limits) return;
    const LoadGroup& largest =
        *std::max_element(groups.begin(), groups.end(), [](const LoadGroup& a, const LoadGroup& b) {
          return a.front().resolution.threads < b.front().resolution.threads;
        });
    make_probes(largest);
    result_.limits = probes_->measure();
    log_limits(*result_.limits);
  }

  void make_probes(const LoadGroup& group) {
    const Resolution& resolution = group.front().resolution;
    if (!request_.limits || (probes_ && probes_threads_ == resolution.threads)) return;
    probes_.reset();  // its buffer, before there is another
    probes_ = make_limit_probes(resolution.device, resolution.threads);
    probes_threads_ = resolution.threads;
  }

  [[nodiscard]] Engine load(const BenchSetting& setting) const {
    EngineSettings settings;
    settings.force = request_.force;
    settings.slots = *std::max_element(request_.batch.begin(), request_.batch.end());
    settings.longest_prompt = 1;
    for (const int64_t length : request_.n_prompt) settings.longest_prompt = std::max(settings.longest_prompt, length);
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
    row.state_dtype = setting.opts.state_dtype;
    row.batch = batch;
    row.threads = setting.resolution.threads;
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
        common.dtype = common.state_dtype;
        common.n_prompt = length;
        Measured measured = rows_of(group, common, dims.num_heads);
        CellRunner runner(dims, group, {length, batch});
        if (probes_) probes_->share_threads(runner.pool());
        std::vector<Contestant> contestants;
        for (const BenchSetting* setting : measured.settings) {
          const int64_t chunk = setting->opts.chunk_size;
          const int64_t tokens = runner.tokens(chunk);
          contestants.push_back({tokens, [&runner, setting] { runner.choose(*setting); }, [&runner] { runner.run(); },
                                 static_cast<double>(batch) * cell_flop(dims, tokens / batch, chunk)});
        }
        finish(measure_products(std::move(measured.rows), contestants, cell_products(group.front().resolution)));
      }
    }
  }

  void passes(const LoadGroup& group) {
    Engine engine = load(group.front());
    make_probes(group);
    if (probes_) probes_->share_threads(engine.pool());
    const std::vector<LoadGroup> parts = by_state_dtype(group);
    for (const int64_t batch : request_.batch) {
      for (const LoadGroup& part : parts) {
        Runner runner(engine, batch, part.front().opts);
        for (const int64_t length : request_.n_prompt) {
          if (length > 0) prefill(part, engine, runner, {length, batch});
        }
        for (const int64_t tokens : request_.n_gen) {
          if (tokens > 0) decode(part.front(), engine, runner, {tokens, batch});
        }
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
      const double flop =
          prefill_flop(engine.dims(), engine.model().num_blocks(), work.length, setting->opts.chunk_size);
      contestants.push_back({work.length * work.batch, choose, [&runner, work] { runner.prefill(work.length); },
                             static_cast<double>(work.batch) * flop});
    }
    finish(measure_products(std::move(measured.rows), contestants, common.dtype));
  }

  void decode(const BenchSetting& setting, Engine& engine, Runner& runner, const Workload& work) {
    BenchRow common = describe("decode", setting, work.batch);
    common.kernel = setting.resolution.step;
    common.n_gen = work.length;
    const auto weight_bytes = static_cast<double>(bytes_read_per_token(engine.model().weights()));
    const auto state_bytes = 2 * static_cast<double>(runner.state_bytes());  // read and written
    const Contestant steps{work.length * work.batch, [] {}, [&runner, work] { runner.decode(work.length); },
                           static_cast<double>(work.length) * (weight_bytes + state_bytes)};
    std::vector<BenchRow> rows =
        measure({std::move(common)}, {steps}, probes_ ? probes_->decode_gauges() : std::vector<Gauge>());
    BenchRow& row = rows.front();
    const double steps_per_second = row.tok_s / static_cast<double>(work.batch);
    row.weight_gb_s = steps_per_second * weight_bytes / 1e9;
    row.state_gb_s = steps_per_second * state_bytes / 1e9;
    finish(std::move(rows));
  }

  // Rows that are judged by matrix products with weights of type `dtype`.
  [[nodiscard]] std::vector<BenchRow> measure_products(std::vector<BenchRow> rows,
                                                       const std::vector<Contestant>& contestants,
                                                       const std::string& dtype) const {
    if (!probes_) return measure(std::move(rows), contestants, {});
    for (BenchRow& row : rows) row.judged_by = probes_->prefill_judge(dtype);
    return measure(std::move(rows), contestants, probes_->prefill_gauges(dtype));
  }

  [[nodiscard]] std::vector<BenchRow> measure(std::vector<BenchRow> rows, const std::vector<Contestant>& contestants,
                                              std::vector<Gauge> gauges) const {
    const auto threads = static_cast<int>(rows.front().threads);
    reset_peak_resident();
    const std::vector<Rate> rates =
        measure_in_turns(contestants, {request_.repeats, request_.opts.progress, threads, std::move(gauges)});
    const double probes_bytes = probes_ ? static_cast<double>(probes_->resident_bytes()) : 0;
    // Memory of the probes that was swapped out is none of the peak.
    const double peak_mb = std::max(0.0, static_cast<double>(peak_resident_bytes()) - probes_bytes) / 1e6;
    for (size_t i = 0; i < rows.size(); ++i) {
      const Rate& rate = rates[i];
      rows[i].tok_s = rate.median;
      rows[i].tok_s_min = rate.min;
      rows[i].tok_s_max = rate.max;
      if (!rate.shares.empty()) rows[i].limit_share = rate.shares[0];
      if (rate.shares.size() > 1) rows[i].peak_share = rate.shares[1];
      rows[i].peak_mb = peak_mb;
      rows[i].repeats = rate.samples;
      rows[i].rejected = rate.rejected;
    }
    return rows;
  }

  void finish(std::vector<BenchRow> rows) {
    for (BenchRow& row : rows) {
      if (request_.baseline) {
        const std::optional<double> earlier = request_.baseline->tok_s_of(row);
        if (earlier) row.ratio = row.tok_s / *earlier;
      }
      warn_if_never_steady(row);
      if (on_row_) on_row_(row);
      result_.rows.push_back(std::move(row));
    }
  }

  const BenchRequest& request_;
  const std::function<void(const BenchRow&)>& on_row_;
  BenchResult result_;
  std::unique_ptr<LimitProbes> probes_;  // with limits only
  int probes_threads_ = 0;
};

}  // namespace

BenchResult run_bench(const BenchRequest& request, const std::function<void(const BenchRow&)>& on_row) {
  return Bench(request, on_row).run();
}

}  // namespace xlstm
