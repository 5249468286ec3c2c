#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/cli/commands.h"
#include "src/cli/setup.h"
#include "src/cli/watched_run.h"
#include "xlstm/bench/bench.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"
#include "xlstm/registry/registry.h"

namespace xlstm {
namespace {

using nlohmann::ordered_json;

std::string cell_text(const std::string& key, const ordered_json& value) {
  if (value.is_null()) return "";
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_number_float()) return value.dump();
  const bool around_one = key == "limit_share" || key == "peak_share" || key == "ratio";
  return fixed(value.get<double>(), around_one ? 3 : 2);
}

// As RFC 4180 has it.
std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + '"';
}

std::string md_field(const std::string& text) {
  std::string escaped;
  for (const char c : printable(text, text.size())) escaped += c == '|' ? std::string("\\|") : std::string(1, c);
  return escaped;
}

struct Column {
  std::string name;
  size_t width;
};

// The columns of a terminal table; the other formats have all of them. What every row has in common is left out: a
// setting is a column if several values of it were asked for.
std::vector<Column> table_columns(const BenchArgs& args) {
  size_t kernel_width = 31;
  if (args.chunkwise_backend.size() > 1) {
    for (const KernelInfo& kernel : list_kernels()) kernel_width = std::max(kernel_width, kernel.key.size() + 1);
  }
  std::vector<Column> columns = {{"test", 10},     {"model", 16}, {"dtype", 10}, {"kernel", kernel_width},
                                 {"n_prompt", 10}, {"n_gen", 10}, {"batch", 10}};
  if (args.state_dtype.size() > 1) columns.push_back({"state_dtype", 12});
  if (args.threads.size() > 1) columns.push_back({"threads", 10});
  if (args.workers.size() > 1) columns.push_back({"workers", 10});
  if (args.heads_per_band.size() > 1) columns.push_back({"heads_per_band", 15});
  if (args.chunk_size.size() > 1) columns.push_back({"chunk_size", 11});
  for (const char* name : {"tok_s", "tok_s_min", "tok_s_max"}) columns.push_back({name, 10});
  columns.push_back({"weight_gb_s", 12});
  if (args.limits) {
    for (const char* name : {"limit_share", "peak_share", "rejected"}) columns.push_back({name, 12});
  }
  if (args.compare) columns.push_back({"ratio", 8});
  columns.push_back({"peak_mb", 10});
  return columns;
}

class Printer {
 public:
  explicit Printer(const BenchArgs& args) : format_(args.output), columns_(table_columns(args)) {}

  void row(const BenchRow& bench_row) {
    const ordered_json row = to_json(bench_row);
    if (format_ == "jsonl") print_json(row, /*one_line=*/true);
    if (format_ == "csv") csv(row);
    if (format_ == "md") markdown(row);
    if (format_ == "table") table(row);
    first_ = false;
  }

  void finish(const BenchResult& result) const {
    if (format_ == "json") print_json(bench_report(result));
  }

 private:
  using Field = std::string (*)(const std::string&);

  static std::vector<std::string> names_of(const ordered_json& row) {
    std::vector<std::string> names;
    for (const auto& [key, value] : row.items()) names.push_back(key);
    return names;
  }
  static std::vector<std::string> values_of(const ordered_json& row, Field field) {
    std::vector<std::string> values;
    for (const auto& [key, value] : row.items()) values.push_back(field(cell_text(key, value)));
    return values;
  }

  void csv(const ordered_json& row) const {
    if (first_) print_out(join(names_of(row), ",") + "\n");
    print_out(join(values_of(row, csv_field), ",") + "\n");
  }

  void markdown(const ordered_json& row) const {
    if (first_) {
      print_out(cat("| ", join(names_of(row), " | "), " |\n"));
      print_out(cat("| ", join(std::vector<std::string>(row.size(), "---"), " | "), " |\n"));
    }
    print_out(cat("| ", join(values_of(row, md_field), " | "), " |\n"));
  }

  void table(const ordered_json& row) const {
    std::string header;
    std::string line;
    for (const Column& column : columns_) {
      const std::string value = printable(cell_text(column.name, row[column.name]));
      const size_t width = std::max({column.width, column.name.size() + 1, value.size() + 1});
      header += column.name + std::string(width - column.name.size(), ' ');
      line += value + std::string(width - value.size(), ' ');
    }
    if (first_) print_out(header + "\n");
    print_out(line + "\n");
  }

  std::string format_;
  std::vector<Column> columns_;
  bool first_ = true;
};

// A flag with one value is the setting itself: it takes part in the configuration layers as in any other command.
template <class T>
void set_single(Arguments& args, const char* key, const std::vector<T>& values) {
  if (values.size() == 1) args.layers.flags[key] = values.front();
}

Arguments with_single_values(Arguments args) {
  const BenchArgs& bench = args.bench;
  set_single(args, "chunkwise_backend", bench.chunkwise_backend);
  set_single(args, "dtype", bench.dtype);
  set_single(args, "state_dtype", bench.state_dtype);
  set_single(args, "chunk_size", bench.chunk_size);
  set_single(args, "heads_per_band", bench.heads_per_band);
  set_single(args, "workers", bench.workers);
  set_single(args, "threads", bench.threads);
  return args;
}

void require_rows(const BenchArgs& args) {
  const auto is_zero = [](int64_t n) { return n == 0; };
  const bool no_prompt = std::all_of(args.n_prompt.begin(), args.n_prompt.end(), is_zero);
  if (args.cell && no_prompt) {
    fail(ExitCode::kUsage, "-p", "command line", "a length above 0 for --cell", "none");
  }
  if (no_prompt && std::all_of(args.n_gen.begin(), args.n_gen.end(), is_zero)) {
    fail(ExitCode::kUsage, "-p and -n", "command line", "a length above 0", "none");
  }
}

}  // namespace

ExitCode run_bench_command(const Arguments& args) {
  const BenchArgs& bench = args.bench;
  require_rows(bench);
  const EffectiveConfig config = start_run(with_single_values(args));
  BenchRequest request;
  request.opts = config.opts;
  request.shape = bench.shape;
  if (request.shape.empty()) request.model = require_model(args).directory;
  request.n_prompt = bench.n_prompt;
  request.n_gen = bench.n_gen;
  request.batch = bench.batch;
  request.repeats = bench.repeats;
  request.force = args.force;
  request.cell = bench.cell;
  request.limits = bench.limits;
  if (bench.compare) request.baseline = Baseline::read(*bench.compare);
  request.chunkwise_backend = bench.chunkwise_backend;
  request.dtype = bench.dtype;
  request.state_dtype = bench.state_dtype;
  request.chunk_size = bench.chunk_size;
  request.heads_per_band = bench.heads_per_band;
  request.workers = bench.workers;
  request.threads = bench.threads;
  Printer printer(bench);
  const std::filesystem::path name = request.model ? *request.model : std::filesystem::path(request.shape);
  return watch_run({args, config, resolve_run(args, config.opts), name}, [&] {
    printer.finish(run_bench(request, [&](const BenchRow& row) { printer.row(row); }));
    return ExitCode::kOk;
  });
}

}  // namespace xlstm
