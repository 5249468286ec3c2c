#include "xlstm/bench/baseline.h"

#include <nlohmann/json.hpp>

#include "xlstm/bench/bench.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/files.h"
#include "xlstm/core/str.h"
#include "xlstm/core/strict_json.h"

namespace xlstm {
namespace {

using nlohmann::json;

constexpr const char* kWhat = "--compare";
constexpr const char* kBlank = " \t\r";

}  // namespace

class Baseline::Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : file_(path.string()), text_(read_file(path, ExitCode::kUsage)) {}

  std::vector<Row> rows() {
    if (has_a_value_per_line()) {
      size_t number = 0;
      for_each_line([&](const std::string& line) {
        ++number;
        if (line.find_first_not_of(kBlank) != std::string::npos) add(parse(line, cat(file_, " line ", number)));
        return true;
      });
    } else {
      add(parse(text_, file_));
    }
    if (rows_.empty()) fail(ExitCode::kUsage, kWhat, file_, "rows as `bench -o json` prints them", "none");
    return std::move(rows_);
  }

 private:
  template <class Handle>
  void for_each_line(const Handle& handle) const {
    for (size_t begin = 0; begin < text_.size();) {
      const size_t end = std::min(text_.find('\n', begin), text_.size());
      if (!handle(text_.substr(begin, end - begin))) return;
      begin = end + 1;
    }
  }

  // The first line with something in it tells: of one object over several lines it is no value.
  [[nodiscard]] bool has_a_value_per_line() const {
    bool value = false;
    for_each_line([&](const std::string& line) {
      if (line.find_first_not_of(kBlank) == std::string::npos) return true;
      value = json::accept(line);
      return false;
    });
    return value;
  }

  static json parse(const std::string& text, const std::string& where) {
    return parse_strict_json(text, where, {ExitCode::kUsage, kWhat}).value;
  }

  // A row, or a report with rows.
  void add(const json& value) {
    if (!value.contains("rows")) return add_row(value);
    const json& rows = value.at("rows");
    if (!rows.is_array()) fail(ExitCode::kUsage, kWhat, file_, "a list of rows", json_kind(rows));
    for (const json& row : rows) {
      if (!row.is_object()) refuse("an object", json_kind(row));
      add_row(row);
    }
  }

  [[noreturn]] void refuse(const std::string& expected, const std::string& got) const {
    fail(ExitCode::kUsage, kWhat, cat(file_, " row ", rows_.size() + 1), expected, got);
  }

  [[nodiscard]] const json& required(const json& row, const char* key, bool (json::*is)() const noexcept,
                                     const char* kind) const {
    const auto found = row.find(key);
    if (found == row.end()) refuse(cat(key, ", ", kind), "none");
    if (!((*found).*is)()) refuse(cat(key, ", ", kind), json_kind(*found));
    return *found;
  }
  [[nodiscard]] std::string text(const json& row, const char* key) const {
    return required(row, key, &json::is_string, "a text").get<std::string>();
  }
  [[nodiscard]] int64_t count(const json& row, const char* key) const {
    return required(row, key, &json::is_number_integer, "an integer").get<int64_t>();
  }
  // Left as it is if the row has no such value; another program's row may have null or nothing there.
  template <class T>
  static void take_optional(const json& row, const char* key, bool (json::*is)() const noexcept,
                            std::optional<T>& value) {
    const auto found = row.find(key);
    if (found != row.end() && ((*found).*is)()) value = found->get<T>();
  }

  void add_row(const json& value) {
    Row row;
    row.test = text(value, "test");
    row.model = text(value, "model");
    row.dtype = text(value, "dtype");
    row.n_prompt = count(value, "n_prompt");
    row.n_gen = count(value, "n_gen");
    row.batch = count(value, "batch");
    row.tok_s = required(value, "tok_s", &json::is_number, "a number").get<double>();
    if (!(row.tok_s > 0)) refuse("tok_s above 0", cat(row.tok_s));
    take_optional(value, "device", &json::is_string, row.device);
    take_optional(value, "kernel", &json::is_string, row.kernel);
    take_optional(value, "state_dtype", &json::is_string, row.state_dtype);
    take_optional(value, "threads", &json::is_number_integer, row.threads);
    take_optional(value, "chunk_size", &json::is_number_integer, row.chunk_size);
    take_optional(value, "heads_per_band", &json::is_number_integer, row.heads_per_band);
    take_optional(value, "workers", &json::is_number_integer, row.workers);
    rows_.push_back(std::move(row));
  }

  std::string file_;
  std::string text_;
  std::vector<Row> rows_;
};

Baseline Baseline::read(const std::filesystem::path& path) {
  Baseline baseline;
  baseline.rows_ = Reader(path).rows();
  return baseline;
}

bool Baseline::same_work(const Row& earlier, const BenchRow& row) {
  return earlier.test == row.test && earlier.model == row.model && earlier.dtype == row.dtype &&
         earlier.n_prompt == row.n_prompt && earlier.n_gen == row.n_gen && earlier.batch == row.batch;
}

// A bit for each, so that what comes first outweighs all that follows.
int Baseline::common_settings(const Row& earlier, const BenchRow& row) {
  int bits = 0;
  for (const bool equal : {earlier.device == row.device, earlier.kernel == row.kernel, earlier.threads == row.threads,
                           earlier.state_dtype == row.state_dtype, earlier.chunk_size == row.chunk_size,
                           earlier.heads_per_band == row.heads_per_band, earlier.workers == row.workers}) {
    bits = 2 * bits + (equal ? 1 : 0);
  }
  return bits;
}

std::optional<double> Baseline::tok_s_of(const BenchRow& row) const {
  const Row* best = nullptr;
  for (const Row& earlier : rows_) {
    if (!same_work(earlier, row)) continue;
    if (best == nullptr || common_settings(earlier, row) > common_settings(*best, row)) best = &earlier;
  }
  return best == nullptr ? std::nullopt : std::optional(best->tok_s);
}

}  // namespace xlstm
