// The bundled model's tokenizer over its validation documents: tokenizer/load, tokenizer/encode, tokenizer/decode.
// bytes_per_second: text. items_per_second: tokens.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "benchmarks/benchmark_main.h"
#include "xlstm/core/files.h"
#include "xlstm/text/tokenizer.h"

namespace xlstm {
namespace {

constexpr const char* kTokenizer = XLSTM_SOURCE_DIR "/models/xlstm-tales-8m/tokenizer.json";
constexpr const char* kDocuments = XLSTM_SOURCE_DIR "/tests/data/goldens/tales/val_docs.json";

std::string documents() {
  std::string text;
  const auto all = nlohmann::json::parse(read_file(kDocuments, ExitCode::kInternal));
  for (const auto& document : all) text += document.get<std::string>();
  return text;
}

void count(benchmark::State& state, size_t bytes, size_t tokens) {
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes));
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(tokens));
}

void load(benchmark::State& state) {
  for ([[maybe_unused]] auto _ : state) benchmark::DoNotOptimize(Tokenizer::from_file(kTokenizer).size());
}

void encode(benchmark::State& state) {
  const Tokenizer tokenizer = Tokenizer::from_file(kTokenizer);
  const std::string text = documents();
  std::vector<int64_t> ids;
  for ([[maybe_unused]] auto _ : state) {
    ids = tokenizer.encode(text);
    benchmark::DoNotOptimize(ids.data());
  }
  count(state, text.size(), ids.size());
}

void decode(benchmark::State& state) {
  const Tokenizer tokenizer = Tokenizer::from_file(kTokenizer);
  const std::vector<int64_t> ids = tokenizer.encode(documents());
  std::string text;
  for ([[maybe_unused]] auto _ : state) {
    text = tokenizer.decode(ids);
    benchmark::DoNotOptimize(text.data());
  }
  count(state, text.size(), ids.size());
}

void add_all() {
  add_benchmark("tokenizer/load", load)->Unit(benchmark::kMillisecond);
  add_benchmark("tokenizer/encode", encode)->Unit(benchmark::kMillisecond);
  add_benchmark("tokenizer/decode", decode)->Unit(benchmark::kMillisecond);
}

}  // namespace
}  // namespace xlstm

int main(int argc, char** argv) {
  return xlstm::run_benchmarks(argc, argv, xlstm::add_all);
}
