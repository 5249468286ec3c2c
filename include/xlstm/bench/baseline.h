// Results of an earlier measurement to compare with.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace xlstm {

struct BenchRow;

class Baseline {
 public:
  // Reads what `bench -o json` or `-o jsonl` printed, or another program in that form. A row needs test, model, dtype,
  // n_prompt, n_gen, batch and tok_s; other keys are optional and unknown ones are passed over. Error kUsage, naming
  // the flag --compare, for a file that is none of these or has no row.
  static Baseline read(const std::filesystem::path& path);

  // The earlier speed of the same work: test, model, dtype, n_prompt, n_gen and batch are equal. Of several rows the
  // one that has more in common with this one: first the device, then kernel, threads, state_dtype, chunk_size,
  // heads_per_band and workers, in this order; of equals the first.
  [[nodiscard]] std::optional<double> tok_s_of(const BenchRow& row) const;

 private:
  struct Row {
    std::string test, model, dtype;
    int64_t n_prompt = 0;
    int64_t n_gen = 0;
    int64_t batch = 1;
    double tok_s = 0;
    // What the file does not say is absent.
    std::optional<std::string> device, kernel, state_dtype;
    std::optional<int64_t> threads, chunk_size, heads_per_band, workers;
  };
  class Reader;
  [[nodiscard]] static bool same_work(const Row& earlier, const BenchRow& row);
  [[nodiscard]] static int common_settings(const Row& earlier, const BenchRow& row);

  std::vector<Row> rows_;
};

}  // namespace xlstm
