// What the programs of this folder share: their main function and the shapes that they measure.
#pragma once

#include <benchmark/benchmark.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>

#include "xlstm/core/errors.h"

namespace xlstm {

struct NamedShape {
  const char* name;
  const char* text;    // for parse_shape()
  int64_t num_blocks;  // that the calls of a measurement take turns with, so that the weights of a large model come
                       // from memory and those of a small one from the cache, as they do in decoding
};

constexpr std::array<NamedShape, 3> kShapes = {{
    {"tales-8m", "E=256,blocks=8,heads=4,vocab=4096", 8},
    {"406m", "406m", 8},
    {"7b", "7b", 2},
}};

// A rate of `count` per call of the measured code, with prefixes of 1000.
inline benchmark::Counter per_call(double count) {
  return benchmark::Counter(count, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
}

// Registers a benchmark that is timed by the clock on the wall: threads of the pool take part.
template <class Function>
benchmark::internal::Benchmark* add_benchmark(const std::string& name, const Function& function) {
  return benchmark::RegisterBenchmark(name.c_str(), function)->UseRealTime();
}

// Exit codes are those of xlstm_generate.
inline int run_benchmarks(int argc, char** argv, const std::function<void()>& add_all) {
  try {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return static_cast<int>(ExitCode::kUsage);
    add_all();
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return static_cast<int>(error.code());
  }
}

}  // namespace xlstm
