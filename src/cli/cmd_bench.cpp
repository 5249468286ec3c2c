#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/cli/commands.h"
#include "src/cli/setup.h"
#include "xlstm/bench/bench.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

using nlohmann::ordered_json;

std::string cell_text(const ordered_json& value) {
  if (value.is_null()) return "";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return fixed(value.get<double>(), 2);
  return value.dump();
}

// The columns of a terminal table; csv and md have all of them.
const std::vector<std::string>& table_columns() {
  static const std::vector<std::string> columns = {"test",      "model",     "dtype",       "kernel",
                                                   "n_prompt",  "n_gen",     "batch",       "tok_s",
                                                   "tok_s_min", "tok_s_max", "weight_gb_s", "peak_mb"};
  return columns;
}

class Printer {
 public:
  explicit Printer(std::string format) : format_(std::move(format)) {}

  void row(const BenchRow& bench_row) {
    const ordered_json row = to_json(bench_row);
    if (format_ == "jsonl") print_json(row, /*one_line=*/true);
    if (format_ == "csv") delimited(row, "", ",", "");
    if (format_ == "md") delimited(row, "| ", " | ", " |");
    if (format_ == "table") table(row);
  }

  void finish(const std::vector<BenchRow>& rows) const {
    if (format_ == "json") print_json(bench_report(rows));
  }

 private:
  void delimited(const ordered_json& row, const char* begin, const char* separator, const char* end) {
    std::vector<std::string> names;
    std::vector<std::string> values;
    for (const auto& [key, value] : row.items()) {
      names.push_back(key);
      values.push_back(cell_text(value));
    }
    if (first_) {
      print_out(cat(begin, join(names, separator), end, "\n"));
      if (*begin != '\0') {
        print_out(cat(begin, join(std::vector<std::string>(names.size(), "---"), separator), end, "\n"));
      }
    }
    first_ = false;
    print_out(cat(begin, join(values, separator), end, "\n"));
  }

  void table(const ordered_json& row) {
    std::string header;
    std::string line;
    for (const std::string& name : table_columns()) {
      const std::string value = cell_text(row[name]);
      const size_t usual = name == "kernel" ? 31 : name == "model" ? 16 : 10;
      const size_t width = std::max({usual, name.size() + 1, value.size() + 1});
      header += name + std::string(width - name.size(), ' ');
      line += value + std::string(width - value.size(), ' ');
    }
    if (first_) print_out(header + "\n");
    first_ = false;
    print_out(line + "\n");
  }

  std::string format_;
  bool first_ = true;
};

}  // namespace

ExitCode run_bench_command(const Arguments& args) {
  const EffectiveConfig config = start_run(args);
  BenchRequest request;
  request.opts = config.opts;
  request.resolution = resolve(config.opts);
  request.shape = args.bench.shape;
  if (request.shape.empty()) request.model = require_model(args).directory;
  request.n_prompt = args.bench.n_prompt;
  request.n_gen = args.bench.n_gen;
  request.batch = args.bench.batch;
  request.repeats = args.bench.repeats;
  const auto is_zero = [](int64_t n) { return n == 0; };
  if (std::all_of(request.n_prompt.begin(), request.n_prompt.end(), is_zero) &&
      std::all_of(request.n_gen.begin(), request.n_gen.end(), is_zero)) {
    fail(ExitCode::kUsage, "-p and -n", "command line", "a length above 0", "none");
  }
  Printer printer(args.bench.output);
  const std::vector<BenchRow> rows = run_bench(request, [&](const BenchRow& row) { printer.row(row); });
  printer.finish(rows);
  return ExitCode::kOk;
}

}  // namespace xlstm
