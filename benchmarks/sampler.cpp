// Choosing a token: sampler/SETTINGS/vocab:N. items_per_second: tokens.
#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "benchmarks/benchmark_main.h"
#include "xlstm/text/sampler.h"

namespace xlstm {
namespace {

struct NamedOptions {
  const char* name;
  SamplingOptions options;
};

const std::vector<NamedOptions>& all_options() {
  static const std::vector<NamedOptions> all = {
      {"greedy", {.temperature = 0}},
      {"default", {}},
      {"penalty", {.repeat_penalty = 1.1}},
      {"top_p_alone", {.top_k = 0, .min_p = 0}},
      {"no_filter", {.top_k = 0, .top_p = 1, .min_p = 0}},
  };
  return all;
}

void measure(benchmark::State& state, const SamplingOptions& options) {
  const int64_t vocab = state.range(0);
  std::mt19937 random(1);
  std::normal_distribution<float> distribution(0, 4);
  std::vector<float> logits(static_cast<size_t>(vocab));
  std::generate(logits.begin(), logits.end(), [&] { return distribution(random); });
  std::vector<int64_t> history(256);
  std::iota(history.begin(), history.end(), int64_t{0});
  Sampler sampler(options, vocab);
  uint64_t position = 0;
  for ([[maybe_unused]] auto _ : state) benchmark::DoNotOptimize(sampler.sample(logits, history, 0, position++));
  state.SetItemsProcessed(state.iterations());
}

void add_all() {
  for (const NamedOptions& named : all_options()) {
    add_benchmark(std::string("sampler/") + named.name,
                  [&named](benchmark::State& state) { measure(state, named.options); })
        ->ArgName("vocab")
        ->Arg(4096)
        ->Arg(50304);
  }
}

}  // namespace
}  // namespace xlstm

int main(int argc, char** argv) {
  return xlstm::run_benchmarks(argc, argv, xlstm::add_all);
}
