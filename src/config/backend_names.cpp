#include "xlstm/config/backend_names.h"

#include <array>
#include <utility>

namespace xlstm {

bool is_scheduled_backend(std::string_view backend) {
  const std::string name = short_backend(backend);
  return name == kRayBackend || name == kQueuedBackend;
}

std::string short_backend(std::string_view backend) {
  constexpr std::string_view kFamily = "chunkwise--";
  if (backend.starts_with(kFamily)) backend.remove_prefix(kFamily.size());
  return std::string(backend);
}

std::string unalias_backend(std::string_view backend) {
  using Alias = std::pair<std::string_view, std::string_view>;
  constexpr std::array<Alias, 6> kAliases = {{{"native_autograd", "native"},
                                              {"native_custbw", "native"},
                                              {"native_compiled_autograd", "native_compiled"},
                                              {"native_compiled_xl", "native_compiled"},
                                              {"metal_autograd", "metal"},
                                              {"metal_custbw", "metal"}}};
  if (backend.starts_with("native_stablef_")) return "native";
  for (const auto& [alias, name] : kAliases) {
    if (backend == alias) return std::string(name);
  }
  return std::string(backend);
}

std::string compiled_backend(std::string_view device_kind) {
  return device_kind == "mps" ? "metal" : std::string(device_kind);
}

std::string scheduler_backend(std::string_view backend) {
  const std::string name(backend);
  return name == "ray" || name == "queued" ? name + "_compiled_steps" : name;
}

std::string canonical_backend(std::string_view backend, std::string_view device_kind) {
  const std::string name = scheduler_backend(unalias_backend(short_backend(backend)));
  return name == "auto" || name == "native_compiled" ? compiled_backend(device_kind) : name;
}

}  // namespace xlstm
