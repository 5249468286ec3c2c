#include "src/registry/entries.h"

#include "kernels/cpu/cpu_cell.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/native/native_cell.h"
#include "kernels/native/native_ops.h"
#include "src/registry/device_backend.h"
#include "src/registry/scheduled_chunkwise.h"

namespace xlstm {
namespace {

RegistryEntry ops(const char* key, const char* device, const char* description,
                  std::function<std::unique_ptr<DeviceOps>(const KernelRequest&)> make) {
  return {{KernelFamily::kOps, key, device, description}, {}, std::move(make)};
}

RegistryEntry cell(KernelFamily family, const char* key, const char* device, const char* description,
                   std::function<std::unique_ptr<CellKernel>(const KernelRequest&)> make) {
  return {{family, key, device, description}, std::move(make), {}};
}

using MakeScheduler = std::unique_ptr<Scheduler> (*)(ThreadPool&, const ScheduleSettings&);

template <MakeScheduler make_scheduler>
std::unique_ptr<CellKernel> scheduled_on_cpu(const KernelRequest& r) {
  const BandShape shape{r.dims.num_heads, r.settings.heads_per_band, r.settings.chunk_size};
  return make_scheduled_chunkwise(make_scheduler(r.pool, {shape, static_cast<int>(r.settings.workers)}),
                                  make_cpu_tile_kernel(r.dims));
}

std::unique_ptr<CellKernel> cpu_chunkwise(const KernelRequest& request) {
  return make_cpu_chunkwise(request.dims, request.settings.chunk_size, request.pool);
}

std::vector<RegistryEntry> make_entries() {
  using enum KernelFamily;
  return {
      ops("native", "any", "plain libtorch, float32",
          [](const KernelRequest& r) { return make_native_ops(r.dims, r.device); }),
      ops("cpu", "cpu", "SIMD, all threads", [](const KernelRequest& r) { return make_cpu_ops(r.dims, r.pool); }),

      cell(kChunkwise, "chunkwise--ray_compiled_steps", "cpu", "an actor with a mailbox for each band of heads",
           scheduled_on_cpu<make_actor_scheduler>),
      cell(kChunkwise, "chunkwise--queued_compiled_steps", "cpu", "bands of heads on one shared queue",
           scheduled_on_cpu<make_queued_scheduler>),
      cell(kChunkwise, "chunkwise--native", "any", "plain libtorch, float32, serial",
           [](const KernelRequest& r) { return make_native_chunkwise(r.dims, r.settings.chunk_size); }),
      cell(kChunkwise, "chunkwise--native_compiled", "cpu", "the device's fused kernel: chunkwise--cpu", cpu_chunkwise),
      cell(kChunkwise, "chunkwise--cpu", "cpu", "SIMD, heads beside each other", cpu_chunkwise),

      cell(kSequence, "native_sequence__native", "any", "plain libtorch, float32, token by token",
           [](const KernelRequest& r) { return make_native_sequence(r.dims); }),
      cell(kSequence, "native_sequence__cpu", "cpu", "SIMD, heads beside each other",
           [](const KernelRequest& r) { return make_cpu_sequence(r.dims, r.pool); }),

      cell(kStep, "native", "any", "plain libtorch, float32",
           [](const KernelRequest& r) { return make_native_step(r.dims); }),
      cell(kStep, "cpu", "cpu", "SIMD, state read and written once",
           [](const KernelRequest& r) { return make_cpu_step(r.dims, r.pool); }),

      {{kAnalysis, "parallel--native", "any", "quadratic form in libtorch, for selftest and analysis"}, {}, {}},
  };
}

}  // namespace

const std::vector<RegistryEntry>& registry_entries() {
  static const std::vector<RegistryEntry> entries = [] {
    std::vector<RegistryEntry> all = make_entries();
    for (const DeviceBackend& backend : device_backends()) {
      all.insert(all.end(), backend.entries.begin(), backend.entries.end());
    }
    return all;
  }();
  return entries;
}

}  // namespace xlstm
