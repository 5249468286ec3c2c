// What a job costs beyond its work:
//   thread_pool/barrier/threads:N      every member waits for all others, so that each takes part
//   thread_pool/empty_job/threads:N    nobody waits: the caller may do the parts of workers that are late
#include <atomic>

#include "benchmarks/benchmark_main.h"
#include "xlstm/core/thread_pool.h"

namespace xlstm {
namespace {

void barrier(benchmark::State& state) {
  ThreadPool pool(static_cast<int>(state.range(0)));
  std::atomic<int64_t> arrived{0};
  int64_t all = 0;
  const std::function<void(int)> meet = [&](int) {
    arrived.fetch_add(1);
    while (arrived.load() < all) cpu_relax();
  };
  for ([[maybe_unused]] auto _ : state) {
    all += pool.size();
    pool.run(meet);
  }
  state.SetItemsProcessed(state.iterations());
}

void empty_job(benchmark::State& state) {
  ThreadPool pool(static_cast<int>(state.range(0)));
  const std::function<void(int)> nothing = [](int member) { benchmark::DoNotOptimize(member); };
  for ([[maybe_unused]] auto _ : state) pool.run(nothing);
  state.SetItemsProcessed(state.iterations());
}

void add_all() {
  auto* with_all = add_benchmark("thread_pool/barrier", barrier);
  auto* with_caller = add_benchmark("thread_pool/empty_job", empty_job);
  for (auto* added : {with_all, with_caller}) {
    added->ArgName("threads");
    for (int threads = 1; threads < available_cores(); threads *= 2) added->Arg(threads);
    added->Arg(available_cores());
  }
}

}  // namespace
}  // namespace xlstm

int main(int argc, char** argv) {
  return xlstm::run_benchmarks(argc, argv, xlstm::add_all);
}
