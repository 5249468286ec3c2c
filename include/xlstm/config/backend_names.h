// The names of kernel backends as people and files write them.
#pragma once

#include <string>
#include <string_view>

namespace xlstm {

inline constexpr std::string_view kRayBackend = "ray_compiled_steps";
inline constexpr std::string_view kQueuedBackend = "queued_compiled_steps";

// Whether a chunkwise backend, by short name or full key, cuts its work into bands of heads for a scheduler.
[[nodiscard]] bool is_scheduled_backend(std::string_view backend);

// "chunkwise--native" → "native".
[[nodiscard]] std::string short_backend(std::string_view backend);

// Names from other programs for the same mathematics: "native_autograd" → "native". Others stay as they are.
[[nodiscard]] std::string unalias_backend(std::string_view backend);

// The backend that a device kind's compiled kernels are registered under: "mps" → "metal".
[[nodiscard]] std::string compiled_backend(std::string_view device_kind);

// The tuner's settings and results call the schedulers by their first word: "ray" → "ray_compiled_steps".
[[nodiscard]] std::string scheduler_backend(std::string_view backend);

// One name for each chunkwise backend of a device kind, however it was written: "chunkwise--native_compiled", "auto"
// and "cpu" are all "cpu" on a CPU.
[[nodiscard]] std::string canonical_backend(std::string_view backend, std::string_view device_kind);

}  // namespace xlstm
